"""Greedy search with a key-value cache, finished rows dropped as they finish.

Shape letters: b sources still decoding, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Greedy
from retort.models.autoregressive import AutoregressiveModel
from retort.search.base import NO_OUTPUT, Hypothesis, output_limit
from retort.vocabulary import BOS, EOS


@torch.inference_mode()
def search(model: AutoregressiveModel, source_bs: Tensor, options: Greedy) -> list[list[Hypothesis]]:
    """The most probable token at each step; the score is the sum of log-probabilities, eos included."""
    count, device = len(source_bs), source_bs.device
    limit_b = torch.tensor(output_limit(source_bs, options.max_ratio, model.shape.max_length), device=device)
    cache = model.start(source_bs)
    token_b = torch.full((count,), BOS, device=device)
    total_b = torch.zeros(count, device=device)
    open_rows = torch.arange(count, device=device)
    steps: list[tuple[Tensor, Tensor]] = []
    ended = torch.zeros(count, dtype=torch.long, device=device)
    truncated = torch.zeros(count, dtype=torch.bool, device=device)
    while len(open_rows):
        log_probs_bv = model.step(token_b, cache)
        log_probs_bv[:, NO_OUTPUT] = float("-inf")
        best_b, token_b = log_probs_bv.max(1)
        total_b[open_rows] += best_b
        steps.append((open_rows, token_b))
        cut_b = (len(steps) > limit_b[open_rows]) & (token_b != EOS)
        stop_b = cut_b | (token_b == EOS)
        if bool(stop_b.any()):
            ended[open_rows[stop_b]] = len(steps)
            truncated[open_rows[cut_b]] = True
            keep = (~stop_b).nonzero()[:, 0]
            open_rows, token_b = open_rows[keep], token_b[keep]
            if len(open_rows):
                cache.select(keep, keep)
    tokens_bt = torch.full((count, len(steps)), EOS, device=device)
    for position, (rows, tokens) in enumerate(steps):
        tokens_bt[rows, position] = tokens
    # the last token is eos, or the one beyond the limit
    return [
        [Hypothesis(tokens[: length - 1], score, cut, length)]
        for tokens, length, score, cut in zip(
            tokens_bt.tolist(), ended.tolist(), total_b.tolist(), truncated.tolist(), strict=True
        )
    ]
