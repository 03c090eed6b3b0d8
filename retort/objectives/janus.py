"""Joint training of an autoregressive and a parallel mode (Liang et al. 2022); weights of the released code."""

from __future__ import annotations

from torch import Tensor

from retort.config import Janus
from retort.data.batches import Batch
from retort.losses.base import Loss
from retort.losses.masking import random_mask
from retort.losses.poisson_spans import span_mask
from retort.models.janus import JanusModel
from retort.objectives.base import Step
from retort.objectives.shared.joint_modes import AUTOREGRESSIVE, AUXILIARY, PARALLEL, joint_loss
from retort.objectives.shared.masked_targets import masked_log_likelihood
from retort.objectives.shared.predicted_length import length_loss

log_likelihood = masked_log_likelihood
"""By the parallel mode, in one pass."""

SPAN_RATIO, SPAN_LENGTH = 0.7, 2.0
"""For ``masking: span``: share of tokens, and mean of the Poisson distribution (released code of Liang et al.)."""


def compute(model: JanusModel, batch: Batch, options: Janus, step: Step) -> Loss:
    """``janus_loss`` with random masks."""
    if options.masking == "span":
        masked_bt = span_mask(batch.target_bt, ratio=SPAN_RATIO, mean_length=SPAN_LENGTH, generator=step.generator)
    else:
        masked_bt = random_mask(batch.target_bt, step.generator)
    return janus_loss(model, batch, options=options, masked_bt=masked_bt)


def janus_loss(model: JanusModel, batch: Batch, options: Janus, masked_bt: Tensor) -> Loss:
    """Weighted sum of cross entropies and divergences, plus the weighted length loss.

    The autoregressive mode's mean is over all tokens, eos included; the others' are over masked tokens. ``nll`` is the
    autoregressive mode's.
    """
    pairs = {
        (AUTOREGRESSIVE, AUXILIARY): options.kl_autoregressive_auxiliary,
        (AUXILIARY, PARALLEL): options.kl_auxiliary_parallel,
        (AUTOREGRESSIVE, PARALLEL): options.kl_autoregressive_parallel,
    }
    smoothing = options.label_smoothing if model.training else 0.0
    weights = (options.autoregressive_weight, options.auxiliary_weight, options.parallel_weight)
    joint = joint_loss(
        model,
        batch.source_bs,
        target_bt=batch.target_bt,
        masked_bt=masked_bt,
        weights=weights,
        pairs=pairs,
        smoothing=smoothing,
    )
    length = length_loss(model, batch, joint.memory_bsd)
    tokens = batch.target_tokens
    masked = masked_bt.sum()
    autoregressive, auxiliary, parallel = joint.nlls
    of_tokens = options.autoregressive_weight * autoregressive / tokens
    loss = Loss(
        joint.total,
        {
            "nll": autoregressive / tokens,
            "auxiliary": auxiliary / masked,
            "parallel": parallel / masked,
            "divergence": joint.divergence / masked,
        },
        counts=dict.fromkeys(("auxiliary", "parallel", "divergence"), masked),
        # for validation, where labels are not smoothed: the first is the mean over all tokens
        summands=((of_tokens, None), (joint.total - of_tokens, masked)),
    )
    return loss.plus(options.length_weight * length, batch.weights.sum(), {"length": length.detach()})
