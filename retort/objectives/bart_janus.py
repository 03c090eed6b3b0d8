"""Pre-training of a model with two modes on corrupted text (BART-JANUS: Liang et al. 2022)."""

from __future__ import annotations

from retort.config import BartJanus
from retort.data.batches import Batch
from retort.losses.base import Loss, Step
from retort.losses.corruption import corrupt
from retort.losses.joint import AUTOREGRESSIVE, AUXILIARY, PARALLEL, joint_loss
from retort.models.janus import JanusModel

PAIRS = {(AUXILIARY, PARALLEL): 1.0, (AUTOREGRESSIVE, AUXILIARY): 1.0}


def compute(model: JanusModel, batch: Batch, options: BartJanus, step: Step) -> Loss:
    """Half of the sum of three cross entropies and two divergences, a target token, eos included.

    The batch's source is its target, and is corrupted here, differently in each epoch. The masked tokens' losses are
    divided by the number of all tokens too. There is no label smoothing and no length loss.
    """
    source_bs, masked_bt = corrupt(batch.target_bt, options, step.generator)
    joint = joint_loss(
        model, source_bs, batch.target_bt, masked_bt, weights=(1, 1, 1), pairs=PAIRS, smoothing=0.0, masked_mean=False
    )
    tokens, masked = batch.target_tokens, masked_bt.sum().clamp(min=1)
    autoregressive, auxiliary, parallel = joint.nlls
    return Loss(
        joint.total / 2,
        {
            "nll": autoregressive / tokens,
            "auxiliary": auxiliary / masked,
            "parallel": parallel / masked,
            "divergence": joint.divergence / masked,
        },
    )
