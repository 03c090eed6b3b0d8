"""BLEU by sacreBLEU (Post 2018): up to 4-grams, detokenised text, exponential smoothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU

from retort.evaluation.metrics.sacre import SacreBleuMetric
from retort.evaluation.tokenizers import load_tokenizer

NGRAM_ORDER = 4


class Bleu(SacreBleuMetric):
    """Case-sensitive BLEU. Statistics: hypothesis length, reference length, 4 matches, 4 totals."""

    lowercase = False

    def scorer(self) -> Any:
        load_tokenizer(self.tokenizer)
        # force only silences a warning about text that looks tokenised; it does not change the score
        return BLEU(force=True, lowercase=self.lowercase, tokenize=self.tokenizer)

    def scores_of_sums(self, sums_sk: np.ndarray) -> np.ndarray:
        sums = np.asarray(sums_sk, dtype=np.float64)
        hypothesis_length, reference_length = sums[:, 0], sums[:, 1]
        matches, totals = sums[:, 2 : 2 + NGRAM_ORDER], sums[:, 2 + NGRAM_ORDER :]
        # Each order without a match counts as half as many matches as the one before (Chen and Cherry 2014, method 3).
        halvings = np.cumsum((matches == 0) & (totals > 0), axis=1)
        precisions = np.where(matches > 0, matches, 0.5**halvings) / np.maximum(totals, 1)
        brevity = np.where(
            hypothesis_length < reference_length,
            np.exp(1 - reference_length / np.maximum(hypothesis_length, 1e-9)),
            1.0,
        )
        scores = 100 * brevity * np.exp(np.log(precisions).mean(axis=1))
        return np.where((matches.sum(axis=1) > 0) & (totals > 0).all(axis=1), scores, 0.0)


class LowercaseBleu(Bleu):
    """BLEU of lower-cased text."""

    lowercase = True
