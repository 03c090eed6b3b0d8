"""TER, the translation edit rate (Snover et al. 2006), by sacreBLEU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import TER

from retort.evaluation.metrics.sacre import WordMetric


class Ter(WordMetric):
    """Case-sensitive TER; sacreBLEU's default ignores case. Statistics: edits and reference length."""

    def scorer(self) -> Any:
        return TER(case_sensitive=True)

    def statistics(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> tuple[np.ndarray, str]:
        if self.splits_words:
            hypotheses = [self.tokenized(text) for text in hypotheses]
            references = [[self.tokenized(text) for text in texts] for texts in references]
        return super().statistics(hypotheses, references)

    def scores_of_sums(self, sums_sk: np.ndarray) -> np.ndarray:
        edits, length = np.asarray(sums_sk, dtype=np.float64).T
        return 100 * np.where(length > 0, edits / np.maximum(length, 1e-9), edits > 0)
