"""Corpus tables to tables of token ids, and statistics of their lengths."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from retort.data.parquet import iterate_table, write_table
from retort.data.tables import CORPUS, ENCODED
from retort.data.vocabulary import UNK, Vocabulary

Facts = dict[str, dict[str, int]]
"""For each side: texts, tokens, unknown tokens, the longest text, and texts over the length that models allow."""
_SIDES = ("source", "target")
_UNKNOWN = 0.001
"""Share of unknown target tokens above which there is a warning."""


def encode_corpus(
    corpus: Path | str,
    vocabulary: Vocabulary,
    output: Path | str,
    *,
    provenance: dict[str, Any] | None = None,
    longest: int | None = None,
    truncate_sources: bool = False,
) -> Facts:
    """Encode a CORPUS table into the ENCODED table ``output``, part by part; ids are kept.

    ``longest`` is the number of tokens that models allow, without eos; with ``truncate_sources`` sources are cut to it.
    The facts are of the texts before they are cut.
    """
    facts = _no_facts()
    cut = longest if truncate_sources else None
    parts = (
        part.set_column(1, "source", pc.list_slice(part["source"], 0, cut).cast(part["source"].type)) if cut else part
        for part in _encoded_parts(corpus, vocabulary, facts, longest=longest)
    )
    texts = {"vocabulary": vocabulary.digest, "sources": sources_digest(corpus)}
    write_table(output, ENCODED, parts, provenance={**(provenance or {}), **texts})
    return facts


def sources_digest(corpus: Path | str) -> str:
    """SHA-256 in hex of the ids and sources of a CORPUS table, whatever else is in the file."""
    digest = hashlib.sha256()
    for part in iterate_table(corpus, CORPUS):
        pairs = zip(part["id"].to_pylist(), part["source"].to_pylist(), strict=True)
        digest.update("".join(f"{i}\t{source}\n" for i, source in pairs).encode())
    return digest.hexdigest()


def count_tokens(corpus: Path | str, vocabulary: Vocabulary, longest: int | None = None) -> Facts:
    """The facts of a CORPUS table, without its encoding."""
    facts = _no_facts()
    for _ in _encoded_parts(corpus, vocabulary, facts, longest=longest):
        pass
    return facts


def unknown_warning(split: str, target: Mapping[str, int]) -> str | None:
    """A warning where many target tokens are unknown: no output holds them."""
    share = target["unknown"] / max(1, target["tokens"])
    if share <= _UNKNOWN:
        return None
    return (
        f"{split}: {100 * share:.2g} % of the target tokens are unknown, and no output holds them; turn on "
        f"vocabulary.byte_fallback, or raise vocabulary.character_coverage where the references have these characters"
    )


def no_counts() -> dict[str, int]:
    """The facts of no text."""
    return dict.fromkeys(("texts", "tokens", "unknown", "longest", "over_length"), 0)


def counted_targets(parts: Iterable[pa.Table], counts: dict[str, int], longest: int | None) -> Iterator[pa.Table]:
    """These parts of an ENCODED table; the facts of their targets are added to ``counts`` as they pass."""
    for part in parts:
        _count(counts, part["target"].combine_chunks(), longest)
        yield part


def _no_facts() -> Facts:
    return {side: no_counts() for side in _SIDES}


def _encoded_parts(corpus: Path | str, vocabulary: Vocabulary, facts: Facts, longest: int | None) -> Iterator[pa.Table]:
    """Parts of the ENCODED table; ``facts`` are added to."""
    for part in iterate_table(corpus, CORPUS):
        columns = {"id": part.column("id")}
        for side, encode in zip(_SIDES, (vocabulary.encode_source, vocabulary.encode_target), strict=True):
            columns[side] = pa.array(encode(part.column(side).to_pylist()), ENCODED.schema.field(side).type)
            _count(facts[side], columns[side], longest)
        yield pa.table(columns)


def _count(facts: dict[str, int], tokens: pa.ListArray, longest: int | None) -> None:
    flat, lengths = tokens.flatten(), pc.list_value_length(tokens)
    facts["texts"] += len(tokens)
    facts["tokens"] += len(flat)
    facts["unknown"] += pc.sum(pc.equal(flat, UNK)).as_py() or 0
    facts["longest"] = max(facts["longest"], pc.max(lengths).as_py() or 0)
    if longest is not None:
        facts["over_length"] += pc.sum(pc.greater(lengths, longest)).as_py() or 0
