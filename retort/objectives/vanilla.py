"""Position-wise cross entropy with every decoder input masked: the plain non-autoregressive Transformer."""

from __future__ import annotations

from torch import Tensor

from retort.config import Vanilla
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import Loss, Step
from retort.losses.masked import masked_agreement, masked_log_likelihood, masked_loss
from retort.models.parallel import ParallelModel


def compute(model: ParallelModel, batch: Batch, options: Vanilla, step: Step) -> Loss:
    """Mean over target tokens, eos included, plus length_weight times the length loss."""
    return masked_loss(model, batch, options, batch.target_bt != PAD, teacher=step.teacher)


def log_likelihood(model: ParallelModel, batch: Batch, options: Vanilla) -> Tensor:
    """log P(y | x) of each pair, its length included: nats [b]."""
    return masked_log_likelihood(model, batch)


def agreement(model: ParallelModel, batch: Batch, options: Vanilla) -> Tensor:
    """Share of each target's tokens that are most probable in their slots, all tokens masked: [b]."""
    return masked_agreement(model, batch)
