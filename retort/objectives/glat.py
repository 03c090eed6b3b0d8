"""Glancing Transformer (Qian et al. 2021, section 3): training reveals part of the target, less as the model improves.

Shape letters: b batch, t target position.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from retort.config import Glat
from retort.data.batches import Batch
from retort.data.vocabulary import MASK, PAD
from retort.losses.base import Loss
from retort.losses.masking import lowest
from retort.models.kernels import most_probable
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.glancing import first_guess, glancing_ratio
from retort.objectives.shared.masked_targets import masked_agreement, masked_log_likelihood, masked_loss

log_likelihood, agreement = masked_log_likelihood, masked_agreement


def compute(model: ParallelModel, batch: Batch, options: Glat, step: Step) -> Loss:
    """Weighted mean cross entropy per token that is not revealed, eos included, plus the weighted length loss.

    ``revealed`` is the share of revealed target tokens. In evaluation none are, and all tokens are predicted.
    """
    real_bt = batch.target_bt != PAD
    encoded = model.encode(batch.source_bs)
    revealed_bt = torch.zeros_like(real_bt)
    if model.training:
        ratio = glancing_ratio(options, step.progress)
        revealed_bt = reveal(model, batch.target_bt, encoded=encoded, ratio=ratio, generator=step.generator)
    masked_bt = real_bt & ~revealed_bt
    loss = masked_loss(model, batch, options=options, masked_bt=masked_bt, encoded=encoded, teacher=step.teacher)
    return replace(loss, parts=loss.parts | {"revealed": revealed_bt.sum() / real_bt.sum()})


def reveal(
    model: ParallelModel, target_bt: Tensor, encoded: tuple[Tensor, Tensor], ratio: float, generator: torch.Generator
) -> Tensor:
    """Boolean [b, t]: floor(ratio x wrong tokens of the guess) random tokens of each sentence, right or wrong."""
    real_bt = target_bt != PAD
    draws_bt = torch.rand(target_bt.shape, generator=generator).to(target_bt.device)
    states_btd = first_guess(model, lambda: model.decode_tokens(target_bt.masked_fill(real_bt, MASK), *encoded))
    wrong_bt = (most_probable(states_btd, model.embeddings.output) != target_bt) & real_bt
    return lowest(draws_bt, real_bt, (ratio * wrong_bt.sum(1)).long())
