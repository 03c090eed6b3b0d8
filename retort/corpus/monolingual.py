"""Monolingual text for pre-training: cleaned, encoded, and joined to blocks of lines."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retort.config import Cleaning
from retort.corpus.cleaning import HeldOut, text_hash
from retort.data.parquet import ROW_GROUP_ROWS, iterate_table, write_table
from retort.data.tables import CORPUS, ENCODED
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError

log = logging.getLogger(__name__)


def prepare_monolingual(
    lines: Iterable[str],
    held_out: Iterable[Path],
    rules: Cleaning,
    vocabulary: Vocabulary,
    block_tokens: int,
    valid_blocks: int,
    output: Path,
    provenance: dict[str, Any],
) -> dict[str, int]:
    """Write ENCODED tables train.parquet and valid.parquet, whose sources are their targets, into ``output``; returns
    what became of how many lines.

    Lines that stand on a side of the ``held_out`` CORPUS tables are left out if the rules drop leaks; the validation
    blocks are spread evenly over the text. Raises RetortError if there are no more blocks than those.
    """
    found = HeldOut()
    for path in held_out if rules.drop_leaks else ():
        for part in iterate_table(path, CORPUS):
            found.add(part)
    counts: Counter[str] = Counter()
    made = list(blocks(_encoded(clean(lines, rules, found, counts), vocabulary), block_tokens, counts))
    said = ", ".join(f"{n:,} {reason}" for reason, n in counts.items())
    log.info("%s blocks of lines: %s", f"{len(made):,}", said)
    if len(made) <= valid_blocks:
        raise RetortError(
            f"pretraining: {len(made)} blocks for {valid_blocks} of validation and at least one of training (lines: "
            f"{said or 'none'}); give more text, or lower pretraining.valid_blocks or pretraining.block_tokens"
        )
    chosen = set(np.linspace(0, len(made) - 1, valid_blocks).astype(int).tolist())
    for split in ("train", "valid"):
        ids = [i for i in range(len(made)) if (i in chosen) == (split == "valid")]
        write_table(output / f"{split}.parquet", ENCODED, _parts(ids, made), {**provenance, "lines": dict(counts)})
    return dict(counts)


def both_sides(corpus: Path) -> Iterator[str]:
    """The sources of a CORPUS table, and then its targets."""
    for side in ("source", "target"):
        for part in iterate_table(corpus, CORPUS):
            yield from part.column(side).to_pylist()


def clean(lines: Iterable[str], rules: Cleaning, held_out: HeldOut, counts: Counter[str]) -> Iterator[str]:
    """The lines that the rules keep; ``counts`` tells the rest. Memory: a hash a line, if duplicates are dropped."""
    seen: set[int] = set()
    for line in lines:
        digest = text_hash(line)
        if not line:
            reason = "empty"
        elif rules.max_words is not None and len(line.split()) > rules.max_words:
            reason = "too_long"
        elif rules.drop_duplicates and digest in seen:
            reason = "duplicate"
        elif held_out.holds(line, line):
            reason = "leak"
        else:
            reason = "kept"
        if rules.drop_duplicates:
            seen.add(digest)
        counts[reason] += 1
        if reason == "kept":
            yield line


def blocks(encoded: Iterable[list[int]], size: int, counts: Counter[str]) -> Iterator[list[int]]:
    """Consecutive lines, joined to at most ``size`` tokens; a longer line is cut into pieces of that, and counted."""
    waiting: list[int] = []
    for tokens in encoded:
        if len(tokens) > size:
            counts["cut"] += 1
        for start in range(0, len(tokens), size):
            piece = tokens[start : start + size]
            if len(waiting) + len(piece) > size:
                yield waiting
                waiting = []
            waiting = waiting + piece
    if waiting:
        yield waiting


def _encoded(lines: Iterator[str], vocabulary: Vocabulary) -> Iterator[list[int]]:
    while part := list(itertools.islice(lines, ROW_GROUP_ROWS)):
        yield from vocabulary.encode_target(part)


def _parts(ids: list[int], made: list[list[int]]) -> Iterator[pa.Table]:
    for start in range(0, len(ids), ROW_GROUP_ROWS):
        part = ids[start : start + ROW_GROUP_ROWS]
        tokens = pa.array([made[i] for i in part], ENCODED.schema.field("source").type)
        yield pa.table({"id": part, "source": tokens, "target": tokens}, schema=ENCODED.schema)
