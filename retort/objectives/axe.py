"""Aligned cross entropy: the cross entropy of the best monotonic alignment (Ghazvininejad et al. 2020, section 3).

Targets are aligned with slots in order. A slot that is left out must hold a blank; a target that is left out is charged
to the slot of the target before it, times ``skip_target``. With A[i, j] the value of i targets and j slots,

    A[i, j] = min(A[i-1, j-1] - log P_j(Y_i),                          align
                  A[i, j-1] - log P_j(blank),                          skip the prediction
                  A[i-1, j] - skip_target log P_max(j,1)(Y_i))         skip the target

where A[0, 0] = 0 and only the first and the second, or the third, apply on the borders i = 0 and j = 0.

Shape letters: b batch, i target token (0 is before the first), j slot, k = i classes of a sentence (blank, then its own
tokens), s = i + j diagonal, w way into a cell.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from retort.config import Axe
from retort.data.batches import Batch
from retort.data.vocabulary import BLANK, MASK, PAD
from retort.losses.base import LEAST_WEIGHT, Loss, Step
from retort.losses.gathered import gathered_log_probs, uniform_log_probs
from retort.losses.length import length_log_probs, length_loss
from retort.losses.masked import random_mask
from retort.models.parallel import ParallelModel

ALIGN, SKIP_PREDICTION, SKIP_TARGET = range(3)


def compute(model: ParallelModel, batch: Batch, options: Axe, step: Step) -> Loss:
    """Aligned cross entropy a target token, eos included, plus length_weight times the length loss.

    Label smoothing takes its share from the aligned cross entropy and gives it to the cross entropy of each slot with
    the uniform distribution, summed over slots and divided by the target tokens as well.
    """
    visible_bt = None
    if options.masking == "random":
        visible_bt = ~random_mask(batch.target_bt, step.generator)
    input_bj, slots_b, length_b = slot_inputs(model, batch.target_bt, visible_bt)
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    states_bjd = model.decode_tokens(input_bj, memory_bsd, memory_bias)
    tokens_bk = functional.pad(batch.target_bt, (1, 0), value=BLANK)
    log_probs_bjk = gathered_log_probs(states_bjd, model.embeddings.output, tokens_bk)
    weights_bjk = alignment(log_probs_bjk, slots_b, length_b, options.skip_target)
    aligned_b = -(weights_bjk * log_probs_bjk).sum((1, 2))
    total_b = aligned_b
    if model.training and options.label_smoothing:
        uniform_bj = uniform_log_probs(states_bjd, model.embeddings.output, tokens_bk, log_probs_bjk)
        uniform_b = -uniform_bj.masked_fill(input_bj == PAD, 0.0).sum(1)
        total_b = total_b + options.label_smoothing * (uniform_b - aligned_b)
    length = length_loss(model, batch, memory_bsd)
    counted = (length_b * batch.weights).sum().clamp(min=LEAST_WEIGHT)
    tokens, used = length_b.sum(), (weights_bjk[:, :, 1:] > 0).any(2).sum()
    parts = {
        "nll": (aligned_b.detach() * batch.weights).sum() / counted,
        "length": length.detach(),
        "blanks": weights_bjk[:, :, 0].sum() / slots_b.sum(),
        "skipped": (tokens - used) / tokens,
    }
    return Loss((total_b * batch.weights).sum() / counted + options.length_weight * length, parts)


@torch.no_grad()
def log_likelihood(model: ParallelModel, batch: Batch, options: Axe) -> Tensor:
    """log P(length | x) + log P(the slots hold the target in order, and blanks) of each pair, in one pass: nats [b].

    The sum over all ways to put the target into the slots of its own length, with no target skipped. It is a lower
    bound of log P(y | x), to which other predicted lengths add; the aligned cross entropy is no probability, as it may
    use a slot twice. Without surplus slots it is the log-likelihood of the ``vanilla`` objective.
    """
    input_bj, slots_b, length_b = slot_inputs(model, batch.target_bt)
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    states_bjd = model.decode_tokens(input_bj, memory_bsd, memory_bias)
    tokens_bk = functional.pad(batch.target_bt, (1, 0), value=BLANK)
    log_probs_bjk = gathered_log_probs(states_bjd, model.embeddings.output, tokens_bk)
    placed_b = placements(log_probs_bjk, slots_b, length_b)
    return placed_b + length_log_probs(model, batch.source_bs, memory_bsd, length_b)


def slot_inputs(
    model: ParallelModel, target_bt: Tensor, visible_bt: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Decoder input [b, j] for the slots of each target, their number [b], and its length, eos included [b].

    All slots hold mask but those of visible tokens: token i (from 0) of n stands in slot floor(i m / n) of m.
    """
    length_b = (target_bt != PAD).sum(1)
    slots_b = model.slot_count(length_b)
    width = int(model.slot_count(torch.tensor(target_bt.shape[1])))
    slot_j = torch.arange(width + 1, device=target_bt.device)
    input_bj = torch.where(slot_j < slots_b[:, None], MASK, PAD)
    if visible_bt is not None:
        place_bt = torch.arange(target_bt.shape[1], device=target_bt.device) * slots_b[:, None] // length_b[:, None]
        # what is not visible, padding included, goes to the column beyond the slots
        place_bt = torch.where(visible_bt & (target_bt != PAD), place_bt, width)
        input_bj = input_bj.scatter(1, place_bt, target_bt)
    return input_bj[:, :width], slots_b, length_b


@torch.no_grad()
def alignment(log_probs_bjk: Tensor, slots_b: Tensor, length_b: Tensor, skip_target: float) -> Tensor:
    """How often the best alignment is charged with each log-probability: [b, j, k], 0, 1 or ``skip_target``.

    Class 0 of ``log_probs`` is the blank, class i the i-th target. What lies beyond a sentence's slots and targets does
    not matter. The aligned cross entropy is minus the sum of weights times log-probabilities, and this its gradient;
    of equally good alignments one is taken.
    """
    b, j, k = log_probs_bjk.shape
    ways_wsbk = _ways(log_probs_bjk, skip_target)
    # one column more, for the target before the first
    values = [log_probs_bjk.new_full((b, k + 1), float("inf")) for _ in range(2)]
    values[1][:, 1] = 0.0
    for align_bk, prediction_bk, target_bk in ways_wsbk[:, 1:].unbind(1):
        two, one = values[-2:]
        best_bk = torch.minimum(one[:, 1:] + prediction_bk, one[:, :-1] + target_bk)
        values.append(functional.pad(torch.minimum(best_bk, two[:, :-1] + align_bk), (1, 0), value=float("inf")))
    value_sbk = torch.stack(values)
    align_sbk = ways_wsbk[ALIGN, 1:] + value_sbk[:-2, :, :-1]
    prediction_sbk = ways_wsbk[SKIP_PREDICTION, 1:] + value_sbk[1:-1, :, 1:]
    target_sbk = ways_wsbk[SKIP_TARGET, 1:] + value_sbk[1:-1, :, :-1]
    # several times faster than argmin
    skip_sbk = (align_sbk > torch.minimum(prediction_sbk, target_sbk)).byte()
    way_sbk = skip_sbk * (SKIP_PREDICTION + (prediction_sbk > target_sbk).byte())
    return _walk_back(functional.pad(way_sbk, (0, 0, 0, 0, 1, 0)), log_probs_bjk, slots_b, length_b, skip_target)


def _ways(log_probs_bjk: Tensor, skip_target: float) -> Tensor:
    """What the last move into each cell costs [w, s, b, k], by diagonals; inf where there is no such move or cell."""
    b, j, k = log_probs_bjk.shape
    cost_bkj = -log_probs_bjk.transpose(1, 2)
    ways_wbkj = log_probs_bjk.new_full((3, b, k, j + 1 + k), float("inf"))
    ways_wbkj[ALIGN, :, 1:, 1 : j + 1] = cost_bkj[:, 1:]
    ways_wbkj[SKIP_PREDICTION, :, :, 1 : j + 1] = cost_bkj[:, :1]
    ways_wbkj[SKIP_TARGET, :, 1:, 1 : j + 1] = skip_target * cost_bkj[:, 1:]
    ways_wbkj[SKIP_TARGET, :, 1:, 0] = skip_target * cost_bkj[:, 1:, 0]
    # read with rows that are one shorter, row i starts i columns later: cells of one diagonal share a column
    skewed_wbks = ways_wbkj.view(3, b, -1)[:, :, :-k].view(3, b, k, j + k)
    return skewed_wbks.permute(0, 3, 1, 2).contiguous()


def _walk_back(way_sbk: Tensor, log_probs_bjk: Tensor, slots_b: Tensor, length_b: Tensor, skip_target: float) -> Tensor:
    """The weights of the moves that lead to each sentence's last cell."""
    _, j, k = log_probs_bjk.shape
    way_bn = way_sbk.transpose(0, 1).flatten(1)
    price_w = log_probs_bjk.new_tensor([1.0, 1.0, skip_target])
    i_b, j_b = length_b, slots_b
    entries, weights = [], []
    for _ in range(j + k - 1):
        open_b = (i_b + j_b) > 0
        way_b = way_bn.gather(1, ((i_b + j_b) * k + i_b)[:, None])[:, 0].long()
        class_b = torch.where(way_b == SKIP_PREDICTION, 0, i_b)
        entries.append((j_b - 1).clamp(min=0) * k + class_b)
        weights.append(price_w[way_b] * open_b)
        i_b = torch.where(open_b & (way_b != SKIP_PREDICTION), i_b - 1, i_b)
        j_b = torch.where(open_b & (way_b != SKIP_TARGET), j_b - 1, j_b)
    found_bn = torch.zeros_like(log_probs_bjk).flatten(1)
    return found_bn.scatter_add_(1, torch.stack(entries, 1), torch.stack(weights, 1)).view_as(log_probs_bjk)


def placements(log_probs_bjk: Tensor, slots_b: Tensor, length_b: Tensor) -> Tensor:
    """log of the summed probability of all ways to put the targets into the slots in order, blanks elsewhere: [b]."""
    b, j, k = log_probs_bjk.shape
    found_bk = log_probs_bjk.new_full((b, k), float("-inf"))
    found_bk[:, 0] = 0.0
    for slot, here_bk in enumerate(log_probs_bjk.unbind(1)):
        stay_bk, move_bk = found_bk + here_bk[:, :1], found_bk[:, :-1] + here_bk[:, 1:]
        next_bk = torch.logaddexp(stay_bk, functional.pad(move_bk, (1, 0), value=float("-inf")))
        found_bk = torch.where((slot < slots_b)[:, None], next_bk, found_bk)
    return found_bk.gather(1, length_b[:, None])[:, 0]
