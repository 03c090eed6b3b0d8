"""Monolingual text for pre-training: cleaned, encoded, and joined to blocks."""

from __future__ import annotations

import itertools
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retort.config import Cleaning
from retort.corpus.cleaning import PRETRAINING, READ, HeldOut, loss_warning, text_hash
from retort.data.parquet import ROW_GROUP_ROWS, iterate_table, write_table
from retort.data.spool import Spool
from retort.data.tables import CORPUS, ENCODED
from retort.data.vocabulary import Vocabulary
from retort.data.writing import count_words
from retort.errors import RetortError

log = logging.getLogger(__name__)


def prepare_monolingual(
    lines: Iterable[str],
    held_out: Iterable[Path],
    rules: Cleaning,
    *,
    vocabulary: Vocabulary,
    block_tokens: int,
    valid_blocks: int,
    output: Path,
    provenance: dict[str, Any],
) -> dict[str, int]:
    """Write the ENCODED tables train.parquet and valid.parquet, whose targets are their sources, into ``output``.

    Returns the number of lines read, kept, dropped by each reason, and cut. Lines that are a side of the ``held_out``
    CORPUS tables are dropped if the rules drop leaks. ``block_tokens`` is the longest block without eos;
    ``valid_blocks`` validation blocks are spread evenly over the text. Memory: 8 bytes per block; its tokens are mapped
    from a file in the directory for temporary files. Raises RetortError if there are no more blocks than those, or if
    that directory has no room.
    """
    counts: Counter[str] = Counter()
    left_out = HeldOut.read(held_out if rules.drop_leaks else ())
    encoded = _encoded(clean(lines, rules, held_out=left_out, counts=counts), vocabulary)
    spool, ends = Spool(np.int32, "encoded text, 4 bytes per token"), array("q", [0])
    for block in blocks(encoded, block_tokens, counts):
        spool.append(np.array(block))
        ends.append(ends[-1] + len(block))
    count = len(ends) - 1
    summary = ", ".join(f"{n:,} {reason}" for reason, n in counts.items())
    log.info("%s blocks of lines: %s", f"{count:,}", summary)
    if warning := loss_warning(PRETRAINING, counts):
        log.warning("%s", warning)
    if count <= valid_blocks:
        raise RetortError(
            f"pretraining: {count} blocks for {valid_blocks} of validation and at least one of training (lines: "
            f"{summary or 'none'}); give more text, or lower pretraining.valid_blocks or pretraining.block_tokens"
        )
    tokens, offsets = spool.mapped(), np.array(ends)
    validating = np.unique(np.linspace(0, count - 1, valid_blocks).astype(np.int64))
    for split, ids in (("train", np.setdiff1d(np.arange(count), validating)), ("valid", validating)):
        facts = {**provenance, "lines": dict(counts)}
        write_table(output / f"{split}.parquet", ENCODED, _parts(ids, tokens, offsets), provenance=facts)
    return dict(counts)


def both_sides(corpus: Path) -> Iterator[str]:
    """The sources of a CORPUS table, and then its targets; source-only rows have none."""
    for side in ("source", "target"):
        for part in iterate_table(corpus, CORPUS):
            yield from filter(None, part.column(side).to_pylist())


def clean(lines: Iterable[str], rules: Cleaning, held_out: HeldOut, counts: Counter[str]) -> Iterator[str]:
    """The lines that the rules keep; all are counted in ``counts``, as read and by reason. Memory: some 100 bytes per
    line, for its hash, if duplicates are dropped."""
    seen: set[int] = set()
    for line in lines:
        digest = text_hash(line)
        if not line:
            reason = "empty"
        elif rules.max_words is not None and count_words(line) > rules.max_words:
            reason = "too_long"
        elif rules.drop_duplicates and digest in seen:
            reason = "duplicate"
        elif held_out.holds(line, line):
            reason = "leak"
        else:
            reason = "kept"
        if rules.drop_duplicates:
            seen.add(digest)
        counts.update((READ, reason))
        if reason == "kept":
            yield line


def blocks(encoded: Iterable[list[int]], size: int, counts: Counter[str]) -> Iterator[list[int]]:
    """Consecutive lines, joined to blocks of at most ``size`` tokens; a longer line is cut, and counted."""
    block: list[int] = []
    for tokens in encoded:
        if len(tokens) > size:
            counts["cut"] += 1
        for start in range(0, len(tokens), size):
            piece = tokens[start : start + size]
            if len(block) + len(piece) > size:
                yield block
                block = []
            block = block + piece
    if block:
        yield block


def _encoded(lines: Iterator[str], vocabulary: Vocabulary) -> Iterator[list[int]]:
    while part := list(itertools.islice(lines, ROW_GROUP_ROWS)):
        yield from vocabulary.encode_target(part)


def _parts(ids: np.ndarray, tokens: np.ndarray, offsets: np.ndarray) -> Iterator[pa.Table]:
    """Parts of the table of some blocks; block i has the tokens from ``offsets[i]`` to ``offsets[i + 1]``."""
    for start in range(0, len(ids), ROW_GROUP_ROWS):
        part = ids[start : start + ROW_GROUP_ROWS]
        ends = np.cumsum(offsets[part + 1] - offsets[part])
        own = np.concatenate([tokens[offsets[i] : offsets[i + 1]] for i in part])
        rows = pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), own)
        yield pa.table({"id": part, "source": rows, "target": rows}, schema=ENCODED.schema)
