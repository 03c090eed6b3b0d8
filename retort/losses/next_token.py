"""Teacher-forced next-token prediction: the decoder's input, the loss of given targets, and their log-likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.data.batches import Batch
from retort.data.vocabulary import BOS, PAD
from retort.losses.base import Loss
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.likelihood import target_log_probs
from retort.models.autoregressive import AutoregressiveModel


def next_token_loss(model: AutoregressiveModel, batch: Batch, label_smoothing: float) -> Loss:
    """Cross entropy of the batch's targets, smoothed in training only: mean over target tokens, eos included."""
    states_btd = model(batch.source_bs, shifted_right(batch.target_bt))
    real = batch.target_bt != PAD
    target_n = batch.target_bt[real]
    smoothing = label_smoothing if model.training else 0.0
    total, plain = linear_cross_entropy(states_btd[real], model.embeddings.output, target_n, smoothing)
    return Loss(total / len(target_n), {"nll": plain / len(target_n)})


@torch.no_grad()
def next_token_log_likelihood(model: AutoregressiveModel, batch: Batch) -> Tensor:
    """log P(y | x) of each pair, eos included: nats [b]."""
    return target_log_probs(
        model(batch.source_bs, shifted_right(batch.target_bt)), model.embeddings.output, batch.target_bt
    )


def shifted_right(target_bt: Tensor) -> Tensor:
    """Decoder input: bos, then the target without its last token."""
    return torch.cat([target_bt.new_full((len(target_bt), 1), BOS), target_bt[:, :-1]], 1)
