"""Fine-tuning of BANG (Qi et al. 2021): cross entropy of every token, from left to right, in blocks, or all at once."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Bang
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import LEAST_WEIGHT, Loss, Step
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.likelihood import target_log_probs
from retort.losses.next_token import shifted_right
from retort.losses.teaching import taught_loss
from retort.models.bang import BangModel
from retort.models.kernels import most_probable


def compute(model: BangModel, batch: Batch, options: Bang, step: Step) -> Loss:
    """Mean over target tokens, eos included, each with its sample's weight; in training of one mode, drawn for the
    batch, otherwise the mean of both as often as they are drawn. A teacher labels the parallel mode's slots too."""
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    real_bt, weight_vd = batch.target_bt != PAD, model.embeddings.output
    input_bt, target_n, counts_n = shifted_right(batch.target_bt), batch.target_bt[real_bt], batch.weights_at(real_bt)
    ratio, smoothing = options.nar_ratio, options.label_smoothing if model.training else 0.0
    if model.training:
        ratio = float(torch.rand((), generator=step.generator) < ratio)
    total = nll = taught = torch.zeros((), device=model.device)
    for size, share in ((1, 1.0 - ratio), (_block(batch, options), ratio)):
        if share:
            states_btd = model.decode_blocks(input_bt, size, memory_bsd, memory_bias)
            loss, plain = linear_cross_entropy(states_btd[real_bt], weight_vd, target_n, smoothing, counts_n)
            total, nll = total + share * loss, nll + share * plain
    tokens = counts_n.sum().clamp(min=LEAST_WEIGHT)
    parts = {"nll": nll / tokens}
    if step.teacher is not None and model.training:
        if ratio:
            taught = taught_loss(model, step.teacher, batch, [states_btd], real_bt, options.teacher_top_k)
        total, parts["taught"] = total + options.teacher_weight * taught, taught.detach() / tokens
    return Loss(total / tokens, parts)


@torch.no_grad()
def log_likelihood(model: BangModel, batch: Batch, options: Bang) -> Tensor:
    """log P(y | x) of each pair, eos included, in blocks, or from left to right if there is no other mode: nats [b]."""
    return target_log_probs(_states(model, batch, options), model.embeddings.output, batch.target_bt)


@torch.no_grad()
def agreement(model: BangModel, batch: Batch, options: Bang) -> Tensor:
    """Share of each target's tokens, eos included, that are most probable in their slots, in the same mode: [b]."""
    real_bt = batch.target_bt != PAD
    right_bt = (most_probable(_states(model, batch, options), model.embeddings.output) == batch.target_bt) & real_bt
    return right_bt.sum(1) / real_bt.sum(1)


def _states(model: BangModel, batch: Batch, options: Bang) -> Tensor:
    size = _block(batch, options) if options.nar_ratio else 1
    return model.decode_blocks(shifted_right(batch.target_bt), size, *model.encode(batch.source_bs))


def _block(batch: Batch, options: Bang) -> int:
    return options.block or batch.target_bt.shape[1]
