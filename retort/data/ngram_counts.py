"""Counting of n-grams in bounded memory, and their smoothing: interpolated Kneser-Ney (Chen and Goodman 1999).

Shape letters: k keys of n-grams (``retort.data.ngrams``), all of one length n.
"""

from __future__ import annotations

import numpy as np

from retort.data.batches import Ragged
from retort.data.ngrams import BITS, NgramModel
from retort.data.vocabulary import BOS, EOS

_SHIFT = np.uint64(BITS)
_FEW = 0.5
"""Discount where there is no n-gram with a count of 1, or none with a count of 2."""
_MOST_DROPPED = 64
"""Largest count that is dropped."""


class NgramCounter:
    """Counts of all n-grams of up to ``order`` tokens, bos and eos included.

    Above ``most`` n-grams the rarest of the longest lengths are dropped, and their counts begin anew when they come up
    again (lossy counting, Manku and Motwani 2002).
    """

    def __init__(self, order: int, most: int) -> None:
        self.order, self.most = order, most
        self.tokens = 0
        """Counted so far, without eos."""
        self.dropped = 0
        """n-grams dropped so far; one that comes up again counts again."""
        self._tables = [(np.zeros(0, np.uint64), np.zeros(0, np.int64)) for _ in range(order)]

    def add(self, targets: Ragged) -> None:
        """Count the n-grams of more sentences, whose tokens have neither bos nor eos."""
        tokens, start = _with_borders(targets)
        self.tokens += len(tokens) - 2 * len(targets)
        keys = np.zeros(len(tokens), np.uint64)
        for n in range(self.order):
            # an n-gram is that which ends one token before, and its last token
            keys = (np.concatenate([keys[:1] * 0, keys[:-1]]) << _SHIFT) | tokens if n else tokens
            inside = np.arange(len(tokens)) - n >= start
            self._tables[n] = _merged(*self._tables[n], *np.unique(keys[inside], return_counts=True))
        self._bound()

    def _bound(self) -> None:
        least = 1
        while sum(len(keys) for keys, _ in self._tables) > self.most and least < _MOST_DROPPED:
            for n in range(self.order - 1, 0, -1):
                keys, counts = self._tables[n]
                kept = counts > least
                self.dropped += int((~kept).sum())
                self._tables[n] = (keys[kept], counts[kept])
                if sum(len(keys) for keys, _ in self._tables) <= self.most:
                    break
            least *= 2

    def model(self, vocabulary: int, digest: str = "") -> NgramModel:
        """The smoothed model. ``vocabulary`` is the number of tokens, ``digest`` the vocabulary's; what is left for
        unseen ones is the same for all."""
        keys, log_probs, weights = (
            [np.zeros(1, np.uint64)],
            [np.full(1, -np.log(vocabulary))],
            [np.zeros(1)],
        )
        for own_k, count_k in self._adjusted():
            discount = _discount(count_k)
            context_c, which_k = np.unique(own_k >> _SHIFT, return_inverse=True)
            total_c = np.bincount(which_k, count_k)
            left_c = discount * np.bincount(which_k) / total_c
            shorter_k = log_probs[-1][keys[-1].searchsorted(own_k & _mask(len(keys) - 1))]
            probs_k = (count_k - discount) / total_c[which_k] + left_c[which_k] * np.exp(shorter_k)
            # contexts may be no n-grams that are predicted: bos, and what was dropped
            both = np.union1d(keys[-1], context_c)
            log_probs[-1] = _spread(both, keys[-1], log_probs[-1], -np.inf)
            weights[-1] = _spread(both, context_c, np.log(left_c), 0.0)
            keys[-1] = both
            keys.append(own_k)
            log_probs.append(np.log(probs_k))
            weights.append(np.zeros(len(own_k)))
        log_probs[0][0] = -np.inf
        table = np.concatenate(keys)
        order = np.argsort(table)
        return NgramModel(
            self.order,
            floor=-float(np.log(vocabulary)),
            keys=table[order],
            log_probs=np.concatenate(log_probs)[order].astype(np.float32),
            weights=np.concatenate(weights)[order].astype(np.float32),
            vocabulary=digest,
        )

    def _adjusted(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """n-grams of each length, the shortest first, with the counts that the smoothing takes: how often the longest
        and those after bos occur, and how many different tokens the others follow."""
        longest, count_k = self._tables[-1]
        adjusted, longer = [(longest, count_k)], longest
        for n in range(self.order - 1, 0, -1):
            keys, counts = self._tables[n - 1]
            followed_k, preceding_k = np.unique(longer & _mask(n), return_counts=True)
            after_bos = keys >> np.uint64(BITS * (n - 1)) == BOS + 1
            longer = np.union1d(keys, followed_k)
            adjusted.append(_merged(followed_k, preceding_k, keys[after_bos], counts[after_bos]))
        unigrams, count_k = adjusted[-1]
        predicted = unigrams != BOS + 1
        return [(unigrams[predicted], count_k[predicted]), *adjusted[-2::-1]]


def _with_borders(targets: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """All tokens with bos and eos around each sentence, plus 1, and where each token's sentence starts."""
    lengths = targets.lengths + 2
    start = np.cumsum(lengths) - lengths
    tokens = np.empty(int(lengths.sum()), np.uint64)
    tokens[start], tokens[start + lengths - 1] = BOS + 1, EOS + 1
    inner = np.ones(len(tokens), bool)
    inner[start] = inner[start + lengths - 1] = False
    tokens[inner] = targets.tokens + 1
    return tokens, np.repeat(start, lengths)


def _merged(
    keys: np.ndarray, counts: np.ndarray, more: np.ndarray, more_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys of both, ascending, and the sums of their counts."""
    both, which = np.unique(np.concatenate([keys, more]), return_inverse=True)
    return both, np.bincount(which, np.concatenate([counts, more_counts]), len(both)).astype(np.int64)


def _discount(count_k: np.ndarray) -> float:
    """The usual estimate from the numbers of n-grams with a count of 1 and of 2."""
    ones, twos = int((count_k == 1).sum()), int((count_k == 2).sum())
    return ones / (ones + 2 * twos) if ones and twos else _FEW


def _mask(n: int) -> np.uint64:
    """Keeps the last ``n`` tokens of a key."""
    return np.uint64((1 << BITS * n) - 1)


def _spread(keys: np.ndarray, own: np.ndarray, values: np.ndarray, missing: float) -> np.ndarray:
    """``values`` of ``own`` keys at all ``keys``, and ``missing`` elsewhere."""
    result = np.full(len(keys), missing)
    result[keys.searchsorted(own)] = values
    return result
