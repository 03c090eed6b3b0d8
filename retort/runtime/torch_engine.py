"""Trained checkpoints, run by torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from retort.config import Search
from retort.data.batches import Ragged
from retort.models.checkpoint import load_checkpoint, load_teacher, objective_of
from retort.runtime.system import Decoded, System
from retort.search.base import run_search
from retort.training.device import PRECISIONS, prepare_device


class TorchSystem(System):
    """A checkpoint with one of its searches."""

    engine = "torch"

    def __init__(
        self, directory: Path, search: Mapping[str, Any] | None, threads: int, precision: str, teacher: Path | None
    ) -> None:
        device, dtype = prepare_device(threads), PRECISIONS[precision]
        self.model, vocabulary, description = load_checkpoint(directory, device, dtype)
        self.options = _search(description, search)
        self.teacher = None
        if self.options.needs_teacher:
            self.teacher = load_teacher(teacher, directory, vocabulary, device, dtype)
        config = self.model.config
        chosen = self.options.model_dump()
        super().__init__(vocabulary, chosen, precision, config.max_length, config.truncate_sources)

    def decode(self, sources: Sequence[Sequence[int]]) -> list[Decoded]:
        source_bs = Ragged.from_lists(sources).padded(np.arange(len(sources))).to(self.model.device)
        best = [hypotheses[0] for hypotheses in run_search(self.model, source_bs, self.options, self.teacher)]
        return [Decoded(h.tokens, h.truncated, h.passes) for h in best]


def open_checkpoint(
    directory: Path, search: Mapping[str, Any] | None, threads: int, precision: str, teacher: Path | None
) -> TorchSystem:
    """The system of a checkpoint; see ``open_system``."""
    return TorchSystem(directory, search, threads, precision, teacher)


def _search(description: Mapping[str, Any], search: Mapping[str, Any] | None) -> Any:
    """The search as the configuration has it; the objective's first one by default."""
    if search is not None:
        return TypeAdapter(Search).validate_python(dict(search))
    objective = objective_of(dict(description))
    searches = objective.default_searches(description["objective"])
    return next(iter((searches or dict(objective.usual_searches)).values()))
