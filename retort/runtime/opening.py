"""Opens whatever a directory holds with the engine that runs it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from retort.data.files import read_text
from retort.errors import RetortError
from retort.filenames import MODEL_DESCRIPTION, WEIGHTS
from retort.runtime.bundle import read_bundle, read_facts
from retort.runtime.names import BUNDLE, ENCODER, MODEL
from retort.runtime.system import System

PARTS = (WEIGHTS, "model.bin", MODEL, ENCODER)
"""Weights and graphs."""
_SHOWN = 200


def open_system(
    directory: Path | str,
    search: Mapping[str, Any] | None = None,
    threads: int = 1,
    precision: str | None = None,
    teacher: Path | None = None,
    device: str | None = None,
    at_once: int = 1,
) -> System:
    """Load a bundle or a trained checkpoint.

    ``search`` is a complete section of the configuration; None: the one that a bundle was
    exported with, or the plainest of a checkpoint's objective. A bundle
    has n-grams for a search that names none, if it was exported with some.
    ``precision`` (float32 or bfloat16), ``teacher``, which scores candidates, and ``device`` (cpu or cuda; None: cuda
    if there is one) are for checkpoints alone; a bundle has the precision that it was exported with, and runs on the
    CPU. ``at_once``: calls from several threads that CTranslate2 decodes at the same time, with ``threads`` each; the
    other engines decode as many as there are. Raises RetortError, naming the file, for what cannot be loaded.
    """
    directory = Path(directory)
    check_described(directory)
    if not (directory / BUNDLE).exists():
        torch_engine = _engine("torch", directory)
        return torch_engine.TorchSystem(  # type: ignore[no-any-return]
            directory, search, threads, precision or "float32", teacher, device
        )
    bundle = read_bundle(directory)
    if teacher is not None:
        raise RetortError(f"{directory}: an exported system asks no teacher; leave it out, or give the checkpoint")
    if precision not in (None, bundle.facts["precision"]):
        raise RetortError(
            f"{directory}: exported in {bundle.facts['precision']}, which {precision} cannot change; leave it out"
        )
    if device not in (None, "cpu"):
        raise RetortError(f"{directory}: an exported system runs on the CPU, not on {device}; give the checkpoint")
    engine = _engine(bundle.facts["engine"], directory)
    try:
        chosen = bundle.with_ngrams(search or bundle.search)
        return engine.open_bundle(bundle, chosen, threads, at_once)  # type: ignore[no-any-return]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, ModuleNotFoundError) as error:
        raise RetortError(
            f"{directory / BUNDLE}: does not describe its files ({type(error).__name__}: {str(error)[:_SHOWN]}); "
            f"export the system again"
        ) from None


def check_teacher(system: System, teacher: Path | None) -> None:
    """Raises RetortError for a teacher that the search of a system does not ask."""
    if teacher is not None and not system.asks_teacher:
        kind = system.search["kind"]
        raise RetortError(f"{teacher}: the search {kind} asks no teacher; leave it out, or choose one that does")


def _engine(name: str, directory: Path) -> Any:
    """The module of an engine. Raises RetortError if a package that it needs is not installed."""
    try:
        return import_module(f"retort.runtime.{name}_engine")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("retort"):
            raise
        remedy = "export it, or install" if name == "torch" else "install"
        extra = "export" if name == "torch" else "serve"
        raise RetortError(
            f"{directory}: {name} runs it, and the package {error.name} is not installed; {remedy} "
            f"retort-distill[{extra}]"
        ) from None


def check_described(directory: Path, names: Sequence[str] = (MODEL_DESCRIPTION, BUNDLE)) -> None:
    """Raises RetortError if there is no system in ``directory``. The message proposes one that is near. What lacks
    nothing but its description, or has another one, is named as such.

    ``names`` are those of the files that describe a system.
    """
    if any((directory / name).exists() for name in names):
        return
    if (directory / BUNDLE).exists():
        raise RetortError(f"{directory}: an exported system; expected the checkpoint that it was made of")
    for part in PARTS:
        if (directory / part).exists():
            raise RetortError(
                f"{directory}: has {part}, but no {' or '.join(names)}, which describes it; copy all of the directory"
            )
    if (near := _near_system(directory, names)) is not None:
        raise RetortError(f"{directory / MODEL_DESCRIPTION}: no such file; did you mean {near}?")
    there = "no system in it" if directory.is_dir() else "a file" if directory.exists() else "no such directory"
    raise RetortError(f"{directory}: {there}; expected a directory with {' or '.join(names)}")


def _near_system(directory: Path, names: Sequence[str]) -> Path | None:
    """A system below ``directory``, such as that of its first seed, or where one part of the path has the nearest
    name."""
    patterns = [f"{below}{name}" for below in ("*/", "*/*/", "systems/*/*/") for name in names]
    found = next((sorted(paths) for pattern in patterns if (paths := list(directory.glob(pattern)))), [])
    if found:
        return found[0].parent
    # the first part that does not exist may be misspelt
    missing = next((path for path in reversed([directory, *directory.parents]) if not path.exists()), directory)
    try:
        beside = [path.name for path in missing.parent.iterdir() if path.is_dir()]
    except OSError:
        return None
    for name in difflib.get_close_matches(missing.name, beside, n=max(1, len(beside))):
        respelt = missing.parent / name / directory.relative_to(missing)
        if any((respelt / file).exists() for file in names):
            return respelt
    return None


def read_objective(directory: Path | str) -> dict[str, Any]:
    """The objective that the system of a directory was trained with, a section of the configuration."""
    directory = Path(directory)
    check_described(directory)
    if (directory / BUNDLE).exists():
        path, objective = directory / BUNDLE, read_facts(directory)["objective"]
    else:
        path = directory / MODEL_DESCRIPTION
        try:
            objective = json.loads(read_text(path))["objective"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RetortError(
                f"{path}: cannot be read ({error}); expected the directory of a checkpoint or of an exported system"
            ) from None
    if not isinstance(objective, dict) or not isinstance(objective.get("name"), str):
        raise RetortError(f"{path}: names no objective; expected the description of a trained system")
    return objective
