"""Masked-token cross entropy of a conditional masked language model (Ghazvininejad et al. 2019, section 2).

The number of masked tokens of a sentence of N, eos included, is floor(N u) + 1 with u uniform in [0, 1): full masking
occurs, as one-pass decoding needs (the official code never masks all; fairseq's version does).
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.batches import Batch
from retort.config import Cmlm
from retort.losses.base import Loss, Step
from retort.losses.masked import lowest, masked_log_likelihood, masked_loss
from retort.models.parallel import ParallelModel
from retort.vocabulary import PAD


def compute(model: ParallelModel, batch: Batch, options: Cmlm, step: Step) -> Loss:
    """Mean over masked tokens, plus length_weight times the mean over sentences of the length loss."""
    return masked_loss(model, batch, options, random_mask(batch.target_bt, step.generator))


def log_likelihood(model: ParallelModel, batch: Batch, options: Cmlm) -> Tensor:
    """log P(y | x) of each pair, in one pass, its length included: nats [b]."""
    return masked_log_likelihood(model, batch)


def random_mask(target_bt: Tensor, generator: torch.Generator) -> Tensor:
    """Boolean [b, t]: a uniformly random number of each sentence's tokens, at uniformly random places."""
    real = target_bt != PAD
    draws = torch.rand((2, *target_bt.shape), generator=generator).to(target_bt.device)
    length = real.sum(1)
    count = (draws[0, :, 0] * length).long() + 1
    return lowest(draws[1], real, count)
