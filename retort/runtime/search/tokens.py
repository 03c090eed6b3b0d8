"""Which tokens are text."""

from __future__ import annotations

import numpy as np

from retort.data.vocabulary import BLANK, UNK


def text_of(tokens: np.ndarray) -> list[int]:
    """The tokens that are text: everything but pad, bos, eos, mask and blank."""
    return tokens[(tokens > BLANK) | (tokens == UNK)].tolist()  # type: ignore[no-any-return]


def without_repeats(tokens: np.ndarray) -> np.ndarray:
    """Of equal neighbours the first."""
    return tokens[np.append(True, tokens[1:] != tokens[:-1])] if len(tokens) else tokens


def output_limit(source_tokens: int, max_ratio: float, longest: int) -> int:
    """Longest output in tokens, eos not counted, of a source of so many, eos not counted either."""
    return min(int(max_ratio * source_tokens) + 10, longest - 1)
