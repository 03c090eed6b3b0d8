"""Log-probabilities of whole targets, without keeping the logits of a batch.

Shape letters: b batch, u distinct rows of states, t target position, d width, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.data.vocabulary import PAD
from retort.models.kernels import chunk_size, linear


@torch.no_grad()
def target_log_probs(states_utd: Tensor, weight_vd: Tensor, target_bt: Tensor, row_b: Tensor | None = None) -> Tensor:
    """Sum over each sentence's tokens, eos included, of log softmax(states weight'): nats, float32 [b].

    ``row_b``: each target's row of states, where several targets share one; default: target i has row i.
    """
    u, t, _ = states_utd.shape
    v = len(weight_vd)
    device = states_utd.device
    row_b = torch.arange(u, device=device) if row_b is None else row_b
    order = row_b.argsort(stable=True)
    row_b, target_bt = row_b[order], target_bt[order]
    log_probs_bt = torch.zeros(target_bt.shape, device=device)
    size = max(1, chunk_size(device) // t)
    bounds = torch.searchsorted(row_b, torch.arange(0, u + size, size, device=device)).tolist()
    for start, first, last in zip(range(0, u, size), bounds, bounds[1:], strict=False):
        logits_ctv = linear(states_utd[start : start + size], weight_vd).float()
        place_bt = (row_b[first:last, None] - start) * t + torch.arange(t, device=device)
        chosen_bt = logits_ctv.flatten().take(place_bt * v + target_bt[first:last])
        log_probs_bt[first:last] = chosen_bt - logits_ctv.logsumexp(-1).flatten().take(place_bt)
    sums_b = (log_probs_bt * (target_bt != PAD)).sum(1)
    return torch.empty_like(sums_b).scatter_(0, order, sums_b)
