"""Quality of sentences of about equal length, by the length of their references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import retort
from retort.config.tokenizers import AUTO, tokenizer_named
from retort.evaluation.metrics import measure
from retort.evaluation.quality import Pairs
from retort.evaluation.tokenizers import chosen_tokenizer, length, unit


def scores_by_length(
    pairs: Pairs, longest: Sequence[int], metrics: Sequence[str], tokenizer: str = AUTO
) -> Iterator[dict[str, Any]]:
    """Rows of a LENGTHS table without system, seed and search: the corpus score of each bucket of sentences.

    The first bucket has references of at most ``longest[0]`` words, the next one of at most ``longest[1]``, and so on;
    the last one has all longer ones. Words are split at white space, or by the tokenizer of a language without spaces;
    several references count as their mean. Buckets without sentences are left out.
    """
    tokenizer = chosen_tokenizer(tokenizer, pairs.references)
    lengths = [sum(length(text, tokenizer) for text in texts) / len(texts) for texts in pairs.references]
    numbers = np.searchsorted(longest, lengths)
    split = "" if tokenizer_named(tokenizer).keeps_words else f", {unit(tokenizer)}"
    buckets = np.unique(numbers)
    chosen_bn = (numbers == buckets[:, None]).astype(np.float64)
    for metric in metrics:
        # what splits texts is decided on all of them, and a bucket is a resample that holds its sentences once
        measured = measure(metric, pairs.hypotheses, references=pairs.references, tokenizer=tokenizer)
        values = measured.scorer.resampled_scores([measured], chosen_bn)[0]
        for number, value, count in zip(buckets.tolist(), values.tolist(), chosen_bn.sum(1).tolist(), strict=True):
            yield {
                "test_set": pairs.test_set,
                "shortest": longest[number - 1] + 1 if number else 0,
                "longest": longest[number] if number < len(longest) else None,
                "sentences": int(count),
                "metric": metric,
                "value": value,
                "signature": f"{measured.signature}|words of the reference{split}|retort:{retort.__version__}",
            }
