"""BLEU by sacreBLEU (Post 2018): up to 4-grams, detokenised text, exponential smoothing."""

from __future__ import annotations

from collections.abc import Sequence
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

    def brevity_penalty(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> tuple[float, str]:
        """BLEU's factor for outputs shorter than their references, from 0 to 1, and BLEU's signature."""
        statistics_nk, signature = self.statistics(hypotheses, references)
        hypothesis_length, reference_length = statistics_nk[:, :2].sum(0)
        return float(_brevity_penalty(hypothesis_length, reference_length)), signature

    def scores_of_sums(self, sums_sk: np.ndarray) -> np.ndarray:
        sums = np.asarray(sums_sk, dtype=np.float64)
        hypothesis_length, reference_length = sums[:, 0], sums[:, 1]
        matches, totals = sums[:, 2 : 2 + NGRAM_ORDER], sums[:, 2 + NGRAM_ORDER :]
        # Each order without a match counts as half as many matches as the one before (Chen and Cherry 2014, method 3).
        halvings = np.cumsum((matches == 0) & (totals > 0), axis=1)
        precisions = np.where(matches > 0, matches, 0.5**halvings) / np.maximum(totals, 1)
        brevity = _brevity_penalty(hypothesis_length, reference_length)
        scores = 100 * brevity * np.exp(np.log(precisions).mean(axis=1))
        return np.where((matches.sum(axis=1) > 0) & (totals > 0).all(axis=1), scores, 0.0)


def _brevity_penalty(hypothesis_length: np.ndarray, reference_length: np.ndarray) -> np.ndarray:
    """exp(1 - reference length / hypothesis length), at most 1 (Papineni et al. 2002)."""
    ratio = reference_length / np.maximum(hypothesis_length, 1e-9)
    return np.where(hypothesis_length < reference_length, np.exp(1 - ratio), 1.0)


class LowercaseBleu(Bleu):
    """BLEU of lower-cased text."""

    lowercase = True
