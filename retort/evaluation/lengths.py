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
    """Rows of a LENGTHS table without system, seed and search: the corpus score of each bucket of sentences.

    The first bucket has references of at most ``longest[0]`` words, the next one of at most ``longest[1]``, and so on;
    the last one has all longer ones. Words are split at white space; several references count as their mean. Buckets
    without sentences are left out.
    """
    numbers = np.searchsorted(longest, [words(texts) / len(texts) for texts in pairs.references])
    for metric in metrics:
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number).tolist()
            result = score(metric, [pairs.hypotheses[i] for i in chosen], [pairs.references[i] for i in chosen])
            yield {
                "test_set": pairs.test_set,
                "shortest": longest[number - 1] + 1 if number else 0,
                "longest": longest[number] if number < len(longest) else None,
                "sentences": len(chosen),
                "metric": metric,
                "value": result.value,
                "signature": f"{result.signature}|words of the reference|retort:{retort.__version__}",
            }
