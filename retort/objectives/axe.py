"""Aligned cross entropy: the cross entropy of the best monotonic alignment (Ghazvininejad et al. 2020, section 3).

The alignment itself is in ``retort/losses/axe_alignment.py``.

Shape letters: b batch, s source position, t target position, j slot, k classes of a sentence (blank, then its own
tokens), d width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from retort.config import Axe
from retort.data.batches import Batch
from retort.data.vocabulary import BLANK, MASK, PAD
from retort.losses.axe_alignment import alignment, placements
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.masking import random_mask
from retort.losses.token_log_probs import token_log_probs, uniform_log_probs
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.predicted_length import length_log_probs, length_loss


def compute(model: ParallelModel, batch: Batch, options: Axe, step: Step) -> Loss:
    """Weighted mean aligned cross entropy per target token, eos included, plus the weighted length loss.

    Label smoothing moves its share of the loss to the cross entropy of each slot with the uniform distribution. That
    is summed over slots and also divided by the number of target tokens.
    """
    visible_bt = None
    if options.masking == "random":
        visible_bt = ~random_mask(batch.target_bt, step.generator)
    input_bj, slots_b, length_b = slot_inputs(model, batch.target_bt, visible_bt)
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    states_bjd = model.decode_tokens(input_bj, memory_bsd, memory_bias)
    tokens_bk = functional.pad(batch.target_bt, (1, 0), value=BLANK)
    log_probs_bjk = token_log_probs(states_bjd, model.embeddings.output, tokens_bk)
    weights_bjk = alignment(log_probs_bjk, slots_b, length_b=length_b, skip_target=options.skip_target)
    aligned_b = -(weights_bjk * log_probs_bjk).sum((1, 2))
    total_b = aligned_b
    if model.training and options.label_smoothing:
        uniform_bj = uniform_log_probs(
            states_bjd, model.embeddings.output, tokens_bk=tokens_bk, log_probs_btk=log_probs_bjk
        )
        uniform_b = -uniform_bj.masked_fill(input_bj == PAD, 0.0).sum(1)
        total_b = total_b + options.label_smoothing * (uniform_b - aligned_b)
    length = length_loss(model, batch, memory_bsd)
    weighted_tokens = (length_b * batch.weights).sum().clamp(min=MIN_WEIGHT)
    tokens = length_b.sum()
    aligned_tokens = (weights_bjk[:, :, 1:] > 0).any(2).sum()
    parts = {
        "nll": (aligned_b.detach() * batch.weights).sum() / weighted_tokens,
        "blanks": weights_bjk[:, :, 0].sum() / slots_b.sum(),
        "skipped": (tokens - aligned_tokens) / tokens,
    }
    total = (total_b * batch.weights).sum() / weighted_tokens
    loss = Loss(total, parts, counts={"blanks": slots_b.sum()})
    return loss.plus(options.length_weight * length, batch.weights.sum(), {"length": length.detach()})


@torch.no_grad()
def log_likelihood(model: ParallelModel, batch: Batch, options: Axe) -> Tensor:
    """log P(length | x) + log P(the slots hold the target in order, and blanks) of each pair, in one pass: nats [b].

    The probability is summed over all ways to put the target into the slots of its own length, with no target skipped.
    It is a lower bound of P(y | x), because other predicted lengths can give the same output. The aligned cross
    entropy is no probability, because it may use a slot twice. Without surplus slots this is the log-likelihood of the
    ``vanilla`` objective.
    """
    input_bj, slots_b, length_b = slot_inputs(model, batch.target_bt)
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    states_bjd = model.decode_tokens(input_bj, memory_bsd, memory_bias)
    tokens_bk = functional.pad(batch.target_bt, (1, 0), value=BLANK)
    log_probs_bjk = token_log_probs(states_bjd, model.embeddings.output, tokens_bk)
    placed_b = placements(log_probs_bjk, slots_b, length_b)
    return placed_b + length_log_probs(model, batch.source_bs, memory_bsd=memory_bsd, length_b=length_b)


def slot_inputs(
    model: ParallelModel, target_bt: Tensor, visible_bt: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Decoder input [b, j] for the slots of each target, their number [b], and its length, eos included [b].

    Slots hold visible tokens or mask. Visible token i (from 0) of n is in slot floor(i m / n) of m.
    """
    length_b = (target_bt != PAD).sum(1)
    slots_b = model.slot_count(length_b)
    width = int(model.slot_count(torch.tensor(target_bt.shape[1])))
    slot_j = torch.arange(width + 1, device=target_bt.device)
    input_bj = torch.where(slot_j < slots_b[:, None], MASK, PAD)
    if visible_bt is not None:
        place_bt = torch.arange(target_bt.shape[1], device=target_bt.device) * slots_b[:, None] // length_b[:, None]
        # tokens that are not visible, and padding, are written to an extra column
        place_bt = torch.where(visible_bt & (target_bt != PAD), place_bt, width)
        input_bj = input_bj.scatter(1, place_bt, target_bt)
    return input_bj[:, :width], slots_b, length_b
