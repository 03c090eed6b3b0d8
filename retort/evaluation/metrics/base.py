"""What a metric is: a score of a whole corpus, and of any resample of its segments.

Shapes: S resamples, N segments, K statistics of a segment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from retort.config.tokenizers import DEFAULT_TOKENIZER
from retort.evaluation.tokenizers import load_tokenizer


@dataclass(frozen=True)
class Score:
    """A metric's value over a test set and the signature of every choice behind it."""

    metric: str
    value: float
    signature: str


class Resampler(Protocol):
    """What scores resamples of the segments that it has measured."""

    def resampled_scores(self, systems: Sequence[Measured], counts_sn: np.ndarray) -> np.ndarray:
        """Scores (systems, S) of resamples that hold each segment as often as ``counts_sn`` says."""


@dataclass(frozen=True)
class Measured:
    """A corpus score and the segments it was computed from, in the form that the metric resamples."""

    value: float
    signature: str
    segments: int
    resampling: Any
    """For the metric that made it: texts, or statistics (N, K)."""
    scorer: Resampler


class CorpusMetric(ABC):
    """A metric that scores texts. A resample is scored the slow way, from its texts."""

    def __init__(self, tokenizer: str = DEFAULT_TOKENIZER) -> None:
        """``tokenizer``: sacreBLEU's name of what splits texts into words."""
        self.tokenizer = tokenizer

    def tokenized(self, text: str) -> str:
        """A text with spaces between its words."""
        return load_tokenizer(self.tokenizer)(text)

    @abstractmethod
    def score(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> tuple[float, str]:
        """The corpus score in percent, and the signature of every choice behind it."""

    def measure(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> Measured:
        """The corpus score, with what ``resampled_scores`` needs."""
        value, signature = self.score(hypotheses, references)
        resampling = (hypotheses, references)
        return self._measured(value, signature, segments=len(hypotheses), resampling=resampling)

    def _measured(self, value: float, signature: str, segments: int, resampling: Any) -> Measured:
        return Measured(value=value, signature=signature, segments=segments, resampling=resampling, scorer=self)

    def resampled_scores(self, systems: Sequence[Measured], counts_sn: np.ndarray) -> np.ndarray:
        """Scores (systems, S) of resamples that hold each segment as often as ``counts_sn`` says."""
        resamples = [np.repeat(np.arange(len(counts_n)), counts_n.astype(int)).tolist() for counts_n in counts_sn]
        return np.array([[self._score_of(system, rows) for rows in resamples] for system in systems])

    def _score_of(self, system: Measured, rows: list[int]) -> float:
        hypotheses, references = system.resampling
        return self.score([hypotheses[row] for row in rows], [references[row] for row in rows])[0]


class SegmentMetric(CorpusMetric):
    """A metric that is a formula of statistics summed over segments. One matrix product serves all resamples."""

    @abstractmethod
    def statistics(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> tuple[np.ndarray, str]:
        """The sufficient statistics of every segment, float64 (N, K), and the metric's signature."""

    @abstractmethod
    def scores_of_sums(self, sums_sk: np.ndarray) -> np.ndarray:
        """The corpus scores (S,) of statistics that are summed over segments, (S, K)."""

    def score_of_sums(self, sums_k: np.ndarray) -> float:
        """The corpus score of one such sum."""
        return float(self.scores_of_sums(sums_k[None])[0])

    def score(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> tuple[float, str]:
        statistics_nk, signature = self.statistics(hypotheses, references)
        return self.score_of_sums(statistics_nk.sum(axis=0)), signature

    def measure(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> Measured:
        statistics_nk, signature = self.statistics(hypotheses, references)
        value = self.score_of_sums(statistics_nk.sum(axis=0))
        return self._measured(value, signature, segments=len(statistics_nk), resampling=statistics_nk)

    def resampled_scores(self, systems: Sequence[Measured], counts_sn: np.ndarray) -> np.ndarray:
        sums = counts_sn @ np.concatenate([system.resampling for system in systems], axis=1)
        return np.stack([self.scores_of_sums(part_sk) for part_sk in np.split(sums, len(systems), axis=1)])
