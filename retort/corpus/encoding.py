"""Corpus tables to tables of token ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from retort.tables import CORPUS, ENCODED, iterate_table, write_table
from retort.vocabulary import UNK, Vocabulary

_SIDES = ("source", "target")


def encode_corpus(
    corpus: Path | str, vocabulary: Vocabulary, output: Path | str, provenance: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Encode a CORPUS table into the ENCODED table ``output``, part by part; ids stay.

    Returns pairs, and for each side its tokens, unknown tokens and longest sequence.
    """
    facts: dict[str, Any] = {"pairs": 0}
    for side in _SIDES:
        facts[side] = {"tokens": 0, "unknown": 0, "longest": 0}

    def parts() -> Iterator[pa.Table]:
        for part in iterate_table(corpus, CORPUS):
            columns = {"id": part.column("id")}
            for side, encode in zip(_SIDES, (vocabulary.encode_source, vocabulary.encode_target), strict=True):
                tokens = pa.array(encode(part.column(side).to_pylist()), ENCODED.schema.field(side).type)
                _count(facts[side], tokens)
                columns[side] = tokens
            facts["pairs"] += part.num_rows
            yield pa.table(columns)

    write_table(output, ENCODED, parts(), {**(provenance or {}), "vocabulary": vocabulary.digest})
    return facts


def _count(facts: dict[str, int], tokens: pa.ListArray) -> None:
    flat = tokens.flatten()
    facts["tokens"] += len(flat)
    facts["unknown"] += pc.sum(pc.equal(flat, UNK)).as_py() or 0
    facts["longest"] = max(facts["longest"], pc.max(pc.list_value_length(tokens)).as_py() or 0)
