"""Trained checkpoints, run by torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from retort.config import Search
from retort.data.batches import LENGTH_STEP, Ragged
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
        self._device, dtype = prepare_device(threads), PRECISIONS[precision]
        self.model, vocabulary, description = load_checkpoint(directory, self._device, dtype)
        # loaded once, and only for a search that asks it
        self._load_teacher = cache(partial(load_teacher, teacher, directory, vocabulary, self._device, dtype))
        chosen = search or _default_search(description)
        config = self.model.config
        kinds = objective_of(description).searches()
        super().__init__(vocabulary, chosen, kinds, precision, config.max_length, config.truncate_sources)
        self.choose(chosen)

    def choose(self, search: Mapping[str, Any]) -> None:
        super().choose(search)
        self._options = TypeAdapter(Search).validate_python(dict(search))
        self._teacher = self._load_teacher() if self._options.needs_teacher else None

    def decode(self, sources: Sequence[Sequence[int]]) -> list[Decoded]:
        # a sentence alone needs no padding; the shapes of batches are few, since each new one costs time
        step = 1 if len(sources) == 1 else LENGTH_STEP
        source_bs = Ragged.from_lists(sources).padded(np.arange(len(sources)), step).to(self._device)
        best = [
            hypotheses[0]
            for hypotheses in run_search(self.model, source_bs, options=self._options, teacher=self._teacher)
        ]
        return [Decoded(h.tokens, h.truncated, h.passes) for h in best]


def open_checkpoint(
    directory: Path, search: Mapping[str, Any] | None, threads: int, precision: str, teacher: Path | None
) -> TorchSystem:
    """The system of a checkpoint; see ``open_system``."""
    return TorchSystem(directory, search, threads=threads, precision=precision, teacher=teacher)


def _default_search(description: Mapping[str, Any]) -> dict[str, Any]:
    """The first search of the modes that a model was trained for."""
    objective = objective_of(dict(description))
    searches = objective.default_searches(description["objective"]) or dict(objective.usual_searches)
    return next(iter(searches.values())).model_dump()
