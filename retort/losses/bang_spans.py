"""Text with one masked span per block, for the pre-training of BANG (Qi et al. 2021; released code).

The encoder receives the text with corrupted spans. The decoder receives only the spans, one after another, at their
true positions. Within a span, stream s predicts every token that has at least s tokens of the span before it, and does
not see the last s of these.

Shape letters: b batch, t target position, k block of a text, l token of a span, m masked tokens of a text, p slots.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from retort.config import BangPretraining
from retort.data.batches import LENGTH_STEP, round_up
from retort.data.vocabulary import BLANK, MASK, PAD
from retort.models.bang import Slots

UNCHANGED, RANDOM = 0.1, 0.1
"""Shares of the masked tokens that the encoder receives unchanged, and as a random token. The rest are masks (as in
BERT)."""


class Masked(NamedTuple):
    """Masked tokens of each text, from left to right, then padding."""

    place_bm: Tensor
    """Their positions in the text."""
    present_bm: Tensor
    """False for padding."""


class Diagonals(NamedTuple):
    """All slots in which the tokens of the spans are predicted."""

    slots: Slots
    present_bp: Tensor
    """False for padding."""
    index_p: Tensor
    """Index of the masked token that a slot predicts."""
    offset_p: Tensor
    """Tokens of the span before that token."""
    stream_p: Tensor
    """How many of these the slot does not see."""


def span_length(options: BangPretraining, tokens: int) -> int:
    """Tokens of the span in a block of ``tokens`` tokens."""
    return max(1, int(options.mask_ratio * tokens + 1e-5))  # 0.7 x 90 must not round down to 62


def random_spans(tokens_bt: Tensor, options: BangPretraining, generator: torch.Generator) -> Masked:
    """One span per ``span_block`` consecutive tokens, at a uniformly random place; eos is in no block.

    A shorter last block has a span of the same share, at least one token.
    """
    size, longest = options.span_block, span_length(options, options.span_block)
    text_b = (tokens_bt != PAD).sum(1) - 1
    start_k = torch.arange(0, tokens_bt.shape[1], size, device=tokens_bt.device)
    size_bk = (text_b[:, None] - start_k).clamp(0, size)
    length_bk = (options.mask_ratio * size_bk.double() + 1e-5).long().clamp(min=1).minimum(size_bk)
    draws_bk = torch.rand(size_bk.shape, generator=generator).to(tokens_bt.device)
    first_bk = start_k + (draws_bk * (size_bk - length_bk + 1)).long()
    token_l = torch.arange(longest, device=tokens_bt.device)
    place_bm = (first_bk[:, :, None] + token_l).flatten(1)
    # only the last block of a text can have a shorter span
    present_bm = (token_l < length_bk[:, :, None]).flatten(1)
    most = _rounded(present_bm)
    return Masked(place_bm[:, :most].clamp(max=tokens_bt.shape[1] - 1), present_bm[:, :most])


def corrupt(tokens_bt: Tensor, masked: Masked, vocabulary_size: int, generator: torch.Generator) -> Tensor:
    """The encoder's input [b, t]: each masked token becomes mask, stays, or becomes a random text token."""
    place_bm, present_bm = masked
    draws_bm = torch.rand(place_bm.shape, generator=generator).to(tokens_bt.device)
    random_bm = torch.randint(BLANK + 1, vocabulary_size, place_bm.shape, generator=generator).to(tokens_bt.device)
    instead_bm = torch.where(draws_bm < UNCHANGED + RANDOM, random_bm, MASK)
    instead_bm = torch.where(draws_bm < UNCHANGED, tokens_bt.gather(1, place_bm), instead_bm)
    # padding is written to an extra column, which is cut off again
    wider_bt = torch.cat([tokens_bt, tokens_bt[:, :1]], 1)
    place_bm = place_bm.masked_fill(~present_bm, tokens_bt.shape[1])
    return wider_bt.scatter(1, place_bm, instead_bm)[:, :-1]


def diagonals(masked: Masked, longest: int) -> Diagonals:
    """The slots of spans of ``longest`` tokens; the last span of a text may be shorter.

    The main stream holds the token before each masked one. Position 0 is that of bos.
    """
    place_bm, present_bm = masked
    device = place_bm.device
    # (offset, stream) of a span's slots; a shorter span has the first of them
    pairs = torch.tril_indices(longest, longest, device=device)
    spans = math.ceil(place_bm.shape[1] / longest)
    offset_p, stream_p = pairs.repeat(1, spans)
    index_p = offset_p + longest * torch.arange(spans, device=device).repeat_interleave(pairs.shape[1])
    inside_p = index_p < place_bm.shape[1]
    index_p, offset_p, stream_p = index_p[inside_p], offset_p[inside_p], stream_p[inside_p]
    most = _rounded(present_bm[:, index_p])
    index_p, offset_p, stream_p = index_p[:most], offset_p[:most], stream_p[:most]
    present_bp = present_bm[:, index_p]
    last_bp = (index_p - stream_p).expand(len(place_bm), -1).masked_fill(~present_bp, -1)
    slots = Slots(place_bm, place_bm[:, index_p] + 1, last_bp)
    return Diagonals(slots, present_bp, index_p=index_p, offset_p=offset_p, stream_p=stream_p)


def _rounded(present_bn: Tensor) -> int:
    """Columns that hold all but padding, rounded up to LENGTH_STEP."""
    return round_up(int(present_bn.sum(1).max().clamp(min=1)), LENGTH_STEP)
