"""Trained checkpoints, run by torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from retort.config import Search
from retort.data.batches import LENGTH_STEP, Ragged
from retort.models.checkpoint import load_checkpoint, load_teacher
from retort.runtime.system import Decoded, Scored, System, no_token_scores
from retort.search.base import Hypothesis, run_search
from retort.search.left_to_right import forced_log_probs
from retort.training.device import PRECISIONS, prepare_device


class TorchSystem(System):
    """A checkpoint with one of its searches."""

    engine = "torch"

    def __init__(
        self,
        directory: Path,
        search: Mapping[str, Any] | None,
        threads: int,
        precision: str,
        teacher: Path | None,
        device: str | None,
    ) -> None:
        self._device, dtype = prepare_device(threads, device), PRECISIONS[precision]
        checkpoint = load_checkpoint(directory, self._device, dtype)
        self.model, vocabulary, objective = checkpoint.model, checkpoint.vocabulary, checkpoint.objective
        # loaded once, and only for a search that asks it
        config = self.model.config
        self._load_teacher = cache(
            partial(load_teacher, teacher, directory, vocabulary, self._device, dtype, config.max_length)
        )
        chosen = search or objective.own_search.model_dump()
        kinds = objective.searches()
        super().__init__(vocabulary, chosen, kinds, precision, config.max_length, config.truncate_sources)
        self.choose(chosen)

    def choose(self, search: Mapping[str, Any]) -> None:
        super().choose(search)
        self._options = TypeAdapter(Search).validate_python(dict(search))
        self._teacher = self._load_teacher() if self._options.needs_teacher else None

    def decode(self, sources: Sequence[Sequence[int]]) -> list[Decoded]:
        nbest_lists = run_search(self.model, self._padded(sources), options=self._options, teacher=self._teacher)
        return [Decoded(h.tokens, h.truncated, h.passes) for h, *_ in nbest_lists]

    @property
    def asks_teacher(self) -> bool:
        return self._teacher is not None

    @property
    def outputs_key(self) -> str | None:
        return self._options.outputs_key

    def decode_scored(self, sources: Sequence[Sequence[int]], count: int) -> list[list[Scored]]:
        if not self._options.scores_tokens:
            raise no_token_scores(self._options.kind)
        source_bs = self._padded(sources)
        nbest_lists = run_search(self.model, source_bs, options=self._options, teacher=self._teacher)
        nbest_lists = [best[:count] for best in nbest_lists]
        log_probs = iter(self._log_probs(source_bs, nbest_lists))
        return [
            [Scored(Decoded(h.tokens, h.truncated, h.passes), h.score, next(log_probs)) for h in best]
            for best in nbest_lists
        ]

    def _log_probs(self, source_bs: Tensor, nbest_lists: list[list[Hypothesis]]) -> list[list[float]]:
        """Those of each hypothesis' tokens; searches from left to right do not keep them."""
        flat = [(row, h) for row, best in enumerate(nbest_lists) for h in best]
        kept = [h.log_probs for _, h in flat if h.log_probs is not None]
        if len(kept) == len(flat):
            return kept
        rows_bs = source_bs[torch.tensor([row for row, _ in flat], device=source_bs.device)]
        forced = forced_log_probs(self.model, rows_bs, [h.tokens for _, h in flat]).tolist()
        return [log_probs[: len(h.tokens)] for (_, h), log_probs in zip(flat, forced, strict=True)]

    def _padded(self, sources: Sequence[Sequence[int]]) -> Tensor:
        # a sentence alone needs no padding; the shapes of batches are few, since each new one costs time
        step = 1 if len(sources) == 1 else LENGTH_STEP
        return Ragged.from_lists(sources).padded(np.arange(len(sources)), step).to(self._device)
