"""The state of an unfinished training: saved to a temporary folder and renamed, so that a kill leaves the last one.

The folder's name is a digest of everything that decides the training, so changed parameters never resume a stale
state. Random numbers need no state: every batch's are seeded by the training's seed and the number of the update.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from retort.data.files import write_bytes, write_json

TENSORS, COUNTERS, FINISHED = "tensors.safetensors", "counters.json", "finished"


class TrainingState:
    """Saved states below ``<root>/<key>``, one sub-folder an update number; only the newest is kept."""

    def __init__(self, root: Path | str, key: str) -> None:
        self.directory = Path(root) / key

    def save(self, update: int, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Save; the earlier state is removed only after this one is complete."""
        final = self.directory / f"update{update:09d}"
        temporary = self.directory / f".update{update:09d}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        write_bytes(temporary / TENSORS, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}))
        write_json(temporary / COUNTERS, counters)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        for other in self.directory.iterdir():
            if other != final:
                shutil.rmtree(other, ignore_errors=True)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest complete state, or None. A state that cannot be read is passed over for an older one."""
        if not self.directory.is_dir():
            return None
        for path in sorted(self.directory.glob("update*"), reverse=True):
            try:
                tensors = load((path / TENSORS).read_bytes())
                return tensors, json.loads((path / COUNTERS).read_text(encoding="utf-8"))
            except (OSError, ValueError, SafetensorError):
                continue
        return None

    def finish(self) -> None:
        """Mark the state as that of a finished training, which whoever has its results may remove."""
        write_bytes(self.directory / FINISHED, b"")

    def remove(self) -> None:
        """Forget the state: the training is finished."""
        shutil.rmtree(self.directory, ignore_errors=True)
