"""An n-gram model of target tokens: a sorted table, and lookups of many n-grams at once.

The model is interpolated (``retort.data.ngram_counts``), so the longest n-gram in the table gives the probability,
times the weight of each longer context that was seen with other tokens alone. An n-gram is one 64-bit key: the ids of
its tokens, plus 1, in 16 bits each. This module needs numpy alone, because exported systems use it.

Shape letters: ``...`` any shape of histories, m = order context lengths from 0 to order - 1, n = order n-gram lengths.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import read_array

from retort.data.vocabulary import BOS
from retort.errors import RetortError

BITS = 16
MAX_ORDER = 64 // BITS
MAX_VOCABULARY = (1 << BITS) - 2
"""Ids plus 1 fit into the bits, and one value is left over for contexts that a history is too short for."""
_SHIFT = np.uint64(BITS)
_TOO_SHORT = np.uint64(2**64 - 1)


class History(NamedTuple):
    """What has been said, as far as the model sees it."""

    contexts_m: np.ndarray
    """Keys of the last 0, 1, ... tokens: uint64 [..., m]."""
    weights_m: np.ndarray
    """log of the weight that is left for shorter contexts than these, summed over this and all longer ones:
    float32 [..., m]."""


@dataclass(frozen=True)
class NgramModel:
    """Log-probabilities of tokens given up to ``order`` - 1 tokens before them, in nats."""

    order: int
    floor: float
    """Log-probability of a token that was never seen, before the weights of the contexts."""
    keys: np.ndarray
    """uint64, ascending; the first is that of the empty context."""
    log_probs: np.ndarray
    """float32; -inf for what is a context alone."""
    weights: np.ndarray
    """float32: log of the weight that shorter contexts have behind this one; 0 where nothing follows."""

    def start(self, shape: tuple[int, ...]) -> History:
        """Histories of bos alone."""
        contexts_m = np.full(self.order, _TOO_SHORT)
        contexts_m[0] = 0
        if self.order > 1:
            contexts_m[1] = BOS + 1
        _, weights_m = self._found(contexts_m)
        summed_m = np.cumsum(weights_m[::-1], dtype=np.float32)[::-1]
        whole = (*shape, self.order)
        return History(np.broadcast_to(contexts_m, whole), np.broadcast_to(summed_m, whole))

    def extended(self, history: History, tokens: np.ndarray) -> tuple[np.ndarray, History]:
        """log p(token | history) [...] and the histories with the tokens, whose shape is that of the histories."""
        keys_n = (history.contexts_m << _SHIFT) | (tokens[..., None].astype(np.uint64) + np.uint64(1))
        log_probs_n, weights_n = self._found(keys_n)
        best = history.weights_m[..., 0] + np.float32(self.floor)
        for n in range(self.order):
            longer = history.weights_m[..., n + 1] if n + 1 < self.order else np.float32(0)
            best = np.where(log_probs_n[..., n] > -np.inf, log_probs_n[..., n] + longer, best)
        contexts_m = np.concatenate([np.zeros_like(keys_n[..., :1]), keys_n[..., :-1]], -1)
        empty = np.broadcast_to(self.weights[:1], (*keys_n.shape[:-1], 1))
        weights_m = np.concatenate([empty, weights_n[..., :-1]], -1)
        summed_m = np.cumsum(weights_m[..., ::-1], -1)[..., ::-1]
        return best, History(contexts_m, summed_m)

    def _found(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities and weights of n-grams; -inf and 0 for those that are not in the table."""
        place = np.minimum(self.keys.searchsorted(keys), len(self.keys) - 1)
        found = self.keys[place] == keys
        log_probs = np.where(found, self.log_probs[place], np.float32(-np.inf))
        return log_probs, np.where(found, self.weights[place], np.float32(0))

    def to_bytes(self) -> bytes:
        """The content of a file: four arrays in the format of numpy."""
        file = io.BytesIO()
        for array in (np.array([self.order, self.floor]), self.keys, self.log_probs, self.weights):
            np.save(file, array)
        return file.getvalue()


@lru_cache(maxsize=4)
def load_ngrams(path: str) -> NgramModel:
    """The model in a file, which is read once. Raises RetortError if it is none."""
    try:
        with Path(path).open("rb") as file:
            facts, keys, log_probs, weights = (read_array(file, allow_pickle=False) for _ in range(4))
        return NgramModel(int(facts[0]), float(facts[1]), keys=keys, log_probs=log_probs, weights=weights)
    except (OSError, ValueError, EOFError) as error:
        raise RetortError(
            f"{path}: cannot be read as a table of n-grams ({error}); the rule count_ngrams makes it: run it again"
        ) from None
