"""Fine-tuning of BANG (Qi et al. 2021): cross entropy of every token, from left to right, in blocks, or all at once."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.batches import Batch
from retort.config import Bang
from retort.losses.base import Loss, Step
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.likelihood import target_log_probs
from retort.losses.next_token import shifted_right
from retort.models.bang import BangModel
from retort.vocabulary import PAD


def compute(model: BangModel, batch: Batch, options: Bang, step: Step) -> Loss:
    """Mean over target tokens, eos included; in training of one mode, drawn for the batch, otherwise the mean of both
    modes as often as they are drawn."""
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    real_bt, weight_vd = batch.target_bt != PAD, model.embeddings.output
    input_bt, target_n = shifted_right(batch.target_bt), batch.target_bt[real_bt]
    ratio, smoothing = options.nar_ratio, options.label_smoothing if model.training else 0.0
    if model.training:
        ratio = float(torch.rand((), generator=step.generator) < ratio)
    total = nll = torch.zeros((), device=model.device)
    for size, share in ((1, 1.0 - ratio), (_block(batch, options), ratio)):
        if share:
            states_btd = model.decode_blocks(input_bt, size, memory_bsd, memory_bias)
            loss, plain = linear_cross_entropy(states_btd[real_bt], weight_vd, target_n, smoothing)
            total, nll = total + share * loss, nll + share * plain
    return Loss(total / len(target_n), {"nll": nll / len(target_n)})


@torch.no_grad()
def log_likelihood(model: BangModel, batch: Batch, options: Bang) -> Tensor:
    """log P(y | x) of each pair, eos included, in blocks, or from left to right if there is no other mode: nats [b]."""
    size = _block(batch, options) if options.nar_ratio else 1
    states_btd = model.decode_blocks(shifted_right(batch.target_bt), size, *model.encode(batch.source_bs))
    return target_log_probs(states_btd, model.embeddings.output, batch.target_bt)


def _block(batch: Batch, options: Bang) -> int:
    return options.block or batch.target_bt.shape[1]
