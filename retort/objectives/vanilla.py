"""Position-wise cross entropy with every decoder input masked: the plain non-autoregressive Transformer."""

from __future__ import annotations

from torch import Tensor

from retort.config import Vanilla
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import Loss
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.masked_targets import masked_agreement, masked_log_likelihood, masked_loss


def compute(model: ParallelModel, batch: Batch, options: Vanilla, step: Step) -> Loss:
    """Weighted mean cross entropy per target token, eos included, plus the weighted length loss."""
    return masked_loss(model, batch, options=options, masked_bt=batch.target_bt != PAD, teacher=step.teacher)


def log_likelihood(model: ParallelModel, batch: Batch, options: Vanilla) -> Tensor:
    """log P(y | x) of each pair, its length included: nats [b]."""
    return masked_log_likelihood(model, batch)


def agreement(model: ParallelModel, batch: Batch, options: Vanilla) -> Tensor:
    """Share of each target's tokens that are most probable in their slots, with all tokens masked: [b]."""
    return masked_agreement(model, batch)
