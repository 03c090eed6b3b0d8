"""Saves and loads the state of an unfinished training.

A state is written to a temporary folder and renamed, so that a killed process leaves the earlier one. The folder's
name is a digest of everything that decides the training: changed parameters never resume a stale state. Random numbers
need no state, because each batch has a seed of its own (``retort.training.seeds``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from retort.data.files import mark_finished, move, read_bytes, read_text, write_bytes, write_json

TENSORS, COUNTERS, DIGESTS = "tensors.safetensors", "counters.json", "digests.json"

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a training resumes from, together with the optimiser's tensors."""

    update: int = 0
    epoch: int = 0
    position: int = 0
    """Batches of the epoch already used."""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    """Of the first process, all of its threads together."""
    tokens: int = 0
    since_best: int = 0
    best: list[tuple[float, int]] = field(default_factory=list)
    """(validation metric, higher is better; update) of the best weights, best first."""
    rows: list[list[Any]] = field(default_factory=list)
    sums: dict[str, list[float]] = field(default_factory=dict)
    """The sum of each training metric since the last line of the log, and of how many; ``seconds`` of the updates."""
    weighting: dict[str, Any] = field(default_factory=dict)
    """State of the weighting of samples."""
    health: dict[str, Any] = field(default_factory=dict)
    """State of what is warned about."""

    def add(self, name: str, value: float) -> None:
        """Add a value to the sum of this name."""
        total, count = self.sums.get(name, (0.0, 0))
        self.sums[name] = [total + value, count + 1]


class TrainingState:
    """Saved states below ``<root>/<key>``, one sub-folder per save; only the newest is kept."""

    def __init__(self, root: Path | str, key: str) -> None:
        self.directory = Path(root) / key

    def save(self, update: int, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Save both parts with their SHA-256 digests; the earlier state is removed after this one is complete."""
        name = f"update{update:09d}"
        # a second state of one update gets a numbered name: the first is removed only after it is complete
        earlier = [int(path.suffix[1:] or 0) for path in self.directory.glob(f"{name}*")]
        final = self.directory / (f"{name}.{max(earlier) + 1:03d}" if earlier else name)
        temporary = self.directory / f".{name}.{os.getpid()}"
        parts = {
            TENSORS: save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}),
            COUNTERS: json.dumps(counters).encode(),
        }
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            for part, content in parts.items():
                write_bytes(temporary / part, content)
            write_json(temporary / DIGESTS, {part: hashlib.sha256(c).hexdigest() for part, c in parts.items()})
            move(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for other in self.directory.iterdir():
            if other != final:
                shutil.rmtree(other, ignore_errors=True)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest complete state, or None. Damaged states are skipped with a warning in the log."""
        if not self.directory.is_dir():
            return None
        for path in sorted(self.directory.glob("update*"), reverse=True):
            try:
                parts = {part: read_bytes(path / part) for part in (TENSORS, COUNTERS)}
                digests = json.loads(read_text(path / DIGESTS))
                damaged = [part for part, c in parts.items() if hashlib.sha256(c).hexdigest() != digests[part]]
                if damaged:
                    raise ValueError(f"{', '.join(damaged)}: not what was saved")
                return load(parts[TENSORS]), json.loads(parts[COUNTERS])
            except (OSError, ValueError, LookupError, TypeError, RecursionError, SafetensorError) as error:
                logger.warning("the saved state %s is damaged (%s) and is skipped", path, error)
        return None

    def finish(self, output: Path | str) -> None:
        """Mark the training as finished; the state is removed once its ``output`` is recorded."""
        mark_finished(self.directory, output)
