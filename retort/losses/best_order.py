"""The best order of a target's tokens: a matching of tokens and slots (Du et al. 2021).

Shape letters: b batch, t slot, i target token.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


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
