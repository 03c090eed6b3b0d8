"""What the metrics of sacreBLEU share: statistics, corpus score and signature are the package's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from retort.evaluation.metrics.base import SegmentMetric


class SacreBleuMetric(SegmentMetric):
    """A metric of sacreBLEU."""

    @abstractmethod
    def scorer(self) -> Any:
        """A new object of the package. It is new each time because its signature remembers the last references."""

    def statistics(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> tuple[np.ndarray, str]:
        scorer = self.scorer()
        most = max(len(texts) for texts in references)
        streams = [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]
        statistics = scorer._extract_corpus_statistics(list(hypotheses), streams)
        return np.asarray(statistics, dtype=np.float64), str(scorer.get_signature())

    def score_of_sums(self, sums_k: np.ndarray) -> float:
        return float(self.scorer()._compute_score_from_stats(sums_k.tolist()).score)
