"""Things in a row moved apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean


def spaced(wished: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Places near the wished ones, in their order, each at least its gap (one fewer than places) after the one before:
    neighbours that would come too near move as one block."""
    if not wished:
        return []
    blocks: list[list[float]] = []
    offsets = list(accumulate(gaps, initial=0.0))
    for wish, offset in zip(wished, offsets, strict=True):
        blocks.append([wish - offset])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1].extend(last)
    starts = [fmean(block) for block in blocks for _ in block]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]
