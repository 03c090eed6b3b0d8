"""Glancing for CTC (Qian et al. 2021; Gu and Kong 2021): some slots of the best alignment are revealed.

Shape letters: b batch, t slot, d width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from retort.config import GlatCtc
from retort.data.batches import Batch
from retort.data.vocabulary import BLANK, PAD
from retort.losses.base import Loss
from retort.losses.ctc_alignments import CtcTarget, best_tokens, ctc_loss, ctc_target
from retort.models.kernels import most_probable
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.ctc_slots import ctc_agreement, ctc_log_likelihood
from retort.objectives.shared.glancing import first_guess, glancing_ratio

log_likelihood, agreement = ctc_log_likelihood, ctc_agreement


def compute(model: ParallelModel, batch: Batch, options: GlatCtc, step: Step) -> Loss:
    """The CTC loss over all slots, revealed ones included: weighted mean per target token (no eos).

    ``revealed`` is the share of slots that are revealed; none are in evaluation.
    """
    encoded = model.encode(batch.source_bs)
    target = ctc_target(batch)
    given_bt = None
    revealed = torch.zeros((), device=model.device)
    if model.training:
        ratio = glancing_ratio(options, step.progress)
        given_bt, revealed = reveal(
            model,
            batch.source_bs,
            target=target,
            encoded=encoded,
            ratio=ratio,
            blanks=options.reveal == "slots",
            generator=step.generator,
        )
    layers, slots_b = model.layers_of_upsampled(batch.source_bs, *encoded, given_bt)
    loss = ctc_loss(
        layers,
        model.embeddings.output,
        target=target,
        slots_b=slots_b,
        weight_b=batch.weights,
        label_smoothing=options.label_smoothing if model.training else 0.0,
    )
    return replace(loss, parts=loss.parts | {"revealed": revealed})


@torch.no_grad()
def reveal(
    model: ParallelModel,
    source_bs: Tensor,
    target: CtcTarget,
    encoded: tuple[Tensor, Tensor],
    ratio: float,
    blanks: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The best alignment's tokens or blanks in revealed slots, PAD elsewhere [b, t]; and the share of revealed slots.

    Each slot is revealed with probability ratio x the share of the sentence's slots where the guess differs from the
    best alignment; without ``blanks``, only slots that have a token. None is where the slots cannot hold the target.
    """
    states_btd = first_guess(model, lambda: model.decode_upsampled(source_bs, *encoded)[0])
    assert model.upsampling is not None
    slots_b = model.upsampling.slots((source_bs != PAD).sum(1))
    aligned_bt, inside_bt = best_tokens(states_btd, model.embeddings.output, target=target, slots_b=slots_b)
    wrong_bt = (most_probable(states_btd, model.embeddings.output) != aligned_bt) & inside_bt
    draws_bt = torch.rand(inside_bt.shape, generator=generator).to(slots_b.device)
    allowed_bt = inside_bt if blanks else inside_bt & (aligned_bt != BLANK)
    revealed_bt = (draws_bt < ratio * (wrong_bt.sum(1) / slots_b)[:, None]) & allowed_bt
    return aligned_bt.masked_fill(~revealed_bt, PAD), revealed_bt.sum() / slots_b.sum()
