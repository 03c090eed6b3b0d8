"""Left-to-right decoding of one output per source, with a cache; rows leave the batch as they finish.

Shape letters: b sources (in the loop: open sources), v vocabulary, t position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retort.data.vocabulary import BOS, EOS
from retort.models.autoregressive import AutoregressiveModel
from retort.search.base import NO_OUTPUT, restrict

Choose = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Selects the next token from log-probabilities [b, v]; returns its log-probability [b] and its id [b]."""


@dataclass(frozen=True)
class Outputs:
    """One output per source."""

    tokens_bt: Tensor
    """Token ids, with eos after the end."""
    length_b: Tensor
    """Number of tokens, the last of which is eos or the one after the limit."""
    score_b: Tensor
    """Sum of the log-probabilities, in nats."""
    truncated_b: Tensor
    """Whether the output hit its limit."""


@torch.no_grad()
def forced_log_probs(model: Any, source_bs: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Log-probability [b, t] of each source's target tokens in nats, eos after the last one; 0 after eos.

    ``model`` decodes from left to right.
    """
    lengths_b = torch.tensor([len(target) + 1 for target in targets], device=source_bs.device)
    target_bt = torch.full((len(targets), int(lengths_b.max())), EOS, device=source_bs.device)
    for row, target in enumerate(targets):
        target_bt[row, : len(target)] = torch.tensor(target, dtype=torch.long, device=source_bs.device)
    cache = model.start(source_bs)
    token_b = torch.full((len(targets),), BOS, device=source_bs.device)
    log_probs = []
    for target_b in target_bt.unbind(1):
        log_probs.append(model.step(token_b, cache).gather(1, target_b[:, None])[:, 0])
        token_b = target_b
    place_t = torch.arange(target_bt.shape[1], device=source_bs.device)
    return torch.stack(log_probs, 1).masked_fill(place_t >= lengths_b[:, None], 0.0)


def best_token(log_probs_bv: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable token, as in greedy search."""
    return log_probs_bv.max(1)


@torch.no_grad()
def extend(
    model: AutoregressiveModel,
    source_bs: Tensor,
    limits: list[int],
    choose: Choose = best_token,
    prefix_bt: Tensor | None = None,
    impossible: Sequence[int] = NO_OUTPUT,
) -> Outputs:
    """Outputs of at most ``limits`` tokens, without eos: first the prefix, then the tokens that ``choose`` selects,
    none of which is ``impossible``."""
    count = len(source_bs)
    device = source_bs.device
    limit_b = torch.tensor(limits, device=device)
    cache = model.start(source_bs)
    token_b = torch.full((count,), BOS, device=device)
    total_b = torch.zeros(count, device=device)
    open_rows = torch.arange(count, device=device)
    steps: list[tuple[Tensor, Tensor]] = []
    length_b = torch.zeros(count, dtype=torch.long, device=device)
    truncated_b = torch.zeros(count, dtype=torch.bool, device=device)
    while len(open_rows):
        log_probs_bv = model.step(token_b, cache)
        given_b = None
        if prefix_bt is not None and len(steps) < prefix_bt.shape[1]:
            given_b = prefix_bt[open_rows, len(steps)]
        restrict(log_probs_bv, impossible, given_b)
        best_b, token_b = choose(log_probs_bv)
        total_b[open_rows] += best_b
        steps.append((open_rows, token_b))
        cut_b = (len(steps) > limit_b[open_rows]) & (token_b != EOS)
        stop_b = cut_b | (token_b == EOS)
        if bool(stop_b.any()):
            length_b[open_rows[stop_b]] = len(steps)
            truncated_b[open_rows[cut_b]] = True
            keep = (~stop_b).nonzero()[:, 0]
            open_rows, token_b = open_rows[keep], token_b[keep]
            if len(open_rows):
                cache.select(keep, keep)
    tokens_bt = torch.full((count, len(steps)), EOS, device=device)
    for position, (rows, tokens) in enumerate(steps):
        tokens_bt[rows, position] = tokens
    return Outputs(tokens_bt=tokens_bt, length_b=length_b, score_b=total_b, truncated_b=truncated_b)
