"""Pre-training of a model with two modes on corrupted text (BART-JANUS: Liang et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import BartJanus
from retort.data.batches import Batch
from retort.losses.bart_corruption import corrupt
from retort.losses.base import Loss
from retort.models.janus import JanusModel
from retort.objectives.base import Step
from retort.objectives.shared.joint_modes import AUTOREGRESSIVE, AUXILIARY, PARALLEL, JointLoss, joint_loss

PAIRS = {(AUXILIARY, PARALLEL): 1.0, (AUTOREGRESSIVE, AUXILIARY): 1.0}
"""Weights of the divergences."""


def compute(model: JanusModel, batch: Batch, options: BartJanus, step: Step) -> Loss:
    """Half the sum of three cross entropies and two divergences, per target token, eos included.

    The batch's source is its target. It is corrupted here, differently in each epoch. The losses of masked tokens are
    divided by the number of all tokens, too. There is no label smoothing and no length loss.
    """
    source_bs, masked_bt = corrupt(batch.target_bt, options, step.generator)
    joint = _joint(model, batch, source_bs=source_bs, masked_bt=masked_bt)
    tokens = batch.target_tokens
    masked = masked_bt.sum().clamp(min=1)
    autoregressive, auxiliary, parallel = joint.nlls
    return Loss(
        joint.total / 2,
        {
            "nll": autoregressive / tokens,
            "auxiliary": auxiliary / masked,
            "parallel": parallel / masked,
            "divergence": joint.divergence / masked,
        },
        counts=dict.fromkeys(("auxiliary", "parallel", "divergence"), masked),
    )


@torch.no_grad()
def encoder_gap(model: JanusModel, batch: Batch, options: BartJanus, step: Step) -> Tensor:
    """Nats per token that the left-to-right mode loses where the encoder reads the batch's next text instead."""
    source_bs, masked_bt = corrupt(batch.target_bt, options, step.generator)
    own, other = (
        _joint(model, batch, source_bs=text_bs, masked_bt=masked_bt).nlls[AUTOREGRESSIVE]
        for text_bs in (source_bs, source_bs.roll(1, 0))
    )
    return (other - own) / batch.target_tokens


def _joint(model: JanusModel, batch: Batch, source_bs: Tensor, masked_bt: Tensor) -> JointLoss:
    return joint_loss(
        model,
        source_bs,
        target_bt=batch.target_bt,
        masked_bt=masked_bt,
        weights=(1, 1, 1),
        pairs=PAIRS,
        smoothing=0.0,
        masked_mean=False,
    )
