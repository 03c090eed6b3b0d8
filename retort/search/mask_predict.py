"""Mask-predict: several passes over each of the most probable lengths (Ghazvininejad et al. 2019).

Shape letters: n rows (one per source and length candidate), t slot.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from retort.config import MaskPredict
from retort.data.vocabulary import MASK
from retort.models.parallel import ParallelModel
from retort.search.base import Hypothesis
from retort.search.length_candidates import LengthCandidates, distinct


@torch.inference_mode()
def search(model: ParallelModel, source_bs: Tensor, options: MaskPredict) -> list[list[Hypothesis]]:
    """Distinct outputs after at most T = ``iterations`` passes over each of the ``length_beam`` most probable lengths,
    in the order of ``LengthCandidates.ranked``.

    After each pass i but the last, the max(1, floor(N (1 - i / T))) least probable of a candidate's N tokens, eos
    included, are masked again. The other tokens keep their probabilities. With ``confidence``, tokens at least this
    probable are not masked, and a source's passes end when none of its candidates has a mask.
    """
    iterations, confidence = options.iterations, options.confidence
    sure = math.inf if confidence is None else math.log(confidence) if confidence else -math.inf
    candidates = LengthCandidates.most_probable(model, source_bs, options.length_beam)
    tokens_nt = candidates.masked_slots()
    log_probs_nt = torch.zeros(tokens_nt.shape, device=source_bs.device)
    passes_b = torch.zeros(len(source_bs), dtype=torch.long, device=source_bs.device)
    for i in range(iterations):
        masked_nt = tokens_nt == MASK
        if confidence is not None and not masked_nt.any():
            break
        passes_b[candidates.source_n[masked_nt.any(1)]] = i + 1
        log_probs_nt[masked_nt], tokens_nt[masked_nt] = candidates.log_probs(tokens_nt, options.allow_unknown).max(-1)
        if i + 1 < iterations:
            count_n = (candidates.length_n * (iterations - i - 1) // iterations).clamp(min=1)
            rank_nt = log_probs_nt.masked_fill(~candidates.real_nt, 1.0).argsort(dim=1, stable=True).argsort(1)
            unsure_nt = (rank_nt < count_n[:, None]) & (log_probs_nt < sure)
            tokens_nt = torch.where(unsure_nt, MASK, tokens_nt)
    ranked = candidates.ranked(tokens_nt, log_probs_nt, passes=iterations, length_weight=options.length_weight)
    nbest_lists = [distinct(best) for best in ranked]
    if confidence is None:
        return nbest_lists
    return [
        [replace(h, passes=passes) for h in best] for best, passes in zip(nbest_lists, passes_b.tolist(), strict=True)
    ]
