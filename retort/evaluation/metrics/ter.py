"""TER, the translation edit rate (Snover et al. 2006), by sacreBLEU."""

from __future__ import annotations

from typing import Any

import numpy as np
from sacrebleu.metrics import TER

from retort.evaluation.metrics.sacre import SacreBleuMetric


class Ter(SacreBleuMetric):
    """Case-sensitive TER; sacreBLEU's default ignores case. Statistics: edits and reference length."""

    def scorer(self) -> Any:
        return TER(case_sensitive=True)

    def scores_of_sums(self, sums_sk: np.ndarray) -> np.ndarray:
        edits, length = np.asarray(sums_sk, dtype=np.float64).T
        return 100 * np.where(length > 0, edits / np.maximum(length, 1e-9), edits > 0)
