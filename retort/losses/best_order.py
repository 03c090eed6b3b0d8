"""The best order of a target's tokens, or of its n-grams: a matching with slots (Du et al. 2021, 2022).

Shape letters: b batch, t slot, i target token, n token of an n-gram.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def best_order(log_probs_bti: Tensor, length_b: Tensor) -> Tensor:
    """Index [b, t] of the target token that the likeliest assignment of all tokens to slots gives each slot.

    A bipartite matching per sentence, on the CPU. Slots beyond a sentence's length keep their own index.
    """
    cost_bti = -log_probs_bti.cpu().numpy()
    order_bt = np.tile(np.arange(cost_bti.shape[1]), (len(cost_bti), 1))
    for cost_ti, order_t, n in zip(cost_bti, order_bt, length_b.tolist(), strict=True):
        # the training loop reports a loss that is not finite
        order_t[:n] = linear_sum_assignment(np.nan_to_num(cost_ti[:n, :n]))[1]
    return torch.from_numpy(order_bt).to(log_probs_bti.device)


def best_ngrams(log_probs_bti: Tensor, length_b: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities [b, t, n] of the tokens of the n-grams that the likeliest assignment begins in each slot, and
    the tokens that each of them stands for [b, t, n].

    A target of T tokens has T - n + 1 overlapping n-grams, each of which takes n slots in a row, and begins in another
    slot. The numbers of tokens sum to T. A shorter target is one n-gram: its own order.
    """
    t = log_probs_bti.shape[1]
    padded = functional.pad(log_probs_bti, (0, n - 1, 0, n - 1))
    ngrams_btin = torch.stack([padded[:, k : k + t, k : k + t] for k in range(n)], -1)
    count_b = (length_b - n + 1).clamp(min=1)
    order_bt = best_order(ngrams_btin.sum(-1), count_b)
    aligned_btn = ngrams_btin.gather(2, order_bt[:, :, None, None].expand(-1, -1, 1, n))[:, :, 0]
    begins_t, place_n = torch.arange(t, device=length_b.device), torch.arange(n, device=length_b.device)
    within_btn = (begins_t < count_b[:, None])[:, :, None] & (begins_t[:, None] + place_n < length_b[:, None, None])
    share_b = length_b / within_btn.sum((1, 2)).clamp(min=1)
    return aligned_btn, within_btn * share_b[:, None, None]
