"""Next-token cross entropy of the autoregressive family."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.batches import Batch
from retort.config import Autoregressive
from retort.losses.base import Loss, Step
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.divergence import linear_divergence
from retort.losses.next_token import next_token_log_likelihood, next_token_loss, shifted_right
from retort.models.autoregressive import AutoregressiveModel
from retort.vocabulary import PAD


def compute(model: AutoregressiveModel, batch: Batch, options: Autoregressive, step: Step) -> Loss:
    """Mean over target tokens, eos included; with r_drop half the loss of Wu et al. (2021), which adds up two
    passes."""
    if not (model.training and options.r_drop):
        return next_token_loss(model, batch, options.label_smoothing)
    real_bt, weight_vd = batch.target_bt != PAD, model.embeddings.output
    target_n, input_bt = batch.target_bt[real_bt], shifted_right(batch.target_bt)
    passes = [model(batch.source_bs, input_bt)[real_bt] for _ in range(2)]
    (first, plain), (second, _) = (
        linear_cross_entropy(states_nd, weight_vd, target_n, options.label_smoothing) for states_nd in passes
    )
    divergence = linear_divergence(torch.stack(passes), weight_vd, {(0, 1): 1.0})
    total = (first + second + options.r_drop * divergence) / 2
    parts = {"nll": plain, "divergence": divergence.detach()}
    return Loss(total / len(target_n), {name: nats / len(target_n) for name, nats in parts.items()})


def log_likelihood(model: AutoregressiveModel, batch: Batch, options: Autoregressive) -> Tensor:
    """log P(y | x) of each pair, eos included: nats [b]."""
    return next_token_log_likelihood(model, batch)
