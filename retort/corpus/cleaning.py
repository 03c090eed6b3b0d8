"""Which training pairs are dropped, and why; every drop is counted.

Memory is bounded by the number of pairs, not by their text: 8 bytes of hash (16 with monolingual text) and two bytes of
verdicts per training pair (some 40 bytes per pair while the hashes are sorted), and 16 bytes of hash per held-out pair.
Two different texts share a hash with a probability of about n * n / 2 ** 65: one in two million for 4 million pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from retort.config import Cleaning, Draw
from retort.data.parquet import iterate_table, open_table
from retort.data.references import references_of
from retort.data.tables import CORPUS
from retort.data.writing import count_words, length_ratio

PRETRAINING = "pretraining"
"""In the place of a split: monolingual text, which is counted in lines."""
KEPT = "kept"
READ = "read"
REASONS = (KEPT, "empty", "too_long", "ratio", "duplicate", "leak", "not_drawn")
"""Verdicts, by the first reason that applies. not_drawn: clean, but beyond corpus.train_pairs."""
_CODE = {reason: code for code, reason in enumerate(REASONS)}
_LOSS = 0.1
"""Share of a split above which what cleaning takes is warned about."""
_DROPPING = frozenset(REASONS) - {KEPT, "not_drawn"}

Verdicts = np.ndarray
"""One code of ``REASONS`` per row, uint8."""


def text_hash(*texts: str) -> int:
    """64-bit hash of texts. A run of white space counts as one space, as it does for a vocabulary."""
    lines = "\n".join(" ".join(text.split()) for text in texts)
    return int.from_bytes(hashlib.blake2b(lines.encode(), digest_size=8).digest(), "little")


def first_of_each(hashes: np.ndarray) -> np.ndarray:
    """Which of these hashes are there for the first time, as booleans."""
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return first


class HeldOut:
    """Hashes of the texts of valid and test, which train must not contain. ``key`` hashes a text."""

    def __init__(self, key: Callable[[str], int] = text_hash) -> None:
        self._key = key
        self._sources: dict[str, set[int]] = {}
        self._targets: set[int] = set()

    @classmethod
    def read(cls, paths: Iterable[Path]) -> HeldOut:
        """The texts of CORPUS tables."""
        result = cls()
        for path in paths:
            for part in iterate_table(path, CORPUS):
                result.add(part)
        return result

    def add(self, part: pa.Table, split: str = "") -> None:
        """Add the pairs of a part of the CORPUS table of a split."""
        self._sources.setdefault(split, set()).update(map(self._key, part.column("source").to_pylist()))
        self._targets.update(self._key(text) for references in references_of(part) for text in references)

    def holds(self, source: str, target: str) -> bool:
        """Whether the source is a held-out source, or the target a held-out target."""
        key = self._key(source)
        return any(key in sources for sources in self._sources.values()) or self._key(target) in self._targets

    def shared(self, split: str) -> dict[str, int]:
        """How many different sources of a split each other one has, too; none are left out."""
        own = self._sources.get(split, set())
        shared = {other: len(own & sources) for other, sources in self._sources.items() if other != split}
        return {other: number for other, number in shared.items() if number}


def judge_held_out(path: Path) -> Verdicts:
    """Verdicts on a valid or test set: only pairs with an empty side are dropped."""
    verdicts = [_empty_sides(part) for part in iterate_table(path, CORPUS)]
    return np.concatenate(verdicts) if verdicts else np.zeros(0, np.uint8)


def judge_training(
    path: Path, rules: Cleaning, held_out: HeldOut, draw: Draw | None = None, monolingual: int = 0
) -> Verdicts:
    """Verdicts on the training pairs in the CORPUS table at ``path``; ``draw`` keeps some of the clean ones.

    The last ``monolingual`` rows are beside them: none is drawn, and one that has the source of an earlier row that is
    kept is a duplicate.
    """
    rows = open_table(path, CORPUS).metadata.num_rows
    pairs = slice(rows - monolingual)
    verdicts = np.zeros(rows, np.uint8)
    hashes = np.zeros(rows - monolingual, np.uint64)
    sources = np.zeros(rows if monolingual else 0, np.uint64)
    leaks = np.zeros(rows, bool)
    first = 0
    for part in iterate_table(path, CORPUS):
        verdicts[first : first + part.num_rows] = _empty_sides(part)
        for row, (source, target) in enumerate(_pairs(part), start=first):
            if verdicts[row] == _CODE[KEPT]:
                # source-only text has a length, and no ratio
                verdicts[row] = _CODE[length_verdict(source, target or source, rules)]
            if row < len(hashes):
                hashes[row] = text_hash(source, target)
            if monolingual:
                sources[row] = text_hash(source)
            leaks[row] = rules.drop_leaks and held_out.holds(source, target)
        first += part.num_rows
    if rules.drop_duplicates:
        _drop(verdicts[pairs], "duplicate", _repeats(hashes, verdicts[pairs]))
    _drop(verdicts[pairs], "leak", leaks[pairs])
    clean = np.flatnonzero(kept(verdicts[pairs]))
    if draw is not None and draw.pairs < len(clean):
        verdicts[clean] = _CODE["not_drawn"]
        verdicts[np.random.default_rng(draw.seed).choice(clean, size=draw.pairs, replace=False)] = _CODE[KEPT]
    if rules.drop_duplicates and monolingual:
        _drop(verdicts[len(hashes) :], "duplicate", _repeats(sources, verdicts)[len(hashes) :])
    _drop(verdicts, "leak", leaks)
    return verdicts


def _repeats(hashes: np.ndarray, verdicts: Verdicts) -> np.ndarray:
    """Which rows that are kept so far have the hash of an earlier one, as booleans."""
    repeats = np.zeros(len(hashes), bool)
    candidates = np.flatnonzero(kept(verdicts))
    repeats[candidates] = ~first_of_each(hashes[candidates])
    return repeats


def _drop(verdicts: Verdicts, reason: str, rows: np.ndarray) -> None:
    """Give the rows that are kept so far another verdict, in place."""
    verdicts[rows & kept(verdicts)] = _CODE[reason]


def counts(verdicts: Verdicts, repeats: int = 0) -> dict[str, int]:
    """Number of pairs read, kept, and dropped by each reason; ``repeats`` more were dropped as duplicates before."""
    pairs = np.bincount(verdicts, minlength=len(REASONS))
    pairs[_CODE["duplicate"]] += repeats
    return {READ: int(pairs.sum()), **{reason: int(pairs[code]) for reason, code in _CODE.items()}}


def loss_warning(split: str, counts: Mapping[str, int]) -> str | None:
    """A warning where cleaning takes more than a tenth of a split, or of the text to pre-train on; what the draw leaves
    out is no loss."""
    dropped = {reason: n for reason, n in counts.items() if reason in _DROPPING and n}
    share = sum(dropped.values()) / max(1, counts[READ])
    if share <= _LOSS:
        return None
    most = max(dropped, key=lambda reason: dropped[reason])
    unit = "lines" if split == PRETRAINING else "pairs"
    return f"{split}: cleaning takes {100 * share:.0f} % of the {unit}, most as {most}; see docs/corpus.md"


def kept(verdicts: Verdicts) -> np.ndarray:
    """Which rows are kept, as booleans."""
    return verdicts == _CODE[KEPT]


def length_verdict(source: str, target: str, rules: Cleaning) -> str:
    """One of ``REASONS``: what the lengths of a pair say."""
    lengths = count_words(source), count_words(target)
    if rules.max_words is not None and max(lengths) > rules.max_words:
        return "too_long"
    if rules.max_ratio is not None and length_ratio(*lengths) > rules.max_ratio:
        return "ratio"
    return KEPT


def _empty_sides(part: pa.Table) -> np.ndarray:
    sides = zip(_pairs(part), _source_only(part), strict=True)
    empty = [not source or not (target or alone) for (source, target), alone in sides]
    return np.where(np.array(empty, bool), _CODE["empty"], _CODE[KEPT]).astype(np.uint8)


def _source_only(part: pa.Table) -> np.ndarray:
    return np.array([references == [] for references in part.column("references").to_pylist()], bool)


def _pairs(part: pa.Table) -> Iterable[tuple[str, str]]:
    return zip(part.column("source").to_pylist(), part.column("target").to_pylist(), strict=True)
