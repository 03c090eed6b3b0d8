"""Quality of sentences of about equal length, by the length of their references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import retort
from retort.evaluation.diagnostics import words
from retort.evaluation.metrics import score
from retort.evaluation.quality import Pairs


def scores_by_length(pairs: Pairs, longest: Sequence[int], metrics: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of a LENGTHS table without system, seed and search: the corpus scores of the sentences whose references have
    at most ``longest[0]`` words (split at white space, the mean of several), more than these and at most
    ``longest[1]``, and so on, and more than the last one. Buckets without sentences are left out."""
    numbers = np.searchsorted(longest, [words(own) / len(own) for own in pairs.references])
    for metric in metrics:
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number).tolist()
            found = score(metric, [pairs.hypotheses[i] for i in chosen], [pairs.references[i] for i in chosen])
            yield {
                "test_set": pairs.test_set,
                "shortest": longest[number - 1] + 1 if number else 0,
                "longest": longest[number] if number < len(longest) else None,
                "sentences": len(chosen),
                "metric": metric,
                "value": found.value,
                "signature": f"{found.signature}|words of the reference|retort:{retort.__version__}",
            }
