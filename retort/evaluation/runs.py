"""Which system, seed and search a file belongs to, and which systems are compared with each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from retort.config import System
from retort.data.parquet import read_table
from retort.data.runs import SEED_DIRECTORY, Run
from retort.data.tables import TRANSLATIONS, UNKNOWN
from retort.errors import RetortError

_RUN = re.compile(r"[^/]+/seed-?\d+")


def run_of_translations(path: Path | str) -> Run:
    """The run that a TRANSLATIONS table is of; raises RetortError unless it is of one."""
    columns = ["system", "seed", "search"]
    runs = read_table(path, TRANSLATIONS, columns).group_by(columns).aggregate([]).to_pylist()
    if len(runs) != 1:
        raise RetortError(
            f"{path}: holds translations of {len(runs)} systems, seeds and searches; expected one of each"
        )
    run = Run(**runs[0])
    if run.system == UNKNOWN:
        raise RetortError(
            f"{path}: a translations table of version 1, which does not name its system; expected a path that ends in "
            "<system>/seed<seed>/<search>.parquet; move it there, or translate again"
        )
    return run


def runs_of(paths: Iterable[Path | str]) -> dict[Path, Run]:
    """The run of each translations table; raises RetortError for two files of one run."""
    runs: dict[Path, Run] = {}
    files: dict[Run, Path] = {}
    for path in dict.fromkeys(map(Path, paths)):
        run = runs[path] = run_of_translations(path)
        if files.setdefault(run, path) != path:
            raise RetortError(f"{path}: {run} is already given as {files[run]}; give each system, seed and search once")
    return runs


def run_of_training(directory: Path | str) -> Run:
    """The run of a directory ``<system>/seed<seed>``; raises RetortError for any other path."""
    directory = Path(directory)
    seed = SEED_DIRECTORY.fullmatch(directory.name)
    if not seed or not directory.parent.name:
        raise RetortError(
            f"{directory}: cannot tell which system this is; expected a path that ends in <system>/seed<seed>"
        )
    return Run(directory.parent.name, int(seed[1]))


def named_directory(text: str) -> tuple[Run, Path]:
    """A checkpoint on the command line: a directory ``<system>/seed<seed>``, or ``<system>/seed<seed>=<directory>``
    for another directory. Raises RetortError for anything else."""
    name, separator, directory = text.partition("=")
    if separator and _RUN.fullmatch(name):
        return run_of_training(name), Path(directory)
    return run_of_training(text), Path(text)


def data_pairs(systems: Mapping[str, System]) -> list[tuple[str, str]]:
    """The pairs (raw, distilled) of systems that differ in their training data only.

    Names, seeds and given checkpoints may differ.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for name, system in systems.items():
        rest = system.model_dump_json(exclude={"data", "seeds", "checkpoint"})
        group = groups.setdefault(rest, {"raw": [], "distilled": []})
        group.setdefault(system.data, []).append(name)
    return [(raw, distilled) for group in groups.values() for raw in group["raw"] for distilled in group["distilled"]]


def counterparts(
    search: str, baselines: str | Sequence[str], searches: Callable[[str], Sequence[str]]
) -> list[tuple[str, str]]:
    """Baselines, with their searches, that a system's ``search`` is compared with.

    These are the ``baselines`` that have a search of the same name, and those that name one ("system/search"), or else
    the first one with its first search. ``searches`` gives the names of a system's searches.
    """
    named = [name.partition("/")[::2] for name in ([baselines] if isinstance(baselines, str) else baselines)]
    found = [(name, own or search) for name, own in named if own or search in searches(name)]
    return found or [(named[0][0], searches(named[0][0])[0])]
