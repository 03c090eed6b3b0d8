"""Quality of sentences of about equal length, by the length of their references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import retort
from retort.evaluation.quality import Pairs, corpus_score, segment_statistics
from retort.evaluation.significance import TESTED_METRICS


def scores_by_length(pairs: Pairs, longest: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of a LENGTHS table without system, seed and search: the corpus scores of the sentences whose references have
    at most ``longest[0]`` words (split at white space), more than these and at most ``longest[1]``, and so on, and more
    than the last one. Buckets without sentences are left out."""
    words = np.array([len(reference.split()) for reference in pairs.references])
    numbers = np.searchsorted(longest, words)
    for metric in TESTED_METRICS:
        statistics, signature = segment_statistics(metric, pairs.hypotheses, pairs.references)
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            yield {
                "test_set": pairs.test_set,
                "shortest": longest[number - 1] + 1 if number else 0,
                "longest": longest[number] if number < len(longest) else None,
                "sentences": int(chosen.sum()),
                "metric": metric,
                "value": corpus_score(metric, statistics[chosen]),
                "signature": f"{signature}|words of the reference|retort:{retort.__version__}",
            }
