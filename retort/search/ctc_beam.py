"""Prefix beam search over the slots of CTC, with an n-gram model of the targets: the torch side.

Shape letters: b sources, t slots, r real slots of all sources, k candidate tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from retort.config import CtcBeam
from retort.data.vocabulary import BLANK, BOS, EOS, MASK, PAD, UNK
from retort.models.parallel import ParallelModel
from retort.search.base import Hypothesis
from retort.search.ngram_scores import scorer_of
from retort.search.prefix_beam import prefix_beam, without_sure_blanks

FORBIDDEN = [PAD, BOS, EOS, MASK]


@torch.inference_mode()
def search(model: ParallelModel, source_bs: Tensor, options: CtcBeam) -> list[list[Hypothesis]]:
    """One pass; the score is that of ``prefix_beam``, in nats. Tokens that no output may hold have no probability."""
    scorer = scorer_of(options.model_dump())
    states_btd, slots_b = model.decode_upsampled(source_bs, *model.encode(source_bs))
    inside_bt = (torch.arange(states_btd.shape[1], device=source_bs.device) < slots_b[:, None]).cpu().numpy()
    logits = model.logits(states_btd[torch.from_numpy(inside_bt).to(source_bs.device)]).float()
    logits[:, FORBIDDEN if options.allow_unknown else [*FORBIDDEN, UNK]] = float("-inf")
    probs_rv = torch.softmax(logits, -1)
    blank_r = probs_rv[:, BLANK].clone()
    probs_rv[:, BLANK] = 0.0
    probs_rk, tokens_rk = probs_rv.topk(min(options.candidates, probs_rv.shape[1]), -1)
    blank_bt = np.ones(inside_bt.shape)
    probs_btk = np.zeros((*inside_bt.shape, probs_rk.shape[1]))
    tokens_btk = np.full(probs_btk.shape, PAD)
    blank_bt[inside_bt], probs_btk[inside_bt] = blank_r.cpu().numpy(), probs_rk.cpu().numpy()
    tokens_btk[inside_bt] = tokens_rk.cpu().numpy()
    texts, score_b = prefix_beam(without_sure_blanks(blank_bt, tokens_btk, probs_btk), scorer, options.beam_size)
    return [
        [Hypothesis(tokens, score=score, truncated=False, passes=1)]
        for tokens, score in zip(texts, score_b.tolist(), strict=True)
    ]
