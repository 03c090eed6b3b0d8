"""Parallel text from files and downloads: the splits of a text corpus, read or carved."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retort.config import TextCorpus, TextPair, TextSource
from retort.corpus import carving
from retort.corpus.cleaning import text_hash
from retort.corpus.raw import RawCorpus, parts_where, rows_of, write_raw
from retort.corpus.sources import TextReader, check_mirror, in_mirror, locate, mirrored, read_pairs, readers
from retort.data.parquet import iterate_table
from retort.data.tables import CORPUS
from retort.filenames import TRAIN, VALID

log = logging.getLogger(__name__)


def read_corpus(settings: TextCorpus, staging: Path, mirror: Path | None, cache: Path) -> RawCorpus:
    """Raw tables of the splits, and the facts of every text that was read."""
    if mirror is not None:
        check_mirror(settings)
    ready = _ready_splits(settings, mirror)
    splits = ready or {TRAIN: settings.train, **({VALID: settings.valid} if settings.valid else {}), **settings.tests}
    located = {split: readers(pair, None if ready else mirror, cache) for split, pair in splits.items()}
    tables, facts, repeats, monolingual = {}, [], 0, 0
    for split, pairs in located.items():
        tables[split] = write_raw(staging, split, read_pairs(pairs))
        for source, target in pairs:
            sides = {"source": source}
            if target is not None:
                sides["references" if target.several else "target"] = target
            for side, reader in sides.items():
                facts.append({"split": split, "side": side, **_text_facts(reader, bool(ready))})
    if settings.carve is not None and not ready:
        log.info("carving valid and test out of the training text")
        split_of = carving.carve(tables[TRAIN], settings.carve)
        whole = tables[TRAIN].rename(staging / "raw.whole.parquet")
        tables = {
            split: write_raw(staging, split, rows_of(parts_where(whole, split_of == code)))
            for code, split in enumerate(carving.SPLITS)
        }
        repeats = int((split_of == carving.REPEAT).sum())
    if settings.monolingual:
        alone = [TextReader(locate(text, mirror, cache)) for text in settings.monolingual]
        paired = tables[TRAIN].rename(staging / "raw.paired.parquet")
        sources = ((line, list[str]()) for reader in alone for line in reader)
        tables[TRAIN] = write_raw(staging, TRAIN, itertools.chain(rows_of(iterate_table(paired, CORPUS)), sources))
        facts += [{"split": TRAIN, "side": "monolingual", **_text_facts(reader, False)} for reader in alone]
        monolingual = sum(reader.lines for reader in alone)
    # carving has told pairs apart by more than their text, and lines that are added must be as different
    key = carving.sharing_hash if settings.carve is not None and settings.monolingual else text_hash
    return RawCorpus(tables, {"texts": facts}, repeats, monolingual, key)


def describe_corpus(settings: TextCorpus, tables: Mapping[str, Path]) -> dict[str, Any]:
    """Nothing is known of real text beyond its tables."""
    return {}


def _ready_splits(settings: TextCorpus, mirror: Path | None) -> dict[str, TextPair]:
    """The carved splits as the mirror holds them; empty if it does not hold them all."""
    if mirror is None or settings.carve is None:
        return {}
    splits: dict[str, TextPair] = {}
    for split, pair in settings.carve.ready.items():
        sides: dict[str, Any] = {}
        for side in ("source", "target", "references"):
            texts = [_of_mirror(text, mirror) for text in getattr(pair, side)]
            if None in texts:
                return {}
            sides[side] = texts
        splits[split] = TextPair(**sides)
    return {split: splits[split] for split in carving.SPLITS if split in splits}


def _of_mirror(text: TextSource, mirror: Path) -> TextSource | None:
    path = in_mirror(text, mirror)
    return None if path is None else mirrored(text).model_copy(update={"location": str(path)})


def _text_facts(reader: TextReader, ready: bool) -> dict[str, Any]:
    text = reader.text
    return {
        "location": text.path.name if ready else text.location,
        "read_from": "mirror" if ready else text.origin,
        "member": text.member,
        "column": text.column,
        "layout": text.layout,
        "field": text.field or None,
        "sha256": reader.sha256,
        "checked": text.sha256 is not None,
        "lines": reader.lines,
    }
