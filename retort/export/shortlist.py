"""Lexical shortlists: for each source piece the target pieces that may translate it.

A decoder that scores a few hundred pieces instead of the whole vocabulary reads less of its output projection. The
candidates of a piece are those with the highest t(target | source) of IBM model 1 (Brown et al. 1993, section 4.2),
estimated by EM on the training text. Counting co-occurrences alone would prefer the pieces that are frequent next to
anything; in the model, a null word (eos) and the pieces that explain them better take their counts. An aligner such as
eflomal would be one dependency more, and its alignments are only needed for their counts.

Shape letters: e encoded source tokens of some lines (flat), f target tokens (flat), p pairs of both within a line, k
distinct pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retort.data.parquet import iterate_table, read_provenance
from retort.data.provenance import file_digest
from retort.data.runs import run_directory
from retort.data.tables import ENCODED
from retort.data.vocabulary import BLANK, EOS, UNK, Vocabulary
from retort.errors import RetortError

SIZE = 50
"""Candidates per source piece, and frequent pieces, unless the user says otherwise."""
ITERATIONS = 5
"""Of EM; t(target | source) changes little after that."""
LINES = 200_000
"""Lines that are aligned at most, evenly spread over those of the table that have a target."""
CHUNK = 5_000
"""Lines that are aligned at once: some millions of pairs."""


@dataclass(frozen=True)
class Shortlist:
    """Candidates among the target ids; special ids other than unk are left to the engine."""

    frequent: np.ndarray
    """Candidates for every source, ascending."""
    by_source: list[np.ndarray]
    """Candidates of each source id, the most probable first."""

    def of(self, source: Sequence[int]) -> np.ndarray:
        """Candidates of a source, ascending."""
        return np.unique(np.concatenate([self.frequent, *(self.by_source[i] for i in source)]))


class _Chunk:
    """Pairs of the tokens of some lines: each target token with each token of its source and with the null word."""

    def __init__(self, table: pa.Table, target_size: int) -> None:
        source_e, width = _flat(table.column("source"))
        target_f, counts = _flat(table.column("target"))
        source_e = np.insert(source_e, np.cumsum(width), EOS)
        width += 1
        width_f = np.repeat(width, counts)
        start_f = np.repeat(np.cumsum(width) - width, counts)
        self.token_p = np.repeat(np.arange(len(target_f)), width_f)
        """Number of the target token, which its pairs share."""
        place_p = np.arange(len(self.token_p)) - np.repeat(np.cumsum(width_f) - width_f - start_f, width_f)
        self.key_p = source_e[place_p] * target_size + target_f[self.token_p]
        """The two ids of a pair as one number."""


def shortlist_table(given: Path | None, checkpoint: Path, data: str | None) -> Path:
    """Encoded training text: ``given``, or that of the run ``given``, or of the run that ``checkpoint`` is in.

    ``data`` is the text that the checkpoint was trained on; a run's distilled text is taken if it says so.
    """
    if given is not None and given.is_file():
        return given
    run = given or run_directory(checkpoint)
    names = ["encoded/train.parquet", *(["distilled/encoded.parquet"] if data == "distilled" else [])]
    table = run / names[-1]
    if not table.is_file():
        raise RetortError(
            f"{table}: not found; --shortlist needs the encoded training text of the checkpoint: give that table, or "
            f"the directory of the run"
        )
    return table


def build(table: Path, vocabulary: Vocabulary, size: int) -> Shortlist:
    """The ``size`` best candidates of each source piece, and the ``size`` most frequent target pieces.

    Raises RetortError if the table was encoded with another vocabulary, or has no targets.
    """
    if read_provenance(table).get("vocabulary") not in (None, vocabulary.digest):
        raise RetortError(f"{table}: encoded with another vocabulary than the checkpoint's; give the run it is from")
    key_k, count_k = _expected_counts(_spread(table), vocabulary.target_size)
    source_k, target_k = np.divmod(key_k, vocabulary.target_size)
    frequency = np.bincount(target_k, count_k, vocabulary.target_size)
    frequency[: BLANK + 1] = 0
    frequent = np.argsort(-frequency, kind="stable")[: min(size, np.count_nonzero(frequency))]
    # the expected counts of a source piece are in the order of its probabilities
    order = np.lexsort((-count_k, source_k))
    order = order[(target_k[order] > BLANK) & (count_k[order] > 0)]
    starts = np.searchsorted(source_k[order], np.arange(vocabulary.source_size + 1))
    by_source = [target_k[order[a : min(b, a + size)]] for a, b in pairwise(starts)]
    by_source[EOS] = by_source[EOS][:0]
    return Shortlist(np.union1d(frequent, [UNK]), by_source)


def facts_of(shortlist: Shortlist, table: Path, size: int) -> dict[str, Any]:
    """What a bundle says: where the list is from and what it holds of the run's validation text, null without one."""
    valid = table.parent.parent / "encoded" / "valid.parquet"
    found = total = candidates = lines = 0
    if valid.is_file():
        for part in iterate_table(valid, ENCODED):
            for source, target in zip(part["source"].to_pylist(), part["target"].to_pylist(), strict=True):
                allowed = shortlist.of(source)
                found += int(np.isin(target, allowed).sum())
                total, candidates, lines = total + len(target), candidates + len(allowed), lines + 1
    return {
        "statistic": f"IBM model 1, {ITERATIONS} iterations",
        "size": size,
        "table": file_digest(table),
        "recall": found / total if total else None,
        "candidates_per_sentence": candidates / lines if lines else None,
    }


def _expected_counts(lines: pa.Table, target_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs as keys, ascending, and how often IBM model 1 expects the one to be generated by the other."""
    key_k = np.unique(np.concatenate([np.unique(chunk.key_p) for chunk in _chunks(lines, target_size)]))
    source_k = key_k // target_size
    probability_k, count_k = np.ones(len(key_k)), np.zeros(len(key_k))
    for _ in range(ITERATIONS):
        count_k = np.zeros(len(key_k))
        for chunk in _chunks(lines, target_size):
            place_p = np.searchsorted(key_k, chunk.key_p)
            probability_p = probability_k[place_p]
            total_f = np.bincount(chunk.token_p, probability_p)
            count_k += np.bincount(place_p, probability_p / total_f[chunk.token_p], len(key_k))
        # pairs that others explain better underflow to 0, and so may a rare source piece as a whole
        probability_k = np.maximum(count_k / np.maximum(np.bincount(source_k, count_k), 1e-300)[source_k], 1e-300)
    return key_k, count_k


def _chunks(lines: pa.Table, target_size: int) -> Iterator[_Chunk]:
    """All lines; made again in each pass, because the pairs take much more memory than the lines."""
    for start in range(0, max(1, len(lines)), CHUNK):
        yield _Chunk(lines.slice(start, CHUNK), target_size)


def _spread(table: Path) -> pa.Table:
    """Lines of a table that have a target, evenly spread."""
    lines = sum(np.count_nonzero(_lengths(part)) for part in iterate_table(table, ENCODED))
    if not lines:
        raise RetortError(f"{table}: holds no targets; a shortlist needs training text that has them")
    step = -(-lines // LINES)
    parts, seen = [], 0
    for part in iterate_table(table, ENCODED):
        rows = np.flatnonzero(_lengths(part))
        parts.append(part.take(rows[-seen % step :: step]))
        seen += len(rows)
    return pa.concat_tables(parts)


def _lengths(part: pa.Table) -> np.ndarray:
    """Tokens of each target."""
    return part.column("target").combine_chunks().value_lengths().to_numpy()


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all rows, and how many each row has."""
    combined = column.combine_chunks()
    return combined.flatten().to_numpy().astype(np.int64), combined.value_lengths().to_numpy().astype(np.int64)
