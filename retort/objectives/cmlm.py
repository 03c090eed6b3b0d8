"""Masked-token cross entropy of a conditional masked language model (Ghazvininejad et al. 2019, section 2).

The number of masked tokens of a sentence of N, eos included, is floor(N u) + 1 with u uniform in [0, 1): full masking
occurs, as one-pass decoding needs (the official code never masks all; fairseq's version does).
"""

from __future__ import annotations

from retort.config import Cmlm
from retort.data.batches import Batch
from retort.losses.base import Loss
from retort.losses.masking import random_mask
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.masked_targets import masked_agreement, masked_log_likelihood, masked_loss

log_likelihood, agreement = masked_log_likelihood, masked_agreement


def compute(model: ParallelModel, batch: Batch, options: Cmlm, step: Step) -> Loss:
    """Weighted mean cross entropy per masked token, plus the weighted length loss."""
    masked_bt = random_mask(batch.target_bt, step.generator)
    return masked_loss(model, batch, options=options, masked_bt=masked_bt, teacher=step.teacher)
