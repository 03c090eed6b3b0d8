"""Trained checkpoints as bundles, which ``retort.runtime`` opens without torch.

A bundle is a directory with the engine's files, the two models for sentencepiece, ``bundle.json`` and a card. It exists
only when it is complete and its outputs are what is promised of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from retort import __version__
from retort.config import NgramSearch, Search, SearchSection
from retort.data.files import move, temporary_path, write_bytes, write_json
from retort.data.ngrams import check_ngrams
from retort.data.provenance import file_digest
from retort.data.vocabulary import Vocabulary
from retort.engines import EXPORT_ENGINES, ExportEngine
from retort.errors import RetortError
from retort.export.base import Exporter, exporter_of
from retort.export.card import card
from retort.export.parity import Lines, compare
from retort.export.precision import Precision
from retort.export.shortlist import SIZE, Shortlist, build, facts_of, shortlist_table
from retort.filenames import MODEL_DESCRIPTION
from retort.models.checkpoint import Checkpoint, load_checkpoint, weights_digest
from retort.runtime import open_system
from retort.runtime.bundle import FORMAT, SEAL, seal_of
from retort.runtime.names import BUNDLE, CARD, NGRAMS
from retort.runtime.opening import check_described

MAX_BLEU_LOSS = 2.0
"""By more BLEU than this the outputs of a bundle may not fall behind torch's."""


@dataclass(frozen=True)
class ShortlistSource:
    """Where the training text of a shortlist is, and how many candidates a piece has."""

    path: Path | None = None
    """Encoded table, or directory of a run; None: the run that the checkpoint is in."""
    size: int = SIZE


@dataclass(frozen=True)
class Listed:
    """A shortlist."""

    shortlist: Shortlist
    facts: dict[str, Any]
    """What is known about it."""
    vocabulary: str
    """Digest of the vocabulary that its ids are of."""


def export_system(
    checkpoint: Path,
    output: Path,
    engine: ExportEngine | None = None,
    precision: Precision = "float32",
    search: Mapping[str, Any] | None = None,
    lines: Lines | None = None,
    shortlist: ShortlistSource | Listed | None = None,
    max_bleu_loss: float = MAX_BLEU_LOSS,
) -> dict[str, Any]:
    """Write the bundle of a checkpoint; returns the facts of its JSON file.

    ``engine`` None: the first that has a search of its objective. ``search`` None: the first one of the modes that it
    was trained for that the engine can run. ``lines`` are translated by torch in float32 and by the bundle; None leaves
    it unchecked. Raises RetortError, and writes nothing, if the engine cannot run the model, if ``output`` exists and
    is not empty, if an exact engine in float32 without a shortlist changes an output, or if the outputs of any bundle
    lose more than ``max_bleu_loss`` BLEU.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RetortError(f"{output}: exists already and is not an empty directory; give another --output")
    output = Path(os.path.realpath(output))
    check_described(checkpoint, [MODEL_DESCRIPTION])
    trained = load_checkpoint(checkpoint, torch.device("cpu"))
    if engine is None:
        able = [name for name in EXPORT_ENGINES if exporter_of(name).searches(trained.objective)]
        engine = able[0] if able else EXPORT_ENGINES[0]
    exporter = exporter_of(engine)
    kinds = exporter.searches(trained.objective)
    chosen = _search(trained, engine, kinds=kinds, search=search)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(output)
    temporary.mkdir()
    try:
        listed = _shortlisted(trained, shortlist) if shortlist else None
        facts = _write(
            trained,
            temporary,
            exporter=exporter,
            engine=engine,
            precision=precision,
            kinds=kinds,
            search=chosen,
            listed=listed,
        )
        facts["parity"] = (
            _checked(trained, temporary, facts=facts, search=chosen, lines=lines, most=max_bleu_loss) if lines else None
        )
        _write_facts(temporary, facts)
        write_bytes(temporary / CARD, card(facts, output.name).encode())
        if output.exists():
            # it may be where a shell is; without its facts it is no bundle yet
            for path in sorted(temporary.iterdir(), key=lambda path: path.name == BUNDLE):
                move(path, output / path.name)
        else:
            move(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return facts


def _search(trained: Checkpoint, engine: ExportEngine, kinds: tuple[str, ...], search: Mapping[str, Any] | None) -> Any:
    """The bundle's own search; it must need no teacher."""
    name, can = trained.objective.name, f"--format {engine} can decode it by {' or '.join(kinds)}"
    if not kinds:
        raise RetortError(
            f"{trained.directory}: a model trained as {name} decodes by "
            f"{' or '.join(type(trained.objective).searches())}, which --format {engine} cannot"
        )
    if search is not None:
        chosen = TypeAdapter(Search).validate_python(dict(search))
        if chosen.kind not in kinds:
            raise RetortError(f"{trained.directory}: search {chosen.kind}: {can}")
        if chosen.needs_teacher:
            raise RetortError(
                f"{trained.directory}: search {chosen.kind} has a teacher choose, which a bundle lacks; "
                f"{chosen.without_teacher}"
            )
        if chosen.counted is not None:
            raise RetortError(
                f"{trained.directory}: search {chosen.kind} needs a table of n-grams, which the workflow's rule "
                f"count_ngrams makes; name it as table, or set lm_weight to 0"
            )
        if isinstance(chosen, NgramSearch) and chosen.table is not None:
            check_ngrams(chosen.model_dump(), trained.vocabulary.digest)
        return chosen
    # the searches of modes that were not trained are not among them
    for usual in trained.objective.default_searches(trained.description["objective"]).values():
        if usual.kind in kinds and not usual.needs_teacher and usual.counted is None:
            return usual
    raise RetortError(f"{trained.directory}: none of its usual searches can be exported; {can}: give --search")


def list_candidates(table: Path, vocabulary: Vocabulary, size: int) -> Listed:
    """The shortlist of an encoded training text, for all models with its vocabulary."""
    shortlist = build(table, vocabulary, size)
    return Listed(shortlist, facts_of(shortlist, table, size), vocabulary.digest)


def _shortlisted(trained: Checkpoint, source: ShortlistSource | Listed) -> Listed:
    """The shortlist of a model. Raises RetortError for one of another vocabulary."""
    if isinstance(source, ShortlistSource):
        table = shortlist_table(source.path, trained.directory, trained.description.get("data"))
        return list_candidates(table, trained.vocabulary, source.size)
    if source.vocabulary != trained.vocabulary.digest:
        raise RetortError(f"{trained.directory}: the shortlist is of another vocabulary; make it from the model's text")
    return source


def _write(
    trained: Checkpoint,
    directory: Path,
    exporter: Exporter,
    engine: ExportEngine,
    precision: Precision,
    kinds: tuple[str, ...],
    search: Any,
    listed: Listed | None,
) -> dict[str, Any]:
    """Write a bundle without its measured parity; returns the facts of its JSON file."""
    config = trained.model.config
    trained.vocabulary.copy_to(directory)
    exported = _with_own_table(search, directory)
    engine_facts = exporter.write(
        trained.model, trained.vocabulary, directory, precision, shortlist=listed.shortlist if listed else None
    )
    facts = {
        "format": FORMAT,
        "engine": engine,
        "precision": precision,
        "family": trained.objective.family,
        "objective": trained.description["objective"],
        "search": exported.model_dump(),
        "searches": list(kinds),
        "model": {
            "max_length": config.max_length,
            "truncate_sources": config.truncate_sources,
            "target_size": trained.vocabulary.target_size,
            **engine_facts,
        },
        "shortlist": listed and listed.facts,
        "vocabulary": trained.vocabulary.digest,
        "checkpoint": {
            "weights": weights_digest(trained.directory),
            "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
            "data": trained.description.get("data"),
            "updates": trained.description.get("updates"),
            "provenance": trained.description.get("provenance"),
        },
        "parity": None,
        "versions": {"retort": __version__, **{name: version(name) for name in ("torch", *exporter.PACKAGES)}},
        "files": {path.name: file_digest(path) for path in sorted(directory.iterdir())},
    }
    _write_facts(directory, facts)
    return facts


def _write_facts(directory: Path, facts: dict[str, Any]) -> None:
    facts[SEAL] = seal_of(facts)
    write_json(directory / BUNDLE, facts)


def _with_own_table(search: Any, directory: Path) -> Any:
    """A search whose n-grams, if it has any, are in the bundle."""
    if not isinstance(search, NgramSearch) or search.table is None:
        return search
    write_bytes(directory / NGRAMS, Path(search.table).read_bytes())
    return search.model_copy(update={"table": NGRAMS})


def _checked(
    trained: Checkpoint, directory: Path, facts: dict[str, Any], search: SearchSection, lines: Lines, most: float
) -> dict[str, Any]:
    """How the bundle's outputs differ from those of torch. Raises RetortError if they must not, and one does."""
    exact = open_system(trained.directory, search.model_dump())
    parity, first = compare(exact, open_system(directory), lines)
    exporter = exporter_of(facts["engine"])
    is_exact = exporter.IS_EXACT and facts["precision"] == "float32" and facts["shortlist"] is None
    if first is not None and is_exact:
        raise RetortError(
            f"{trained.directory}: {exporter.TITLE} in float32 changes {parity['changed_outputs']} of "
            f"{parity['lines']} outputs, the first one for: {first}; nothing was written: this is a defect of the "
            f"export"
        )
    if parity["bleu_difference"] is not None and parity["bleu_difference"] < -most:
        raise RetortError(
            f"{trained.directory}: the bundle loses {-parity['bleu_difference']:.2f} BLEU on {parity['origin']}, more "
            f"than {most:g}; nothing was written. Use another --precision, no --shortlist, or allow it by "
            f"--max-bleu-loss"
        )
    return parity
