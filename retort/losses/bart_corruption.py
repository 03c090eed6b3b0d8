"""Corruption of monolingual text for pre-training: BART (Lewis et al. 2020) with the two kinds of spans of BART-JANUS
(Liang et al. 2022).

A span to predict becomes one mask in the encoder's input; a span to copy stays there. Both kinds are masked for the
decoder. A span of length 0 inserts a mask into the encoder's input and masks nothing.

Shape letters: b batch, t target position, s source position. Column k of a row belongs to the sentence's k-th span.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import BartJanus
from retort.data.batches import LENGTH_STEP, round_up
from retort.data.vocabulary import EOS, MASK, PAD
from retort.losses.poisson_spans import Spans, covered, random_spans


def corrupt(tokens_bt: Tensor, options: BartJanus, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The encoder's input [b, s], and which tokens are masked for the decoder: boolean [b, t], never eos."""
    text_bt = tokens_bt.masked_fill(tokens_bt == EOS, PAD)
    spans = random_spans(text_bt, options.mask_ratio, mean_length=options.span_length, generator=generator)
    draws_bt = torch.rand(tokens_bt.shape, generator=generator).to(tokens_bt.device)
    source_bs = infilled(tokens_bt, spans, draws_bt < 0.5)
    draws_2b = torch.rand((2, len(tokens_bt)), generator=generator).to(tokens_bt.device)
    return rotated(source_bs, draws_2b[0] < options.rotate, draws_2b[1]), covered(spans)


def infilled(tokens_bt: Tensor, spans: Spans, predict_bt: Tensor) -> Tensor:
    """The encoder's input [b, s]; ``predict_bt`` tells which spans to predict.

    A span that begins inside another span has no mask of its own. Masks are inserted only where the sentence does not
    grow beyond its original length, so that the longest sentence still fits.
    """
    predicted = Spans(spans.start_bt, spans.length_bt, spans.chosen_bt & predict_bt & (spans.length_bt > 0))
    rest = Spans(spans.start_bt + 1, spans.length_bt - 1, predicted.chosen_bt)
    inside_bt = covered(rest)
    begins_bt = torch.zeros_like(inside_bt).scatter_(1, spans.start_bt, predicted.chosen_bt) & ~inside_bt
    body_bt = tokens_bt.masked_fill(covered(predicted), PAD).masked_fill(begins_bt, MASK)
    empty_bt = spans.chosen_bt & (spans.length_bt == 0)
    inserted_bt = torch.zeros_like(inside_bt).scatter_(1, spans.start_bt, empty_bt) & ~inside_bt
    inserted_bt &= ((body_bt != PAD).sum(1) + inserted_bt.sum(1) <= (tokens_bt != PAD).sum(1))[:, None]
    both_bs = torch.stack([torch.where(inserted_bt, MASK, PAD), body_bt], 2).flatten(1)
    order_bs = (both_bs == PAD).long().argsort(dim=1, stable=True)
    width = round_up(int((both_bs != PAD).sum(1).max()), LENGTH_STEP)
    return both_bs.gather(1, order_bs[:, :width])


def rotated(source_bs: Tensor, chosen_b: Tensor, draws_b: Tensor) -> Tensor:
    """The chosen sources rotated: they begin with another token, and their first tokens move to the end, before eos."""
    length_b1 = ((source_bs != PAD).sum(1) - 1)[:, None]
    offset_b1 = 1 + (draws_b[:, None] * (length_b1 - 1)).long()
    place_s = torch.arange(source_bs.shape[1], device=source_bs.device)
    from_bs = torch.where(
        (place_s < length_b1) & chosen_b[:, None], (place_s + offset_b1) % length_b1.clamp(min=1), place_s
    )
    return source_bs.gather(1, from_bs)
