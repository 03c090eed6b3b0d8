"""From a configuration to the corpus tables: reading, carving, cleaning, counting.

Everything is first written into a staging directory beside the output; the tables move into the output together when
all of them are complete, and ``corpus.json``, which describes them, moves last. A failure leaves no output.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retort.config import Cleaning, GeneratedCorpus, TextCorpus, TextPair, TextSource
from retort.config.files import mirror_directory
from retort.corpus import carving, cleaning
from retort.corpus.language.generated import EntropyMeter, generate
from retort.corpus.language.grammar import grammar_of
from retort.corpus.sources import TextReader, in_mirror, read_pairs, readers
from retort.data.files import write_json
from retort.data.parquet import ROW_GROUP_ROWS, iterate_table, write_table
from retort.data.references import corpus_table, references_of
from retort.data.tables import CLEANING, CORPUS
from retort.errors import RetortError

log = logging.getLogger(__name__)

DESCRIPTION = "corpus.json"
TRAIN, VALID = "train", "valid"


def table_name(split: str) -> str:
    """File name of the corpus table of train, valid or a test set."""
    return f"{split}.parquet" if split in (TRAIN, VALID) else f"test.{split}.parquet"


def prepare_corpus(
    settings: GeneratedCorpus | TextCorpus,
    rules: Cleaning,
    output: Path | str,
    mirror: Path | str | None = None,
    cache: Path | str = "data",
    provenance: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the corpus tables in ``output``; returns what ``corpus.json`` says.

    ``mirror`` is a directory used instead of downloading (default: the configuration's, then the environment's),
    ``cache`` keeps downloads.
    Raises RetortError; then ``output`` holds nothing new.
    """
    output = Path(output)
    staging = output.with_name(f".{output.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        facts: dict[str, Any] = {"kind": settings.kind}
        if isinstance(settings, GeneratedCorpus):
            raw = _write_generated(settings, staging)
        else:
            chosen = mirror_directory(mirror, settings.mirror)
            raw, facts["texts"] = _write_texts(settings, staging, chosen, Path(cache))
        facts |= _clean(settings, rules, raw, staging, provenance or {})
        facts["provenance"] = provenance or {}
        write_json(staging / DESCRIPTION, facts)
        output.mkdir(parents=True, exist_ok=True)
        for name in [*map(table_name, raw), "cleaning.parquet", DESCRIPTION]:
            os.replace(staging / name, output / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return facts


# ---- reading --------------------------------------------------------------------------------------------------------


def _write_generated(settings: GeneratedCorpus, staging: Path) -> dict[str, Path]:
    splits = {
        split: _write_raw(staging, split, ((source, [target]) for source, target in pairs))
        for split, pairs in generate(settings).items()
    }
    return {split: splits[split] for split in (TRAIN, VALID, "test")}


def _write_texts(
    settings: TextCorpus, staging: Path, mirror: Path | None, cache: Path
) -> tuple[dict[str, Path], list[dict[str, Any]]]:
    """Raw tables of the splits, and the facts of every text that was read."""
    ready = _ready_splits(settings, mirror)
    splits = ready or {TRAIN: settings.train, **({VALID: settings.valid} if settings.valid else {}), **settings.tests}
    located = {split: readers(pair, None if ready else mirror, cache) for split, pair in splits.items()}
    raw, texts = {}, []
    for split, pairs in located.items():
        raw[split] = _write_raw(staging, split, read_pairs(pairs))
        for source, target in pairs:
            texts += [
                _text_facts(split, "source", source, bool(ready)),
                _text_facts(split, "references" if target.several else "target", target, bool(ready)),
            ]
    if settings.carve is not None and not ready:
        log.info("carving valid and test out of the training text")
        assigned = carving.carve(raw[TRAIN], settings.carve)
        whole = raw[TRAIN].rename(staging / "raw.whole.parquet")
        raw = {
            split: _write_raw(staging, split, _rows(whole, assigned == code))
            for code, split in enumerate(carving.SPLITS)
        }
    return raw, texts


def _ready_splits(settings: TextCorpus, mirror: Path | None) -> dict[str, TextPair]:
    """The carved splits as the mirror holds them; empty if it does not hold them all."""
    if mirror is None or settings.carve is None or not settings.carve.ready:
        return {}
    found: dict[str, TextPair] = {}
    for split, pair in settings.carve.ready.items():
        sides = {}
        for side in ("source", "target", "references"):
            texts = [_of_mirror(text, mirror) for text in getattr(pair, side)]
            if None in texts:
                return {}
            sides[side] = texts
        found[split] = TextPair(**sides)
    return {split: found[split] for split in carving.SPLITS}


def _of_mirror(text: TextSource, mirror: Path) -> TextSource | None:
    path = in_mirror(text, mirror)
    # under a name of its own the mirror holds the text that was taken from the file
    plain = {"layout": "lines", "field": None} if text.mirror_name else {}
    return None if path is None else text.model_copy(update={"location": str(path), **plain})


def _text_facts(split: str, side: str, reader: TextReader, ready: bool) -> dict[str, Any]:
    text = reader.text
    return {
        "split": split,
        "side": side,
        "location": text.path.name if ready else text.location,
        "read_from": "mirror" if ready else text.origin,
        "member": text.member,
        "column": text.column,
        "field": text.field or None,
        "sha256": reader.sha256,
        "checked": text.sha256 is not None,
        "lines": reader.lines,
    }


def _write_raw(staging: Path, split: str, pairs: Iterable[tuple[str, list[str]]]) -> Path:
    path = staging / f"raw.{split}.parquet"
    log.info("read %s pairs of %s", f"{write_table(path, CORPUS, _parts(pairs)):,}", split)
    return path


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


def _rows(path: Path, mask: np.ndarray) -> Iterator[tuple[str, list[str]]]:
    for part in _masked(path, mask):
        yield from zip(part.column("source").to_pylist(), references_of(part), strict=True)


def _masked(path: Path, mask: np.ndarray) -> Iterator[pa.Table]:
    first = 0
    for part in iterate_table(path, CORPUS):
        yield part.filter(pa.array(mask[first : first + part.num_rows]))
        first += part.num_rows


# ---- cleaning -------------------------------------------------------------------------------------------------------


def _clean(
    settings: GeneratedCorpus | TextCorpus,
    rules: Cleaning,
    raw: dict[str, Path],
    staging: Path,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Write the clean tables and the cleaning table; returns facts about them."""
    held_out = cleaning.HeldOut()
    pairs: dict[str, int] = {}
    digests: dict[str, str] = {}
    counted: dict[str, dict[str, int]] = {}
    entropies: dict[str, dict[str, Any]] = {}
    for split in [*(s for s in raw if s != TRAIN), TRAIN]:
        if split == TRAIN:
            draw = settings.train_pairs if isinstance(settings, TextCorpus) else None
            verdicts = cleaning.judge_training(raw[TRAIN], rules, held_out, draw, settings.seed)
        else:
            verdicts = cleaning.judge_held_out(raw[split])
        counted[split] = cleaning.counts(verdicts)
        if not counted[split][cleaning.KEPT]:
            raise RetortError(f"corpus: no pair of {split} is left after cleaning: {_said(counted[split])}")
        log.info("%s: %s", split, _said(counted[split]))
        meter = EntropyMeter(grammar_of(settings)) if isinstance(settings, GeneratedCorpus) else None
        watcher = _Watcher(None if split == TRAIN else held_out, meter)
        parts = watcher.watch(_masked(raw[split], cleaning.kept(verdicts)))
        pairs[split] = write_table(staging / table_name(split), CORPUS, parts, provenance)
        digests[split] = watcher.digest.hexdigest()
        if meter is not None:
            entropies[split] = meter.result()
    rows = [(split, reason, n) for split in raw for reason, n in counted[split].items()]
    columns = dict(zip(CLEANING.names, map(list, zip(*rows, strict=True)), strict=True))
    write_table(staging / "cleaning.parquet", CLEANING, pa.table(columns, schema=CLEANING.schema), provenance)
    facts: dict[str, Any] = {
        "splits": {split: {"pairs": pairs[split], "sha256": digests[split]} for split in raw},
        "cleaning": counted,
    }
    if entropies:
        per_train = {key: entropies[TRAIN][key] for key in ("nats_per_sentence", "nats_per_word")}
        facts["true_conditional_entropy"] = {**per_train, "splits": {split: entropies[split] for split in raw}}
    return facts


class _Watcher:
    """Looks at the parts of a split on their way into its table: digest, held-out texts, entropy."""

    def __init__(self, held_out: cleaning.HeldOut | None, meter: EntropyMeter | None):
        self.digest = hashlib.sha256()
        self.meter = meter
        self._held_out = held_out

    def watch(self, parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for part in parts:
            columns = (part.column("id").to_pylist(), part.column("source").to_pylist(), references_of(part))
            lines = ("\t".join([str(i), source, *texts]) + "\n" for i, source, texts in zip(*columns, strict=True))
            self.digest.update("".join(lines).encode())
            if self._held_out is not None:
                self._held_out.add(part)
            if self.meter is not None:
                self.meter.add(part.column("source").to_pylist())
            yield part


def _said(counted: dict[str, int]) -> str:
    return ", ".join(
        f"{n:,} {reason}" for reason, n in counted.items() if n or reason in (cleaning.READ, cleaning.KEPT)
    )
