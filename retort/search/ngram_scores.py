"""What the beams over alignments and graphs share: the score of an n-gram model, and what they leave out.

Needs neither torch nor a compiled extension, since exported systems decode with it too. A step of a search asks for a
few n-grams of one text after the other, so this is plain Python: a dictionary's lookup takes a twentieth of a call of
numpy. The scorer keeps its contexts and their scores from sentence to sentence.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakSet

from retort.data.ngrams import BITS, NgramModel, load_ngrams, table_of
from retort.data.vocabulary import BOS, EOS

MOST_KEPT = 500_000
"""Scores and contexts kept from sentence to sentence, about 100 bytes each."""


_scorers: WeakSet[Scorer] = WeakSet()
"""All that there are."""
_lock = Lock()
"""For the set, which must not grow while it is read."""


class Context:
    """The longest end of a text that n-grams of the table continue. Texts that go on alike share one."""

    __slots__ = ("first", "high", "length", "longer", "low", "scores", "shorter", "weight")

    def __init__(self, key: int, length: int, low: int, high: int, weight: float, shorter: Context | None) -> None:
        self.length = length
        self.first = (key << BITS) + 1
        """Key of its continuation by token 0."""
        self.low, self.high = low, high
        """Places of its continuations in the table."""
        self.weight = weight
        """Score of leaving it for the shorter one."""
        self.shorter = shorter
        self.scores: dict[int, float] = {}
        """Known scores of tokens. To be read first: most are there."""
        self.longer: dict[int, Context] = {}


class Scorer:
    """``lm_weight`` x log p of the n-gram model, plus ``token_bonus`` for each token but eos: nats."""

    def __init__(self, model: NgramModel | None, lm_weight: float, token_bonus: float) -> None:
        self.model = model = model or NgramModel.empty()
        # a memory view's element is found faster than an array's
        self._keys: memoryview[int] = model.keys.data
        self._log_probs: memoryview[float] = model.log_probs.data.cast("B").cast("f")
        self._weights: memoryview[float] = model.weights.data.cast("B").cast("f")
        self._firsts: memoryview[int] = model.first_continuations.data
        self.lm_weight, self.bonus = lm_weight, token_bonus
        self.unknown = lm_weight * (model.floor + self._weights[0])
        """Score of a token that no n-gram has, without the bonus."""
        self.largest = max(0.0, token_bonus)
        """No token scores more."""
        with _lock:
            _scorers.add(self)
        self.forget()

    def forget(self) -> None:
        """As if none had been asked for."""
        self._kept = 0
        self._empty = Context(0, 0, self._firsts[0], self._firsts[1], 0.0, None)

    def start(self) -> Context:
        """The context of a text that has not begun."""
        if self._kept > MOST_KEPT:
            self.forget()
        return self.extended(self._empty, BOS)

    def score(self, context: Context, token: int) -> float:
        """Score of a token behind a text. Read ``context.scores`` before."""
        keys, at, left = self._keys, context, 0.0
        while token not in at.scores:
            key, high = at.first + token, at.high
            place = bisect_left(keys, key, at.low, high)
            if place < high and keys[place] == key and (log_prob := self._log_probs[place]) > -math.inf:
                at.scores[token] = self.lm_weight * log_prob + (0.0 if token == EOS else self.bonus)
            elif at.shorter is None:
                at.scores[token] = self.unknown + (0.0 if token == EOS else self.bonus)
            else:
                left += at.weight
                at = at.shorter
        score = context.scores[token] = at.scores[token] + left
        self._kept += 1
        return score

    def extended(self, context: Context, token: int) -> Context:
        """The context of the text with the token. Read ``context.longer`` before."""
        if token in context.longer:
            return context.longer[token]
        longer = self._empty if context.shorter is None else self.extended(context.shorter, token)
        if context.length + 1 < self.model.order:
            keys, key, high = self._keys, context.first + token, context.high
            place = bisect_left(keys, key, context.low, high)
            # behind a weight of 0 nothing follows
            if place < high and keys[place] == key and (weight := self._weights[place]):
                low, high = self._firsts[place], self._firsts[place + 1]
                longer = Context(key, context.length + 1, low, high, self.lm_weight * weight, longer)
        context.longer[token] = longer
        self._kept += 1
        return longer


class Pruning(NamedTuple):
    """What a search tries."""

    beam_size: int
    candidates: int
    min_share: float
    threshold: float
    """Nats; infinite without one."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Pruning:
        """Bundles from before ``min_share`` and ``beam_threshold`` do without."""
        threshold = options.get("beam_threshold")
        return cls(
            options["beam_size"],
            options["candidates"],
            options.get("min_share", 0.0),
            math.inf if threshold is None else threshold,
        )


def scorer_of(options: Mapping[str, Any]) -> Scorer:
    """The scorer of a search's options, the same one each time while its table is the same.

    Raises RetortError where the table is needed and not named.
    """
    table = table_of(options)
    return _scorer(load_ngrams(table) if table else None, options["lm_weight"], options["token_bonus"])


_scorer = lru_cache(maxsize=4)(Scorer)


def forget_scores() -> None:
    """Forget the scores that are kept from sentence to sentence, as if none had been decoded in this process."""
    with _lock:
        scorers = list(_scorers)
    for scorer in scorers:
        scorer.forget()
