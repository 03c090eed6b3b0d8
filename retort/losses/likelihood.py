"""Log-probabilities of whole targets, without keeping the logits of a batch.

Shape letters: b batch, t target position, n positions that count, d width, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from retort.losses.cross_entropy import CHUNK, CUDA_CHUNK
from retort.vocabulary import PAD


@torch.no_grad()
def target_log_probs(states_btd: Tensor, weight_vd: Tensor, target_bt: Tensor) -> Tensor:
    """Sum over each sentence's tokens, eos included, of log softmax(states weight'): nats, float32 [b]."""
    real_bt = target_bt != PAD
    states_nd, target_n = states_btd[real_bt], target_bt[real_bt]
    chunk = CHUNK if states_nd.device.type == "cpu" else CUDA_CHUNK
    log_probs_bt = torch.zeros(target_bt.shape, device=states_btd.device)
    log_probs_n = []
    for start in range(0, len(states_nd), chunk):
        logits = functional.linear(states_nd[start : start + chunk], weight_vd).float()
        chosen = logits.gather(1, target_n[start : start + chunk, None])[:, 0]
        log_probs_n.append(chosen - logits.logsumexp(-1))
    log_probs_bt[real_bt] = torch.cat(log_probs_n)
    return log_probs_bt.sum(1)
