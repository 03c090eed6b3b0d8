"""Prefix beam search over the slots of CTC, with an n-gram model of the targets: the torch side.

Shape letters: b sources, t slots, r real slots of all sources, k candidate tokens of a slot, m candidates of all slots.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import CtcBeam
from retort.data.vocabulary import BLANK, UNK
from retort.models.parallel import ParallelModel
from retort.search.base import Hypothesis
from retort.search.candidates import most_probable
from retort.search.ngram_scores import Pruning, scorer_of
from retort.search.prefix_beam import prefix_beam


@torch.inference_mode()
def search(model: ParallelModel, source_bs: Tensor, options: CtcBeam) -> list[list[Hypothesis]]:
    """One pass; the score is that of ``prefix_beam``, in nats. Tokens that no output may hold have no probability."""
    scorer, pruning = scorer_of(options.model_dump()), Pruning.of(options.model_dump())
    states_btd, slots_b = model.decode_upsampled(source_bs, *model.encode(source_bs))
    inside_bt = torch.arange(states_btd.shape[1], device=source_bs.device) < slots_b[:, None]
    logits = model.logits(states_btd[inside_bt]).float()
    logits[:, model.forbidden if options.allow_unknown else [*model.forbidden, UNK]] = float("-inf")
    log_probs_rv = torch.log_softmax(logits, -1)
    blank_r, top_r = log_probs_rv[:, BLANK].exp().cpu().numpy(), log_probs_rv.amax(1).cpu().numpy()
    log_probs_rv[:, BLANK] = float("-inf")
    log_probs, tokens = log_probs_rv.topk(min(pruning.candidates, log_probs_rv.shape[1]), -1)
    log_prob_rk, token_rk = log_probs.cpu().numpy(), tokens.cpu().numpy()
    hypotheses, end = [], 0
    for count in slots_b.tolist():
        own = slice(end, end := end + count)
        row_m, rank_m = most_probable(log_prob_rk[own], pruning.candidates, pruning.min_share, top_r[own])
        token_m, log_prob_m = token_rk[own][row_m, rank_m], log_prob_rk[own][row_m, rank_m]
        text, score = prefix_beam(blank_r[own], row_m, token_m, log_prob_m, scorer=scorer, pruning=pruning)
        hypotheses.append([Hypothesis(text, score=score, truncated=False, passes=1)])
    return hypotheses
