"""Predict all positions, mask the least sure ones, predict them again (mask-predict, Ghazvininejad et al. 2019).

Shape letters: b sources, c length candidates of a source, n = b * c, t position.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.models.parallel import ParallelModel, most_probable_lengths
from retort.search.base import NO_OUTPUT, Hypothesis, without_special
from retort.vocabulary import MASK, PAD


@torch.inference_mode()
def refine(model: ParallelModel, source_bs: Tensor, length_beam: int, iterations: int) -> list[list[Hypothesis]]:
    """Pass i of T re-masks the floor(N (1 - i / T)) least probable of a candidate's N tokens, eos included; the
    probabilities of the others stay as they were."""
    b = len(source_bs)
    memory_bsd, memory_bias = model.encode(source_bs)
    lengths_bc = most_probable_lengths(model, source_bs, memory_bsd, length_beam)
    c, length_n = lengths_bc.shape[1], lengths_bc.flatten()
    memory_nsd = memory_bsd.repeat_interleave(c, 0)
    bias = memory_bias.view(b, model.shape.heads, 1, -1).repeat_interleave(c, 0).flatten(0, 1)
    real_nt = torch.arange(int(length_n.max()), device=source_bs.device) < length_n[:, None]
    tokens_nt = torch.where(real_nt, MASK, PAD)
    log_probs_nt = torch.zeros(tokens_nt.shape, device=source_bs.device)
    for i in range(iterations):
        masked_nt = tokens_nt == MASK
        states_ntd = model.decode_tokens(tokens_nt, memory_nsd, bias)
        logits = model.logits(states_ntd[masked_nt]).float()
        logits[:, NO_OUTPUT] = float("-inf")
        best, token = torch.log_softmax(logits, -1).max(-1)
        tokens_nt[masked_nt], log_probs_nt[masked_nt] = token, best
        if i + 1 < iterations:
            count_n = length_n * (iterations - i - 1) // iterations
            rank_nt = log_probs_nt.masked_fill(~real_nt, 1.0).argsort(1).argsort(1)
            tokens_nt = torch.where(rank_nt < count_n[:, None], MASK, tokens_nt)
    score_n = (log_probs_nt * real_nt).sum(1) / length_n
    order_bc = score_n.view(b, c).argsort(dim=1, descending=True, stable=True).tolist()
    tokens, scores = tokens_nt.tolist(), score_n.tolist()
    return [
        [Hypothesis(without_special(tokens[i * c + j]), scores[i * c + j], False, iterations) for j in order]
        for i, order in enumerate(order_bc)
    ]
