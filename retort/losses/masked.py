"""Cross entropy of masked target tokens and of the length: what the objectives with a predicted length share."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Cmlm, Glat, Oaxe, Taught, Vanilla
from retort.data.batches import Batch
from retort.data.vocabulary import MASK, PAD
from retort.losses.base import LEAST_WEIGHT, Loss
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.length import length_log_probs, length_loss
from retort.losses.likelihood import target_log_probs
from retort.losses.teaching import taught_loss
from retort.models.autoregressive import AutoregressiveModel
from retort.models.kernels import most_probable
from retort.models.parallel import ParallelModel


def masked_loss(
    model: ParallelModel,
    batch: Batch,
    options: Vanilla | Cmlm | Oaxe | Glat,
    masked_bt: Tensor,
    encoded: tuple[Tensor, Tensor] | None = None,
    teacher: AutoregressiveModel | None = None,
) -> Loss:
    """Cross entropy of the masked tokens given the source, which may be ``encoded`` already, and the others: the mean
    over the layers that predict, and in ``nll`` the last one's. A ``teacher`` labels them too, as ``options`` say."""
    memory_bsd, memory_bias = model.encode(batch.source_bs) if encoded is None else encoded
    layers = model.layers_of_tokens(batch.target_bt.masked_fill(masked_bt, MASK), memory_bsd, memory_bias)
    target_n, counts_n = batch.target_bt[masked_bt], batch.weights_at(masked_bt)
    smoothing = options.label_smoothing if model.training else 0.0
    weight_vd = model.embeddings.output
    totals, nlls = zip(
        *(linear_cross_entropy(x[masked_bt], weight_vd, target_n, smoothing, counts_n) for x in layers), strict=True
    )
    total, plain, tokens = torch.stack(totals).mean(), nlls[-1], counts_n.sum().clamp(min=LEAST_WEIGHT)
    length = length_loss(model, batch, memory_bsd)
    parts = {"nll": plain / tokens, "length": length.detach()}
    if teacher is not None and isinstance(options, Taught) and model.training:
        taught = taught_loss(model, teacher, batch, layers, masked_bt, options.teacher_top_k)
        parts["taught"] = taught.detach() / tokens
        total = total + options.teacher_weight * taught
    return Loss(total / tokens + options.length_weight * length, parts)


@torch.no_grad()
def masked_log_likelihood(model: ParallelModel, batch: Batch) -> Tensor:
    """log P(length | x) + sum of log P(y_t | x, length), eos included, all tokens masked: nats, float32 [b]."""
    length_b = (batch.target_bt != PAD).sum(1)
    # no token is given, so targets of one source and length share their states: most candidates of a source do
    distinct_us, row_b = torch.unique(torch.cat([batch.source_bs, length_b[:, None]], 1), dim=0, return_inverse=True)
    source_us, length_u1 = distinct_us[:, :-1], distinct_us[:, -1:]
    memory_usd, memory_bias = model.encode(source_us)
    input_ut = torch.where(torch.arange(batch.target_bt.shape[1], device=length_u1.device) < length_u1, MASK, PAD)
    states_utd = model.decode_tokens(input_ut, memory_usd, memory_bias)
    tokens_b = target_log_probs(states_utd, model.embeddings.output, batch.target_bt, row_b)
    return tokens_b + length_log_probs(model, source_us, memory_usd, length_u1[:, 0])[row_b]


@torch.no_grad()
def masked_agreement(model: ParallelModel, batch: Batch) -> Tensor:
    """Share of each target's tokens, eos included, that are most probable in their slots, all tokens masked: [b]."""
    real_bt = batch.target_bt != PAD
    states_btd = model.decode_tokens(batch.target_bt.masked_fill(real_bt, MASK), *model.encode(batch.source_bs))
    right_bt = (most_probable(states_btd, model.embeddings.output) == batch.target_bt) & real_bt
    return right_bt.sum(1) / real_bt.sum(1)


def random_mask(target_bt: Tensor, generator: torch.Generator) -> Tensor:
    """Boolean [b, t]: a uniformly random number of each sentence's tokens, at uniformly random places."""
    real = target_bt != PAD
    draws = torch.rand((2, *target_bt.shape), generator=generator).to(target_bt.device)
    length = real.sum(1)
    count = (draws[0, :, 0] * length).long() + 1
    return lowest(draws[1], real, count)


def lowest(draws_bt: Tensor, real_bt: Tensor, count_b: Tensor) -> Tensor:
    """Boolean [b, t]: the ``count`` real places of a sentence whose draws, from 0 to 1, are the lowest."""
    return draws_bt.masked_fill(~real_bt, 2.0).argsort(1).argsort(1) < count_b[:, None]
