"""Quality of sentences of about equal length, by the length of their references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import retort
from retort.config.tokenizers import AUTO, tokenizer_named
from retort.evaluation.metrics import score
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
    for metric in metrics:
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number).tolist()
            hypotheses, references = [pairs.hypotheses[i] for i in chosen], [pairs.references[i] for i in chosen]
            result = score(metric, hypotheses, references=references, tokenizer=tokenizer)
            yield {
                "test_set": pairs.test_set,
                "shortest": longest[number - 1] + 1 if number else 0,
                "longest": longest[number] if number < len(longest) else None,
                "sentences": len(chosen),
                "metric": metric,
                "value": result.value,
                "signature": f"{result.signature}|words of the reference{split}|retort:{retort.__version__}",
            }
