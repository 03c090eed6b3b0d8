"""The best monotonic alignment of targets and slots, and the sum over all placements.

The alignment is that of aligned cross entropy (Ghazvininejad et al. 2020, section 3).

Targets are aligned with slots in order. A skipped slot must hold a blank. A skipped target is charged to the slot of
the target before it, times ``skip_target``. With A[i, j] the cost of the first i targets and j slots,

    A[i, j] = min(A[i-1, j-1] - log P_j(Y_i),                          align
                  A[i, j-1] - log P_j(blank),                          skip the prediction
                  A[i-1, j] - skip_target log P_max(j,1)(Y_i))         skip the target

where A[0, 0] = 0. On the border i = 0 only the second applies, on j = 0 only the third.

Shape letters: b batch, i target token (0 is before the first), j slot, k = i classes of a sentence (blank, then its own
tokens), s = i + j diagonal, w way into a cell.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ALIGN, SKIP_PREDICTION, SKIP_TARGET = range(3)


@torch.no_grad()
def alignment(log_probs_bjk: Tensor, slots_b: Tensor, length_b: Tensor, skip_target: float) -> Tensor:
    """Weight of each log-probability in the best alignment: [b, j, k], 0, 1 or ``skip_target``.

    Class 0 of ``log_probs`` is the blank, class i the i-th target. Entries beyond a sentence's slots and targets are
    ignored. The aligned cross entropy is minus the sum of weights times log-probabilities, so the weights are also its
    gradient. Ties are broken arbitrarily. NaN aligns like 0, so that it reaches the loss, which reports it.
    """
    log_probs_bjk = log_probs_bjk.masked_fill(log_probs_bjk.isnan(), 0.0)
    b, j, k = log_probs_bjk.shape
    ways_wsbk = _ways(log_probs_bjk, skip_target)
    # one more column, for the target before the first
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
    return _walk_back(
        functional.pad(way_sbk, (0, 0, 0, 0, 1, 0)),
        log_probs_bjk,
        slots_b=slots_b,
        length_b=length_b,
        skip_target=skip_target,
    )


def _ways(log_probs_bjk: Tensor, skip_target: float) -> Tensor:
    """Cost of the last move into each cell [w, s, b, k], by diagonals; inf where there is no such move or cell."""
    b, j, k = log_probs_bjk.shape
    cost_bkj = -log_probs_bjk.transpose(1, 2)
    ways_wbkj = log_probs_bjk.new_full((3, b, k, j + 1 + k), float("inf"))
    ways_wbkj[ALIGN, :, 1:, 1 : j + 1] = cost_bkj[:, 1:]
    ways_wbkj[SKIP_PREDICTION, :, :, 1 : j + 1] = cost_bkj[:, :1]
    ways_wbkj[SKIP_TARGET, :, 1:, 1 : j + 1] = skip_target * cost_bkj[:, 1:]
    ways_wbkj[SKIP_TARGET, :, 1:, 0] = skip_target * cost_bkj[:, 1:, 0]
    # rows that are one shorter start one column later each, so the cells of a diagonal share a column
    skewed_wbks = ways_wbkj.view(3, b, -1)[:, :, :-k].view(3, b, k, j + k)
    return skewed_wbks.permute(0, 3, 1, 2).contiguous()


def _walk_back(way_sbk: Tensor, log_probs_bjk: Tensor, slots_b: Tensor, length_b: Tensor, skip_target: float) -> Tensor:
    """Weights of the moves on the path to each sentence's last cell."""
    _, j, k = log_probs_bjk.shape
    way_bn = way_sbk.transpose(0, 1).flatten(1)
    price_w = log_probs_bjk.new_tensor([1.0, 1.0, skip_target])
    i_b, j_b = length_b, slots_b
    entries: list[Tensor] = []
    weights: list[Tensor] = []
    for _ in range(j + k - 1):
        open_b = (i_b + j_b) > 0
        way_b = way_bn.gather(1, ((i_b + j_b) * k + i_b)[:, None])[:, 0].long()
        class_b = torch.where(way_b == SKIP_PREDICTION, 0, i_b)
        entries.append((j_b - 1).clamp(min=0) * k + class_b)
        weights.append(price_w[way_b] * open_b)
        i_b = torch.where(open_b & (way_b != SKIP_PREDICTION), i_b - 1, i_b)
        j_b = torch.where(open_b & (way_b != SKIP_TARGET), j_b - 1, j_b)
    weights_bn = torch.zeros_like(log_probs_bjk).flatten(1)
    return weights_bn.scatter_add_(1, torch.stack(entries, 1), torch.stack(weights, 1)).view_as(log_probs_bjk)


def placements(log_probs_bjk: Tensor, slots_b: Tensor, length_b: Tensor) -> Tensor:
    """log of the summed probability of all ways to put the targets into the slots in order, blanks elsewhere: [b]."""
    b, j, k = log_probs_bjk.shape
    sums_bk = log_probs_bjk.new_full((b, k), float("-inf"))
    sums_bk[:, 0] = 0.0
    for slot, here_bk in enumerate(log_probs_bjk.unbind(1)):
        stay_bk = sums_bk + here_bk[:, :1]
        move_bk = sums_bk[:, :-1] + here_bk[:, 1:]
        next_bk = torch.logaddexp(stay_bk, functional.pad(move_bk, (1, 0), value=float("-inf")))
        sums_bk = torch.where((slot < slots_b)[:, None], next_bk, sums_bk)
    return sums_bk.gather(1, length_b[:, None])[:, 0]
