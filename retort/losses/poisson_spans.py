"""Random spans of tokens with Poisson-distributed lengths (as in SpanBERT and BART).

Shape letters: b batch, t target position. Column k of a row belongs to the sentence's k-th span.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from retort.data.vocabulary import PAD
from retort.losses.masking import lowest


class Spans(NamedTuple):
    """Spans of each sentence, in random order; they may overlap. A span of length 0 is just before its start."""

    start_bt: Tensor
    length_bt: Tensor
    chosen_bt: Tensor
    """Which columns hold a span; the others have length 0 too."""


def random_spans(tokens_bt: Tensor, ratio: float, mean_length: float, generator: torch.Generator) -> Spans:
    """Spans whose lengths sum to at most ceil(ratio x tokens): the last one is cut to that sum.

    There is at most one span per token. Starts are distinct and uniform. A span that would run past the end of its
    sentence has length 1, so the sum can be smaller.
    """
    real_bt = tokens_bt != PAD
    count_b = real_bt.sum(1)
    rates_bt = torch.full(tokens_bt.shape, mean_length)
    length_bt = torch.poisson(rates_bt, generator=generator).long().to(tokens_bt.device)
    draws_bt = torch.rand(tokens_bt.shape, generator=generator).to(tokens_bt.device)
    budget_b1 = (count_b * ratio - 1e-5).ceil().long()[:, None]  # 0.3 x 10 must not round up to 4
    before_bt = length_bt.cumsum(1) - length_bt
    chosen_bt = (before_bt < budget_b1) & real_bt
    length_bt = torch.minimum(length_bt, budget_b1 - before_bt) * chosen_bt
    start_bt = draws_bt.masked_fill(~real_bt, 2.0).argsort(1)
    too_long_bt = start_bt + length_bt > count_b[:, None]
    return Spans(start_bt, length_bt.masked_fill(too_long_bt & chosen_bt, 1), chosen_bt)


def covered(spans: Spans) -> Tensor:
    """Boolean [b, t]: the tokens inside any span."""
    one_bt = spans.chosen_bt.long()
    change_bt = functional.pad(torch.zeros_like(one_bt), (0, 1))
    change_bt.scatter_add_(1, spans.start_bt, one_bt).scatter_add_(1, spans.start_bt + spans.length_bt, -one_bt)
    return change_bt.cumsum(1)[:, :-1] > 0


def span_mask(tokens_bt: Tensor, ratio: float, mean_length: float, generator: torch.Generator) -> Tensor:
    """Boolean [b, t]: the tokens inside random spans; one random token where the spans cover none."""
    masked_bt = covered(random_spans(tokens_bt, ratio, mean_length=mean_length, generator=generator))
    draws_bt = torch.rand(tokens_bt.shape, generator=generator).to(tokens_bt.device)
    return masked_bt | lowest(draws_bt, tokens_bt != PAD, (~masked_bt.any(1)).long())
