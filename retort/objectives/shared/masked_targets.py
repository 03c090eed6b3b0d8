"""Masked target tokens and their number: the loss, the likelihood and the agreement of slots whose number is predicted.

Shape letters: b batch, s source position, t target position, u distinct pairs of source and length, d width, n masked
tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from retort.config import ObjectiveSection, SmoothedSlots, TaughtSlots
from retort.data.batches import Batch
from retort.data.vocabulary import MASK, PAD
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.target_log_probs import target_log_probs
from retort.losses.token_distillation import token_distillation_loss
from retort.models.kernels import most_probable
from retort.models.parallel import ParallelModel
from retort.objectives.shared.predicted_length import length_log_probs, length_loss

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel


def masked_loss(
    model: ParallelModel,
    batch: Batch,
    options: SmoothedSlots,
    masked_bt: Tensor,
    encoded: tuple[Tensor, Tensor] | None = None,
    teacher: AutoregressiveModel | None = None,
) -> Loss:
    """Weighted mean cross entropy per masked token, averaged over supervised layers, plus the weighted length loss.

    ``nll`` is the last layer's cross entropy. Pass ``encoded`` to reuse an encoder output. In training, a ``teacher``
    labels the masked tokens too, as ``options`` say; ``taught`` is that loss.
    """
    memory_bsd, memory_bias = model.encode(batch.source_bs) if encoded is None else encoded
    layers = model.layers_of_tokens(batch.target_bt.masked_fill(masked_bt, MASK), memory_bsd, memory_bias)
    target_n = batch.target_bt[masked_bt]
    weights_n = batch.weights_at(masked_bt)
    smoothing = options.label_smoothing if model.training else 0.0
    weight_vd = model.embeddings.output
    losses = [
        linear_cross_entropy(states_btd[masked_bt], weight_vd, target_n, label_smoothing=smoothing, weights_n=weights_n)
        for states_btd in layers
    ]
    total = torch.stack([smoothed for smoothed, _ in losses]).mean()
    nll = losses[-1][1]
    tokens = weights_n.sum().clamp(min=MIN_WEIGHT)
    length = length_loss(model, batch, memory_bsd)
    parts = {"nll": nll / tokens}
    if teacher is not None and isinstance(options, TaughtSlots) and model.training:
        taught = token_distillation_loss(
            teacher, batch, layers, weight_vd=weight_vd, chosen_bt=masked_bt, top_k=options.teacher_top_k
        )
        parts["taught"] = taught.detach() / tokens
        total = total + options.teacher_weight * taught
    loss = Loss(total / tokens, parts, tokens)
    return loss.plus(options.length_weight * length, batch.weights.sum(), {"length": length.detach()})


@torch.no_grad()
def masked_log_likelihood(model: ParallelModel, batch: Batch, options: ObjectiveSection) -> Tensor:
    """log P(length | x) + sum of log P(y_t | x, length), eos included, with all tokens masked: nats, float32 [b]."""
    length_b = (batch.target_bt != PAD).sum(1)
    # all tokens are masked, so targets of one source and length share their states, as most candidates of a source do
    distinct_us, row_b = torch.unique(torch.cat([batch.source_bs, length_b[:, None]], 1), dim=0, return_inverse=True)
    source_us, length_u1 = distinct_us[:, :-1], distinct_us[:, -1:]
    memory_usd, memory_bias = model.encode(source_us)
    input_ut = torch.where(torch.arange(batch.target_bt.shape[1], device=length_u1.device) < length_u1, MASK, PAD)
    states_utd = model.decode_tokens(input_ut, memory_usd, memory_bias)
    tokens_b = target_log_probs(states_utd, model.embeddings.output, batch.target_bt, row_b=row_b)
    length_u = length_log_probs(model, source_us, memory_bsd=memory_usd, length_b=length_u1[:, 0])
    return tokens_b + length_u[row_b]


@torch.no_grad()
def masked_agreement(model: ParallelModel, batch: Batch, options: ObjectiveSection) -> Tensor:
    """Share of each target's tokens, eos included, that are most probable in their slots, all tokens masked: [b]."""
    real_bt = batch.target_bt != PAD
    states_btd = model.decode_tokens(batch.target_bt.masked_fill(real_bt, MASK), *model.encode(batch.source_bs))
    right_bt = (most_probable(states_btd, model.embeddings.output) == batch.target_bt) & real_bt
    return right_bt.sum(1) / real_bt.sum(1)
