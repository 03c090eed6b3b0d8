"""Mask-predict's refinement: mask the least probable tokens and predict them again (Ghazvininejad et al. 2019).

Shape letters: n rows (one per source and length candidate), t slot.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.data.vocabulary import MASK
from retort.models.parallel import ParallelModel
from retort.search.base import Hypothesis
from retort.search.length_candidates import LengthCandidates


@torch.inference_mode()
def refine(
    model: ParallelModel, source_bs: Tensor, length_beam: int, iterations: int, length_weight: float = 0.0
) -> list[list[Hypothesis]]:
    """N-best lists after T = ``iterations`` passes, in the order of ``LengthCandidates.ranked``.

    After pass i, the floor(N (1 - i / T)) least probable of a candidate's N tokens, eos included, are masked again. The
    other tokens keep their probabilities.
    """
    candidates = LengthCandidates.most_probable(model, source_bs, length_beam)
    tokens_nt = candidates.masked_slots()
    log_probs_nt = torch.zeros(tokens_nt.shape, device=source_bs.device)
    for i in range(iterations):
        masked_nt = tokens_nt == MASK
        log_probs_nt[masked_nt], tokens_nt[masked_nt] = candidates.log_probs(tokens_nt).max(-1)
        if i + 1 < iterations:
            count_n = candidates.length_n * (iterations - i - 1) // iterations
            rank_nt = log_probs_nt.masked_fill(~candidates.real_nt, 1.0).argsort(1).argsort(1)
            tokens_nt = torch.where(rank_nt < count_n[:, None], MASK, tokens_nt)
    return candidates.ranked(tokens_nt, log_probs_nt, iterations, length_weight)
