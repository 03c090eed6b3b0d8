"""What the metrics of sacreBLEU share: statistics, corpus score and signature are the package's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from retort.config.tokenizers import DEFAULT_TOKENIZER
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
        return np.asarray(statistics, dtype=np.float64), self.signature(scorer)

    def signature(self, scorer: Any) -> str:
        """The package's signature of the statistics that it extracted last."""
        return str(scorer.get_signature())

    def score_of_sums(self, sums_k: np.ndarray) -> float:
        return float(self.scorer()._compute_score_from_stats(sums_k.tolist()).score)


class WordMetric(SacreBleuMetric):
    """A metric whose words the package splits at white space, and knows no tokenizer for."""

    @property
    def splits_words(self) -> bool:
        """Whether the tokenizer splits the words instead."""
        return self.tokenizer not in (DEFAULT_TOKENIZER, "none")

    def signature(self, scorer: Any) -> str:
        own = super().signature(scorer)
        return f"{own}|words:{self.tokenizer}" if self.splits_words else own
