"""Which system, seed and search a file belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SEED_DIRECTORY = re.compile(r"seed(-?\d+)")


@dataclass(frozen=True, order=True)
class Run:
    """One system trained with one seed and, where it was decoded, one search."""

    system: str
    seed: int
    search: str = ""

    @classmethod
    def parse(cls, text: str) -> Run:
        """What ``str`` made of a run."""
        system, seed, *search = text.split("/")
        return cls(system, int(seed.removeprefix("seed")), *search)

    def __str__(self) -> str:
        return "/".join([self.system, f"seed{self.seed}", *([self.search] if self.search else [])])


def run_directory(checkpoint: Path) -> Path:
    """The directory of the workflow's run that a checkpoint is in, as ``<run>/systems/<system>/seed<seed>``."""
    return checkpoint.resolve().parent.parent.parent


def run_of_path(path: Path | str) -> Run | None:
    """The run of a file ``<system>/seed<seed>/<search>.parquet``; None for other paths."""
    path = Path(path)
    seed = SEED_DIRECTORY.fullmatch(path.parent.name)
    system = path.parent.parent.name
    return Run(system, int(seed[1]), path.stem) if seed and system else None
