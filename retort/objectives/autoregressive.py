"""Next-token cross entropy of the autoregressive family."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Autoregressive
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import Loss, Step
from retort.losses.next_token import next_token_log_likelihood, next_token_loss, shifted_right
from retort.losses.tied import tied_cross_entropies
from retort.models.autoregressive import AutoregressiveModel


def compute(model: AutoregressiveModel, batch: Batch, options: Autoregressive, step: Step) -> Loss:
    """Mean over target tokens, eos included; with r_drop half the loss of Wu et al. (2021), which adds up two
    passes."""
    if not (model.training and options.r_drop):
        return next_token_loss(model, batch, options.label_smoothing)
    real_bt, weight_vd = batch.target_bt != PAD, model.embeddings.output
    target_n, input_bt = batch.target_bt[real_bt], shifted_right(batch.target_bt)
    states_knd = torch.stack([model(batch.source_bs, input_bt)[real_bt] for _ in range(2)])
    weight_k = torch.ones(2, device=target_n.device)
    tied = tied_cross_entropies(
        states_knd, weight_vd, target_n, weight_k, options.label_smoothing, {(0, 1): options.r_drop}
    )
    parts = {"nll": tied.nll_k[0], "divergence": tied.divergence / options.r_drop}
    return Loss(tied.total / 2 / len(target_n), {name: nats / len(target_n) for name, nats in parts.items()})


def log_likelihood(model: AutoregressiveModel, batch: Batch, options: Autoregressive) -> Tensor:
    """log P(y | x) of each pair, eos included: nats [b]."""
    return next_token_log_likelihood(model, batch)
