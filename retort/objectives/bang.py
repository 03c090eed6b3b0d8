"""Fine-tuning of BANG (Qi et al. 2021): cross entropy of every token, left to right, in blocks, or all at once.

Shape letters: b batch, s source position, t target position, n target tokens, d width, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Bang
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.target_log_probs import target_log_probs
from retort.losses.teacher_forcing import shifted_right
from retort.losses.token_distillation import token_distillation_loss
from retort.models.bang import BangModel
from retort.models.kernels import most_probable
from retort.objectives.base import Step


def compute(model: BangModel, batch: Batch, options: Bang, step: Step) -> Loss:
    """Weighted mean cross entropy per target token, eos included.

    In training a batch trains one mode, drawn at random. In validation the loss is the mean of both modes, in the
    proportion in which they are drawn. A teacher also labels the parallel mode's slots.
    """
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    weight_vd = model.embeddings.output
    real_bt = batch.target_bt != PAD
    target_n = batch.target_bt[real_bt]
    weights_n = batch.weights_at(real_bt)
    input_bt = shifted_right(batch.target_bt)
    smoothing = options.label_smoothing if model.training else 0.0
    ratio = options.nar_ratio
    if model.training:
        ratio = float(torch.rand((), generator=step.generator) < ratio)
    total = nll = taught = torch.zeros((), device=model.device)
    for size, share in ((1, 1.0 - ratio), (_block(batch, options), ratio)):
        if share:
            states_btd = model.decode_blocks(input_bt, size, memory_bsd=memory_bsd, memory_bias=memory_bias)
            loss, plain = linear_cross_entropy(
                states_btd[real_bt], weight_vd, target_n, label_smoothing=smoothing, weights_n=weights_n
            )
            total = total + share * loss
            nll = nll + share * plain
    tokens = weights_n.sum().clamp(min=MIN_WEIGHT)
    parts = {"nll": nll / tokens}
    if step.teacher is not None and model.training:
        if ratio:
            taught = token_distillation_loss(
                step.teacher,
                batch,
                [states_btd],
                weight_vd=weight_vd,
                chosen_bt=real_bt,
                top_k=options.teacher_top_k,
            )
        total = total + options.teacher_weight * taught
        parts["taught"] = taught.detach() / tokens
    return Loss(total / tokens, parts)


@torch.no_grad()
def log_likelihood(model: BangModel, batch: Batch, options: Bang) -> Tensor:
    """log P(y | x) of each pair, eos included: nats [b]. In blocks; left to right if no other mode is trained."""
    return target_log_probs(_states(model, batch, options), model.embeddings.output, batch.target_bt)


@torch.no_grad()
def agreement(model: BangModel, batch: Batch, options: Bang) -> Tensor:
    """Share of each target's tokens, eos included, that are most probable in their slots: [b]. The mode is as above."""
    real_bt = batch.target_bt != PAD
    right_bt = (most_probable(_states(model, batch, options), model.embeddings.output) == batch.target_bt) & real_bt
    return right_bt.sum(1) / real_bt.sum(1)


def _states(model: BangModel, batch: Batch, options: Bang) -> Tensor:
    size = _block(batch, options) if options.nar_ratio else 1
    return model.decode_blocks(shifted_right(batch.target_bt), size, *model.encode(batch.source_bs))


def _block(batch: Batch, options: Bang) -> int:
    return options.block or batch.target_bt.shape[1]
