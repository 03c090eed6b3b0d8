"""Teacher-forced next-token prediction: the loss of given targets, and their log-likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import ObjectiveSection
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import Loss
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.target_log_probs import target_log_probs
from retort.losses.teacher_forcing import shifted_right
from retort.models.autoregressive import AutoregressiveModel


def next_token_loss(model: AutoregressiveModel, batch: Batch, label_smoothing: float) -> Loss:
    """Mean cross entropy per target token, eos included; smoothed in training only."""
    states_btd = model(batch.source_bs, shifted_right(batch.target_bt))
    real_bt = batch.target_bt != PAD
    target_n = batch.target_bt[real_bt]
    smoothing = label_smoothing if model.training else 0.0
    total, plain = linear_cross_entropy(
        states_btd[real_bt], model.embeddings.output, target_n, label_smoothing=smoothing
    )
    return Loss(total / len(target_n), {"nll": plain / len(target_n)})


@torch.no_grad()
def next_token_log_likelihood(model: AutoregressiveModel, batch: Batch, options: ObjectiveSection) -> Tensor:
    """log P(y | x) of each pair, eos included: nats [b]."""
    states_btd = model(batch.source_bs, shifted_right(batch.target_bt))
    return target_log_probs(states_btd, model.embeddings.output, batch.target_bt)
