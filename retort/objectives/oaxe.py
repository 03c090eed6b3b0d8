"""Order-agnostic cross entropy: the cross entropy of the best order of the target's tokens (Du et al. 2021).

From scratch it would let every order pass and learn none, so training begins with position-wise cross entropy.

Shape letters: b batch, t slot, i target token.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from retort.config import Oaxe
from retort.data.batches import Batch
from retort.data.vocabulary import MASK, PAD
from retort.losses.base import LEAST_WEIGHT, Loss, Step
from retort.losses.gathered import gathered_log_probs, uniform_log_probs
from retort.losses.length import length_loss
from retort.losses.masked import masked_log_likelihood, masked_loss
from retort.models.parallel import ParallelModel


def compute(model: ParallelModel, batch: Batch, options: Oaxe, step: Step) -> Loss:
    """Mean over target tokens, eos included, plus length_weight times the length loss; all slots are masked.

    In training, the first ``warmup_share`` is the objective ``vanilla``; then tokens that the best order gives a
    probability below ``truncation`` do not count, but for their label smoothing. ``nll`` always counts all tokens.
    """
    real_bt = batch.target_bt != PAD
    if model.training and step.progress < options.warmup_share:
        return masked_loss(model, batch, options, real_bt)
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    states_btd = model.decode_tokens(batch.target_bt.masked_fill(real_bt, MASK), memory_bsd, memory_bias)
    log_probs_bti = gathered_log_probs(states_btd, model.embeddings.output, batch.target_bt)
    order_bt = best_order(log_probs_bti, real_bt.sum(1))
    aligned_bt = log_probs_bti.gather(2, order_bt[:, :, None])[:, :, 0]
    truncated_bt = real_bt & (aligned_bt.detach().exp() < options.truncation)
    counts_bt = batch.weights[:, None] * real_bt
    tokens = counts_bt.sum().clamp(min=LEAST_WEIGHT)
    nll = -(aligned_bt * counts_bt).sum()
    total = nll
    if model.training:
        uniform_bt = uniform_log_probs(states_btd, model.embeddings.output, batch.target_bt, log_probs_bti)
        kept, uniform = -(aligned_bt * counts_bt * ~truncated_bt).sum(), -(uniform_bt * counts_bt).sum()
        total = (1 - options.label_smoothing) * kept + options.label_smoothing * uniform
    length = length_loss(model, batch, memory_bsd)
    parts = {"nll": nll.detach() / tokens, "length": length.detach(), "truncated": truncated_bt.sum() / real_bt.sum()}
    return Loss(total / tokens + options.length_weight * length, parts)


def log_likelihood(model: ParallelModel, batch: Batch, options: Oaxe) -> Tensor:
    """log P(y | x) of each pair in the order it is in, as search would output it, its length included: nats [b]."""
    return masked_log_likelihood(model, batch)


@torch.no_grad()
def best_order(log_probs_bti: Tensor, length_b: Tensor) -> Tensor:
    """For each slot the target token that the likeliest assignment of all tokens to slots gives it [b, t].

    A bipartite matching for each sentence, on the CPU. Slots beyond a sentence's length keep their own number.
    """
    cost_bti = -log_probs_bti.cpu().numpy()
    order_bt = np.tile(np.arange(cost_bti.shape[1]), (len(cost_bti), 1))
    for cost_ti, order_t, n in zip(cost_bti, order_bt, length_b.tolist(), strict=True):
        # a loss that is not finite is for the training loop to report
        order_t[:n] = linear_sum_assignment(np.nan_to_num(cost_ti[:n, :n]))[1]
    return torch.from_numpy(order_bt).to(log_probs_bti.device)
