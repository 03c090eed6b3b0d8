"""Position-wise cross entropy with every decoder input masked: the plain non-autoregressive Transformer."""

from __future__ import annotations

from retort.config import Vanilla
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import Loss
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.masked_targets import masked_agreement, masked_log_likelihood, masked_loss

log_likelihood, agreement = masked_log_likelihood, masked_agreement


def compute(model: ParallelModel, batch: Batch, options: Vanilla, step: Step) -> Loss:
    """Weighted mean cross entropy per target token, eos included, plus the weighted length loss."""
    return masked_loss(model, batch, options=options, masked_bt=batch.target_bt != PAD, teacher=step.teacher)
