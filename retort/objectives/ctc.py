"""Connectionist temporal classification (Graves et al. 2006) over upsampled source positions."""

from __future__ import annotations

from torch import Tensor

from retort.config import Ctc
from retort.data.batches import Batch
from retort.losses.base import Loss, Step
from retort.losses.ctc_alignments import ctc_agreement, ctc_log_likelihood, ctc_loss, ctc_target
from retort.models.parallel import ParallelModel


def compute(model: ParallelModel, batch: Batch, options: Ctc, step: Step) -> Loss:
    """Mean over the target tokens (no eos) of the sentences whose slots can hold their target; the others are
    counted."""
    layers, slots_b = model.layers_of_upsampled(batch.source_bs, *model.encode(batch.source_bs))
    return ctc_loss(model, ctc_target(batch), layers, slots_b, batch.weights)


def log_likelihood(model: ParallelModel, batch: Batch, options: Ctc) -> Tensor:
    """log P(y | x) of each pair: nats [b]; -inf where the target does not fit into the slots."""
    return ctc_log_likelihood(model, batch)


def agreement(model: ParallelModel, batch: Batch, options: Ctc) -> Tensor:
    """Share of each sentence's slots that are as in the target's best alignment: [b]."""
    return ctc_agreement(model, batch)
