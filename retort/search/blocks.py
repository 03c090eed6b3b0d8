"""Blocks of slots from left to right, or all slots at once: the best token in each (BANG, Qi et al. 2021).

There is no length predictor. The first eos after any text ends an output, and equal neighbours become one.

Shape letters: b sources, r rows (sources still open), p slots of a block, t slots of an output, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Blocks
from retort.data.vocabulary import BOS, EOS, PAD
from retort.models.bang import BangModel
from retort.search.base import NO_OUTPUT, Hypothesis, output_limit, without_special


@torch.inference_mode()
def search(model: BangModel, source_bs: Tensor, options: Blocks) -> list[list[Hypothesis]]:
    """One pass a block; the score is the sum of log-probabilities, eos and deleted repeats included."""
    longest = model.config.max_length
    if options.max_tokens is not None:
        longest = min(longest, options.max_tokens + 1)
    limit_b = torch.tensor(output_limit(source_bs, options.max_ratio, longest), device=source_bs.device)
    tokens_bt, log_probs_bt, passes_b = fill(model, source_bs, limit_b, options.block)
    place_t, end_b1 = torch.arange(tokens_bt.shape[1], device=source_bs.device), first_end(tokens_bt, limit_b)[:, None]
    score_b = (log_probs_bt * (place_t <= end_b1)).sum(1)
    truncated_b = tokens_bt.gather(1, end_b1)[:, 0] != EOS
    kept_bt = (place_t < end_b1) & (tokens_bt != EOS)
    if options.collapse:
        kept_bt[:, 1:] &= tokens_bt[:, 1:] != tokens_bt[:, :-1]
    columns = (tokens_bt.masked_fill(~kept_bt, PAD), score_b, truncated_b, passes_b)
    return [
        [Hypothesis(without_special(tokens), score, cut, passes)]
        for tokens, score, cut, passes in zip(*(column.tolist() for column in columns), strict=True)
    ]


def fill(model: BangModel, source_bs: Tensor, limit_b: Tensor, block: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens [b, t], eos after what was decoded, their log-probabilities, and the passes [b]. There is one slot more
    than the tokens of the longest output, for its eos."""
    b, slots, device = len(source_bs), int(limit_b.max()) + 1, source_bs.device
    block = min(block or slots, slots)
    tokens_bt = torch.full((b, slots), EOS, device=device)
    log_probs_bt = torch.zeros((b, slots), device=device)
    passes_b = torch.zeros(b, dtype=torch.long, device=device)
    cache = model.start(source_bs)
    open_r, given_rp = torch.arange(b, device=device), torch.full((b, 1), BOS, device=device)
    for start in range(0, slots, block):
        stop = min(start + block, slots)
        logits_rpv = model.logits(model.advance(given_rp, cache, stop - start)).float()
        normaliser_rp = logits_rpv.logsumexp(-1)
        logits_rpv[:, :, NO_OUTPUT] = float("-inf")
        best_rp, given_rp = logits_rpv.max(-1)
        tokens_bt[open_r, start:stop], log_probs_bt[open_r, start:stop] = given_rp, best_rp - normaliser_rp
        passes_b[open_r] += 1
        keep = (first_end(tokens_bt[open_r, :stop], limit_b[open_r]) >= stop).nonzero()[:, 0]
        if not len(keep):
            break
        if len(keep) < len(open_r):
            open_r, given_rp = open_r[keep], given_rp[keep]
            cache.select(keep, keep)
    return tokens_bt, log_probs_bt, passes_b


def first_end(tokens_bt: Tensor, limit_b: Tensor) -> Tensor:
    """Place [b] of the first eos with text before it; the limit where there is none up to there."""
    ends_bt = (tokens_bt == EOS) & ((tokens_bt != EOS).cumsum(1) > 0)
    place_t = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
    return torch.where(ends_bt, place_t, limit_b[:, None]).amin(1).minimum(limit_b)
