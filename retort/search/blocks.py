"""Blocks of slots from left to right, or all slots at once: the most probable token in each (BANG, Qi et al. 2021).

There is no length predictor: an output ends at the first eos that follows text. Equal neighbours may be merged.

Shape letters: b sources, r rows (open sources), p slots of a block, t slots of an output, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retort.config import Blocks
from retort.data.vocabulary import BOS, EOS, PAD
from retort.models.bang import BangModel
from retort.search.base import Hypothesis, no_output, output_limits
from retort.search.tokens import of_text, text_of


@torch.inference_mode()
def search(model: BangModel, source_bs: Tensor, options: Blocks) -> list[list[Hypothesis]]:
    """One pass per block; the score is the sum of log-probabilities (nats), including eos and merged repeats, less
    ``token_bonus`` for eos."""
    longest = model.config.max_length
    if options.max_tokens is not None:
        longest = min(longest, options.max_tokens + 1)
    limit_b = torch.tensor(output_limits(source_bs, options.max_ratio, longest), device=source_bs.device)
    tokens_bt, log_probs_bt, passes_b = fill(
        model,
        source_bs,
        limit_b=limit_b,
        block=options.block,
        impossible=no_output(options),
        token_bonus=options.token_bonus,
    )
    place_t = torch.arange(tokens_bt.shape[1], device=source_bs.device)
    end_b1 = first_end(tokens_bt, limit_b)[:, None]
    score_b = (log_probs_bt * (place_t <= end_b1)).sum(1)
    truncated_b = tokens_bt.gather(1, end_b1)[:, 0] != EOS
    text_bt = (place_t < end_b1) & (tokens_bt != EOS)
    if options.collapse:
        text_bt[:, 1:] &= tokens_bt[:, 1:] != tokens_bt[:, :-1]
    columns = (tokens_bt.masked_fill(~text_bt, PAD), score_b, truncated_b, passes_b, log_probs_bt)
    return [
        [Hypothesis(text_of(tokens), score, truncated=truncated, passes=passes, log_probs=of_text(tokens, log_probs))]
        for tokens, score, truncated, passes, log_probs in zip(*(column.tolist() for column in columns), strict=True)
    ]


def fill(
    model: BangModel,
    source_bs: Tensor,
    limit_b: Tensor,
    block: int | None,
    impossible: Sequence[int],
    token_bonus: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens [b, t] with eos after the last decoded slot, their log-probabilities [b, t] (nats, less ``token_bonus``
    for eos), and the passes [b].

    ``limit_b``: length limits in tokens; t is the largest plus 1, for eos. ``block``: slots per pass, None: all.
    ``impossible``: ids that no slot holds.
    ``token_bonus``: nats that text is preferred to eos by.
    """
    b = len(source_bs)
    slots = int(limit_b.max()) + 1
    device = source_bs.device
    block = min(block or slots, slots)
    tokens_bt = torch.full((b, slots), EOS, device=device)
    log_probs_bt = torch.zeros((b, slots), device=device)
    passes_b = torch.zeros(b, dtype=torch.long, device=device)
    cache = model.start(source_bs)
    open_r = torch.arange(b, device=device)
    last_rp = torch.full((b, 1), BOS, device=device)
    for start in range(0, slots, block):
        stop = min(start + block, slots)
        logits_rpv = model.logits(model.advance(last_rp, cache, stop - start)).float()
        normaliser_rp = logits_rpv.logsumexp(-1)
        logits_rpv[:, :, impossible] = float("-inf")
        logits_rpv[:, :, EOS] -= token_bonus
        best_rp, last_rp = logits_rpv.max(-1)
        tokens_bt[open_r, start:stop] = last_rp
        log_probs_bt[open_r, start:stop] = best_rp - normaliser_rp
        passes_b[open_r] += 1
        keep = (first_end(tokens_bt[open_r, :stop], limit_b[open_r]) >= stop).nonzero()[:, 0]
        if not len(keep):
            break
        if len(keep) < len(open_r):
            open_r, last_rp = open_r[keep], last_rp[keep]
            cache.select(keep, keep)
    return tokens_bt, log_probs_bt, passes_b


def first_end(tokens_bt: Tensor, limit_b: Tensor) -> Tensor:
    """Position [b] of the first eos that follows text; the limit if there is none before it."""
    ends_bt = (tokens_bt == EOS) & ((tokens_bt != EOS).cumsum(1) > 0)
    place_t = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
    return torch.where(ends_bt, place_t, limit_b[:, None]).amin(1).minimum(limit_b)
