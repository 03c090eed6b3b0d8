"""What the beams over alignments and graphs share: the score of an n-gram model, and keys of prefixes.

numpy alone, since exported systems decode with it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retort.data.ngrams import History, NgramModel, load_ngrams
from retort.data.vocabulary import EOS
from retort.errors import RetortError

_FACTOR = np.uint64(6364136223846793005)
"""Of a linear congruential generator modulo 2 ** 64 (Knuth), whose values hardly collide."""


class Scorer(NamedTuple):
    """``lm_weight`` x log p of the n-gram model, plus ``token_bonus`` for each token but eos."""

    model: NgramModel | None
    lm_weight: float
    token_bonus: float

    def start(self, shape: tuple[int, ...]) -> History:
        """Histories of nothing said."""
        if self.model is not None:
            return self.model.start(shape)
        return History(np.zeros((*shape, 0), np.uint64), np.zeros((*shape, 0), np.float32))

    def extended(self, history: History, tokens: np.ndarray) -> tuple[np.ndarray, History]:
        """Scores of tokens in nats, and the histories with them; the shapes of both broadcast."""
        bonus = np.where(tokens == EOS, np.float32(0), np.float32(self.token_bonus))
        if self.model is None:
            shape = np.broadcast_shapes(history.contexts_m.shape[:-1], tokens.shape)
            return np.broadcast_to(bonus, shape), self.start(shape)
        log_probs, longer = self.model.extended(history, tokens)
        return np.float32(self.lm_weight) * log_probs + bonus, longer


def scorer_of(options: Mapping[str, Any], directory: Path = Path()) -> Scorer:
    """The scorer of a search's options. The path of its table is relative to ``directory``.

    Raises RetortError where the table is needed and not named.
    """
    if options["lm_weight"] == 0:
        return Scorer(None, 0.0, options["token_bonus"])
    if options["table"] is None:
        raise RetortError(
            f"search {options['kind']} needs a table of n-grams, which the workflow's rule count_ngrams makes; name it "
            f"as table, or set lm_weight to 0"
        )
    return Scorer(load_ngrams(str(directory / options["table"])), options["lm_weight"], options["token_bonus"])


def extended_keys(keys: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Keys of the prefixes with one token more, uint64; the empty prefix has key 0."""
    return keys * _FACTOR + (tokens.astype(np.uint64) + np.uint64(1))


def best_places(scores_bn: np.ndarray, count: int) -> np.ndarray:
    """Places [b, count] of the largest scores, in no order; all of them where there are fewer."""
    if scores_bn.shape[1] <= count:
        return np.broadcast_to(np.arange(scores_bn.shape[1]), scores_bn.shape)
    return np.argpartition(-scores_bn, count - 1, axis=1)[:, :count]
