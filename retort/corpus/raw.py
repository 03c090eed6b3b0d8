"""The splits of a corpus before they are cleaned, and what the module of a kind of corpus has to do."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from retort.config import CorpusSection
from retort.corpus.cleaning import text_hash
from retort.data.parquet import ROW_GROUP_ROWS, iterate_table, write_table
from retort.data.references import corpus_table, references_of
from retort.data.tables import CORPUS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawCorpus:
    """Splits as they are read, ids counted from 0."""

    tables: dict[str, Path]
    """CORPUS table of each split: train, valid and the test sets, in the order of their description."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What ``corpus.json`` has of the texts that were read."""
    repeats: int = 0
    """Pairs of train that are in no table, because valid or a test set has them: duplicates to the cleaning table."""
    monolingual: int = 0
    """Last rows of train that are no training pairs, but text that is kept beside them."""
    text_key: Callable[[str], int] = text_hash
    """What two texts share of which one is held out and the other must not be in train."""


class CorpusKind(Protocol):
    """The functions of a kind's module, which ``CorpusSection.module`` names."""

    def read_corpus(self, settings: Any, staging: Path, mirror: Path | None, cache: Path) -> RawCorpus:
        """Read the corpus and write its raw tables into ``staging``.

        ``settings`` is the kind's section. ``mirror`` is a directory used instead of downloading, ``cache`` keeps
        downloads. Raises RetortError.
        """

    def describe_corpus(self, settings: Any, tables: Mapping[str, Path]) -> dict[str, Any]:
        """What ``corpus.json`` has of the clean ``tables``, by split."""


def kind_of(settings: CorpusSection) -> CorpusKind:
    """The module of a corpus's kind, imported by its name, so that only this kind's code can run."""
    module: Any = import_module(f"retort.corpus.{settings.module}")
    return module


def write_raw(staging: Path, split: str, pairs: Iterable[tuple[str, list[str]]]) -> Path:
    """Write sources with their references as the raw table of a split; returns its path."""
    path = staging / f"raw.{split}.parquet"
    log.info("read %s pairs of %s", f"{write_table(path, CORPUS, _parts(pairs)):,}", split)
    return path


def rows_of(parts: Iterable[pa.Table]) -> Iterator[tuple[str, list[str]]]:
    """Sources and references of all rows of parts of a CORPUS table."""
    for part in parts:
        yield from zip(part.column("source").to_pylist(), references_of(part), strict=True)


def parts_where(path: Path, mask: np.ndarray) -> Iterator[pa.Table]:
    """The rows of a CORPUS table for which ``mask`` is true, in parts, with their ids."""
    first = 0
    for part in iterate_table(path, CORPUS):
        yield part.filter(pa.array(mask[first : first + part.num_rows]))
        first += part.num_rows


def _parts(pairs: Iterable[tuple[str, list[str]]]) -> Iterator[pa.Table]:
    """Sources and their references as parts of a CORPUS table, numbered from 0; at least one part, so that an empty
    table is a table."""
    pairs, first = iter(pairs), 0
    while (rows := list(itertools.islice(pairs, ROW_GROUP_ROWS))) or first == 0:
        ids = range(first, first + len(rows))
        yield corpus_table(ids, [source for source, _ in rows], [references for _, references in rows])
        if not rows:
            return
        first += len(rows)
