"""Connectionist temporal classification (Graves et al. 2006) over upsampled source positions."""

from __future__ import annotations

from retort.config import Ctc
from retort.data.batches import Batch
from retort.losses.base import Loss
from retort.losses.ctc_alignments import ctc_loss, ctc_target
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.ctc_slots import ctc_agreement, ctc_log_likelihood

log_likelihood, agreement = ctc_log_likelihood, ctc_agreement


def compute(model: ParallelModel, batch: Batch, options: Ctc, step: Step) -> Loss:
    """Weighted mean per target token (no eos), over the sentences whose slots can hold their target.

    The other sentences are counted as ``infeasible``.
    """
    layers, slots_b = model.layers_of_upsampled(batch.source_bs, *model.encode(batch.source_bs))
    return ctc_loss(
        layers,
        model.embeddings.output,
        target=ctc_target(batch),
        slots_b=slots_b,
        weight_b=batch.weights,
        label_smoothing=options.label_smoothing if model.training else 0.0,
    )
