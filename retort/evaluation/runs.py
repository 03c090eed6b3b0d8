"""Which system, seed and search a file belongs to, read from where it lies, and which systems belong together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.errors import RetortError

_SEED = re.compile(r"seed(-?\d+)")
_RUN = re.compile(r"[^/]+/seed-?\d+")


@dataclass(frozen=True, order=True)
class Run:
    """One system trained with one seed and, where it was decoded, one search."""

    system: str
    seed: int
    search: str = ""

    def __str__(self) -> str:
        return "/".join([self.system, f"seed{self.seed}", *([self.search] if self.search else [])])


def run_of_decoding(path: Path | str) -> Run:
    """The run of a file ``<system>/seed<seed>/<search>.parquet``; raises RetortError for any other path."""
    path = Path(path)
    system, seed = _parent(path, path.parent, "<system>/seed<seed>/<search>.parquet")
    return Run(system, seed, path.stem)


def run_of_training(directory: Path | str) -> Run:
    """The run of a directory ``<system>/seed<seed>``; raises RetortError for any other path."""
    directory = Path(directory)
    return Run(*_parent(directory, directory, "<system>/seed<seed>"))


def named_directory(text: str) -> tuple[Run, Path]:
    """A checkpoint on the command line: a directory ``<system>/seed<seed>``, or ``<system>/seed<seed>=<directory>``
    for one that lies elsewhere. Raises RetortError for anything else."""
    name, separator, directory = text.partition("=")
    if separator and _RUN.fullmatch(name):
        return run_of_training(name), Path(directory)
    return run_of_training(text), Path(text)


def _parent(path: Path, directory: Path, expected: str) -> tuple[str, int]:
    match = _SEED.fullmatch(directory.name)
    if not match or not directory.parent.name:
        raise RetortError(f"{path}: cannot tell which system this is; expected a path that ends in {expected}")
    return directory.parent.name, int(match[1])


def data_pairs(systems: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """The pairs (raw, distilled) of systems that differ in their training data only.

    ``systems`` are the resolved sections of the config by name, as plain values. Names, seeds and given checkpoints
    may differ.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for name, system in systems.items():
        rest = {key: value for key, value in system.items() if key not in ("data", "seeds", "checkpoint")}
        group = groups.setdefault(json.dumps(rest, sort_keys=True), {"raw": [], "distilled": []})
        group.setdefault(system.get("data", "raw"), []).append(name)
    return [(raw, distilled) for group in groups.values() for raw in group["raw"] for distilled in group["distilled"]]


def counterparts(
    search: str, baselines: str | Sequence[str], searches: Callable[[str], Sequence[str]]
) -> list[tuple[str, str]]:
    """Names and searches of what a system's search is compared with: of the baselines named for the system, those that
    have a search of that name, or else the first one with its first search. ``searches`` are those of a system."""
    names = [baselines] if isinstance(baselines, str) else baselines
    return [(name, search) for name in names if search in searches(name)] or [(names[0], searches(names[0])[0])]


def test_set_of(path: Path | str) -> str:
    """Name of the test set in a file ``test.<name>.parquet``; raises RetortError for other names."""
    path = Path(path)
    name = path.name.removeprefix("test.").removesuffix(".parquet")
    if path.name != f"test.{name}.parquet" or not name:
        raise RetortError(f"{path}: expected a file named test.<test set>.parquet")
    return name
