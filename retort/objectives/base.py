"""What an objective's module has, and what its functions receive besides the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

from retort.data.batches import Batch
from retort.data.teacher_labels import StoredLabels
from retort.losses.base import Loss

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel


@dataclass(frozen=True)
class Step:
    """Where in training a batch is. A function of seed and update alone, so that training can resume."""

    generator: torch.Generator
    """Random draws of this batch (on the CPU)."""
    progress: float = 1.0
    """Share of training.max_updates that is done: 0 at the first update; 1 in validation."""
    teacher: AutoregressiveModel | None = None
    """The trained model that an objective asks, in evaluation mode."""
    prepared: Any = None
    """What the objective's ``prepare``, if it has one, returned for this batch."""
    labels: StoredLabels | None = None
    """The teacher's stored distributions over the training text, for an objective that reads them."""


class ObjectiveModule(Protocol):
    """The module ``retort/objectives/<name>.py``. ``options`` is the objective's section of the configuration.

    ``compute`` is always there. The section declares which of the others are (``ObjectiveSection``):
    ``log_likelihood`` unless it ``pretrains``, and ``encoder_gap`` if it does; ``agreement`` if it
    ``measures_agreement``; ``prepare`` if it ``prepares``.
    """

    def compute(self, model: Any, batch: Batch, options: Any, step: Step) -> Loss:
        """The loss of a batch. Without smoothing and regularisation where the model is in evaluation mode."""

    def log_likelihood(self, model: Any, batch: Batch, options: Any) -> Tensor:
        """log P(y | x) of each pair: nats [b]."""

    def agreement(self, model: Any, batch: Batch, options: Any) -> Tensor:
        """Share of each target's slots whose most probable token is the target's: [b]."""

    def encoder_gap(self, model: Any, batch: Batch, options: Any, step: Step) -> Tensor:
        """What the loss rises by where the encoder reads another text of the batch: nats per token."""

    def prepare(self, model: Any, batches: Sequence[Batch], options: Any, steps: Sequence[Step]) -> list[Any]:
        """What ``compute`` receives as ``step.prepared``, for the batches of ``prepared_updates`` updates."""


def load_objective(name: str) -> ObjectiveModule:
    """The module of the objective with this name; no other objective is imported."""
    return cast("ObjectiveModule", import_module(f"retort.objectives.{name}"))
