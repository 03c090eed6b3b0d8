"""chrF2 (Popovic 2015) and chrF2++ (Popovic 2017) by sacreBLEU: F-scores of character n-grams, and of words too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sacrebleu.metrics import CHRF

from retort.evaluation.metrics.sacre import SacreBleuMetric, WordMetric

BETA_SQUARED = 4.0


class ChrF(SacreBleuMetric):
    """Character 6-grams, no words, beta 2. Statistics: n-grams of the hypothesis, of the reference, and matching ones,
    for each order."""

    def scorer(self) -> Any:
        return CHRF()

    def scores_of_sums(self, sums_sk: np.ndarray) -> np.ndarray:
        sums_sok = np.asarray(sums_sk, dtype=np.float64).reshape(len(sums_sk), -1, 3)
        hypothesis, reference, matching = np.moveaxis(sums_sok, 2, 0)
        # The mean is over the orders that both sides have.
        present = (hypothesis > 0) & (reference > 0)
        orders = np.maximum(present.sum(axis=1), 1)
        precision = (np.where(present, matching / np.maximum(hypothesis, 1), 0)).sum(axis=1) / orders
        recall = (np.where(present, matching / np.maximum(reference, 1), 0)).sum(axis=1) / orders
        below = BETA_SQUARED * precision + recall
        return np.where(below > 0, 100 * (1 + BETA_SQUARED) * precision * recall / np.where(below > 0, below, 1), 0.0)


class ChrFPlusPlus(WordMetric, ChrF):
    """chrF2 with words and word bigrams as two more orders. The character n-grams do not depend on the tokenizer."""

    def scorer(self) -> Any:
        return _WordChrf(self.tokenized) if self.splits_words else CHRF(word_order=2)


class _WordChrf(CHRF):  # type: ignore[misc]
    """chrF2++ with the words of a tokenizer."""

    def __init__(self, tokenized: Callable[[str], str]) -> None:
        super().__init__(word_order=2)
        self._tokenized = tokenized

    def _remove_punctuation(self, sent: str) -> list[str]:
        """The words of every hypothesis and reference."""
        words: list[str] = super()._remove_punctuation(self._tokenized(sent))
        return words
