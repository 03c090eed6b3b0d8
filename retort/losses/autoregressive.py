"""Next-token cross entropy of the autoregressive family."""

from __future__ import annotations

from torch import Tensor

from retort.batches import Batch
from retort.config import Autoregressive
from retort.losses.base import Loss, Step
from retort.losses.next_token import next_token_log_likelihood, next_token_loss
from retort.models.autoregressive import AutoregressiveModel


def compute(model: AutoregressiveModel, batch: Batch, options: Autoregressive, step: Step) -> Loss:
    """Mean over target tokens, eos included."""
    return next_token_loss(model, batch, options.label_smoothing)


def log_likelihood(model: AutoregressiveModel, batch: Batch, options: Autoregressive) -> Tensor:
    """log P(y | x) of each pair, eos included: nats [b]."""
    return next_token_log_likelihood(model, batch)
