"""Which tokens of an output are text, how many it may have, and its score: for searches in torch, and in other engines.

In plain Python: an output has some tens of tokens, for which calls of numpy take longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retort.data.vocabulary import SPECIAL_IDS, UNK

TOKENS_PER_SLOT = 3
"""Most probable tokens per slot that suffice for optimal de-duplicated decoding: its two neighbours can forbid at most
two of them."""

REPEAT_COST = 1e9
"""Cost in nats of a repeat if none is allowed: no output can gain as much. It is finite, so that an output that cannot
avoid repeats has as few as possible. In float64 it leaves log-probabilities 7 decimals."""


def text_of(tokens: Sequence[int]) -> list[int]:
    """The tokens that are text: everything but pad, bos, eos, mask and blank; unk stays."""
    return [token for token in tokens if token >= SPECIAL_IDS or token == UNK]


def of_text(tokens: Sequence[int], values: Sequence[float]) -> list[float]:
    """Of a value per token those of the tokens that ``text_of`` leaves."""
    return [value for token, value in zip(tokens, values, strict=True) if token >= SPECIAL_IDS or token == UNK]


def first_of_repeats(tokens: Sequence[int], values: Sequence[float]) -> list[float]:
    """Of a value per token those of the tokens that ``without_repeats`` leaves."""
    return [value for i, value in enumerate(values) if not i or tokens[i] != tokens[i - 1]]


def without_repeats(tokens: Sequence[int]) -> list[int]:
    """Of equal neighbours the first."""
    return [token for i, token in enumerate(tokens) if not i or token != tokens[i - 1]]


def output_limit(source_tokens: int, max_ratio: float, longest: int) -> int:
    """Longest output in tokens, eos not counted, of a source of so many, eos not counted either."""
    return min(int(max_ratio * source_tokens) + 10, longest - 1)


def length_penalty(length: Any, alpha: float) -> Any:
    """((5 + length) / 6) ** alpha, what left-to-right searches divide log P by; ``length`` is a number, an array or a
    tensor, and counts eos, or the token after the limit (Wu et al. 2016, section 7)."""
    return ((5 + length) / 6) ** alpha
