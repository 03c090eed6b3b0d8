"""Joint training of an autoregressive and a parallel mode (Liang et al. 2022), weighted as in their released code."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Janus
from retort.data.batches import Batch
from retort.losses.base import Loss, Step
from retort.losses.joint import AUTOREGRESSIVE, AUXILIARY, PARALLEL, joint_loss
from retort.losses.length import length_loss
from retort.losses.masked import masked_log_likelihood, random_mask
from retort.losses.spans import span_mask
from retort.models.janus import JanusModel

SPAN_RATIO, SPAN_LENGTH = 0.7, 2.0
"""Of ``masking: span``: share of tokens, and mean of the Poisson distribution (released code of Liang et al.)."""


def compute(model: JanusModel, batch: Batch, options: Janus, step: Step) -> Loss:
    """See ``janus_loss``; masks are random."""
    if options.masking == "span":
        masked_bt = span_mask(batch.target_bt, SPAN_RATIO, SPAN_LENGTH, step.generator)
    else:
        masked_bt = random_mask(batch.target_bt, step.generator)
    return janus_loss(model, batch, options, masked_bt)


def janus_loss(model: JanusModel, batch: Batch, options: Janus, masked_bt: Tensor) -> Loss:
    """Mean over all tokens, eos included, for the autoregressive mode, over masked ones for the rest; plus
    length_weight times the mean over sentences of the length loss. ``nll`` is the autoregressive mode's."""
    pairs = {
        (AUTOREGRESSIVE, AUXILIARY): options.kl_autoregressive_auxiliary,
        (AUXILIARY, PARALLEL): options.kl_auxiliary_parallel,
        (AUTOREGRESSIVE, PARALLEL): options.kl_autoregressive_parallel,
    }
    smoothing = options.label_smoothing if model.training else 0.0
    weights = (options.autoregressive_weight, options.auxiliary_weight, options.parallel_weight)
    joint = joint_loss(model, batch.source_bs, batch.target_bt, masked_bt, weights, pairs, smoothing)
    length = length_loss(model, batch, joint.memory_bsd)
    tokens, masked = batch.target_tokens, masked_bt.sum()
    autoregressive, auxiliary, parallel = joint.nlls
    return Loss(
        joint.total + options.length_weight * length,
        {
            "nll": autoregressive / tokens,
            "auxiliary": auxiliary / masked,
            "parallel": parallel / masked,
            "divergence": joint.divergence / masked,
            "length": length.detach(),
        },
    )


@torch.no_grad()
def log_likelihood(model: JanusModel, batch: Batch, options: Janus) -> Tensor:
    """log P(y | x) of each pair by the parallel mode, in one pass, its length included: nats [b]."""
    return masked_log_likelihood(model, batch)
