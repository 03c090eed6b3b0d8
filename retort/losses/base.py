"""What an objective is given besides the batch, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from retort.data.teacher_labels import StoredLabels

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel

LEAST_WEIGHT = torch.finfo(torch.float32).tiny
"""What sums of weights are divided by at least, so that a batch of which nothing counts has a loss of 0."""


@dataclass(frozen=True)
class Step:
    """Where in training a batch stands; a function of seed and update alone, so that training can resume."""

    generator: torch.Generator
    """Random draws of this batch (on the CPU)."""
    progress: float = 1.0
    """Updates done, as a share of training.max_updates: 0 at the first update; 1 in validation."""
    teacher: AutoregressiveModel | None = None
    """The trained model that an objective asks, in evaluation mode."""
    prepared: Any = None
    """What the objective's ``prepare``, if it has one, made for this batch."""
    labels: StoredLabels | None = None
    """What the teacher says about the training text, for an objective that reads it instead of asking."""


@dataclass(frozen=True)
class Loss:
    """``total`` is the scalar to minimise, a mean a target token, each with its sample's weight; ``parts`` are detached
    scalars for the log."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
