"""Glancing for CTC (Qian et al. 2021; Gu and Kong 2021): slots of the best alignment are revealed.

Shape letters: b batch, t slot, d width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import GlatCtc
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import Loss, Step
from retort.losses.ctc_alignments import CtcTarget, best_tokens, ctc_agreement, ctc_log_likelihood, ctc_loss, ctc_target
from retort.losses.glancing import first_guess, glancing_ratio
from retort.models.kernels import most_probable
from retort.models.parallel import ParallelModel


def compute(model: ParallelModel, batch: Batch, options: GlatCtc, step: Step) -> Loss:
    """The CTC loss over all slots, revealed ones included: mean over target tokens (no eos).

    ``revealed`` is the share of slots that were; none are in evaluation.
    """
    encoded, target = model.encode(batch.source_bs), ctc_target(batch)
    given_bt, revealed = None, torch.zeros((), device=model.device)
    if model.training:
        ratio = glancing_ratio(options, step.progress)
        given_bt, revealed = glanced(model, batch.source_bs, target, encoded, ratio, step.generator)
    layers, slots_b = model.layers_of_upsampled(batch.source_bs, *encoded, given_bt)
    loss = ctc_loss(model, target, layers, slots_b, batch.weights)
    return Loss(loss.total, loss.parts | {"revealed": revealed})


def log_likelihood(model: ParallelModel, batch: Batch, options: GlatCtc) -> Tensor:
    """log P(y | x) of each pair, nothing revealed: nats [b]; -inf where the target does not fit into the slots."""
    return ctc_log_likelihood(model, batch)


def agreement(model: ParallelModel, batch: Batch, options: GlatCtc) -> Tensor:
    """Share of each sentence's slots that are as in the target's best alignment, nothing revealed: [b]."""
    return ctc_agreement(model, batch)


@torch.no_grad()
def glanced(
    model: ParallelModel,
    source_bs: Tensor,
    target: CtcTarget,
    encoded: tuple[Tensor, Tensor],
    ratio: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Tokens or blanks of the best alignment in the revealed slots, pad in the others [b, t], and the share of the
    slots that are revealed.

    Each slot of a sentence is revealed with probability ratio x share of its slots where the guess differs from the
    best alignment; none where the target does not fit.
    """
    states_btd = first_guess(model, lambda: model.decode_upsampled(source_bs, *encoded)[0])
    slots_b = model.upsampling * (source_bs != PAD).sum(1)
    aligned_bt, inside_bt = best_tokens(model, target, states_btd, slots_b)
    wrong_bt = (most_probable(states_btd, model.embeddings.output) != aligned_bt) & inside_bt
    draws_bt = torch.rand(inside_bt.shape, generator=generator).to(slots_b.device)
    revealed_bt = (draws_bt < ratio * (wrong_bt.sum(1) / slots_b)[:, None]) & inside_bt
    return aligned_bt.masked_fill(~revealed_bt, PAD), revealed_bt.sum() / slots_b.sum()
