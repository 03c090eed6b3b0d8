"""From a configuration to the corpus tables: reading, cleaning, counting.

Everything is first written into a staging directory beside the output. The tables move into the output together when
all of them are complete; ``corpus.json``, which describes them, moves last. A failure leaves no output.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from retort.config import Cleaning, CorpusSection, Draw
from retort.config.files import mirror_directory
from retort.corpus import cleaning
from retort.corpus.downloads import CACHE
from retort.corpus.raw import RawCorpus, kind_of, parts_where
from retort.data.files import move, write_json
from retort.data.parquet import write_table
from retort.data.references import references_of
from retort.data.tables import CLEANING, CORPUS
from retort.errors import RetortError
from retort.filenames import CLEANING_TABLE, CORPUS_DESCRIPTION, TRAIN, VALID, table_name

log = logging.getLogger(__name__)


def prepare_corpus(
    settings: CorpusSection,
    rules: Cleaning,
    output: Path | str,
    *,
    mirror: Path | str | None = None,
    provenance: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the corpus tables in ``output``; returns the content of ``corpus.json``.

    ``mirror`` is a directory used instead of downloading (default: the configuration's, then the environment's).
    Raises RetortError; then ``output`` holds nothing new.
    """
    output, provenance = Path(output), provenance or {}
    staging = output.with_name(f".{output.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        kind = kind_of(settings)
        mirror = mirror_directory(mirror, settings.mirror_directory)
        raw = kind.read_corpus(settings, staging, mirror=mirror, cache=CACHE)
        counts = _clean(raw, rules, draw=settings.draw, staging=staging, provenance=provenance)
        clean = {split: staging / table_name(split) for split in raw.tables}
        facts = {
            "kind": settings.kind,
            **raw.facts,
            **counts,
            **kind.describe_corpus(settings, clean),
            "provenance": provenance,
        }
        write_json(staging / CORPUS_DESCRIPTION, facts)
        output.mkdir(parents=True, exist_ok=True)
        for name in [*map(table_name, raw.tables), CLEANING_TABLE, CORPUS_DESCRIPTION]:
            move(staging / name, output / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return facts


def _clean(
    corpus: RawCorpus, rules: Cleaning, draw: Draw | None, staging: Path, provenance: dict[str, Any]
) -> dict[str, Any]:
    """Write the clean tables and the cleaning table; returns facts about them."""
    raw = corpus.tables
    held_out = cleaning.HeldOut(corpus.text_key)
    facts: dict[str, dict[str, Any]] = {}
    counts: dict[str, dict[str, int]] = {}
    # train comes last, because what valid and tests hold must not be in it
    for split in [*(s for s in raw if s != TRAIN), TRAIN]:
        if split == TRAIN:
            verdicts = cleaning.judge_training(raw[TRAIN], rules, held_out, draw=draw, monolingual=corpus.monolingual)
        else:
            verdicts = cleaning.judge_held_out(raw[split])
        counts[split] = cleaning.counts(verdicts, corpus.repeats if split == TRAIN else 0)
        if not counts[split][cleaning.KEPT]:
            raise RetortError(f"corpus: no pair of {split} is left after cleaning: {_in_words(counts[split])}")
        log.info("%s: %s", split, _in_words(counts[split]))
        if warning := cleaning.loss_warning(split, counts[split]):
            log.warning("%s", warning)
        digest = hashlib.sha256()
        clean = parts_where(raw[split], cleaning.kept(verdicts))
        parts = _watched(clean, digest, None if split == TRAIN else partial(held_out.add, split=split))
        pairs = write_table(staging / table_name(split), CORPUS, parts, provenance=provenance)
        facts[split] = {"pairs": pairs, "sha256": digest.hexdigest()}
    for test, sources in held_out.shared(VALID).items():
        log.warning(
            "valid: %s sources are in test set %s, too; checkpoints are chosen on them: take them out", sources, test
        )
    rows = [
        {"split": split, "reason": reason, "pairs": pairs} for split in raw for reason, pairs in counts[split].items()
    ]
    table = CLEANING.of_rows(rows)
    write_table(staging / CLEANING_TABLE, CLEANING, table, provenance=provenance)
    return {"splits": {split: facts[split] for split in raw}, "cleaning": counts}


def _watched(
    parts: Iterable[pa.Table], digest: hashlib._Hash, hold_out: Callable[[pa.Table], None] | None
) -> Iterator[pa.Table]:
    """The parts of a split on their way into its table; their texts go into ``digest``, and are held out."""
    for part in parts:
        digest.update(text_of(part).encode())
        if hold_out is not None:
            hold_out(part)
        yield part


def text_of(part: pa.Table) -> str:
    """The ids, sources and references of a CORPUS table: what corpus.json has the SHA-256 of."""
    columns = (part.column("id").to_pylist(), part.column("source").to_pylist(), references_of(part))
    return "".join("\t".join([str(i), source, *texts]) + "\n" for i, source, texts in zip(*columns, strict=True))


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in counts.items() if n or reason in (cleaning.READ, cleaning.KEPT))
