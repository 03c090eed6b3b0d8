"""The values of a search's options that score best on the validation set. Test sets are never read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from retort.config import SearchSection, metric_named
from retort.config.tokenizers import AUTO
from retort.data.references import references_of
from retort.data.runs import Run
from retort.data.tables import TUNING
from retort.evaluation.metrics import Score, score


@dataclass(frozen=True)
class Tried:
    """A search and its score on the validation set."""

    search: SearchSection
    score: Score


def tried(
    searches: Sequence[SearchSection],
    decode: Callable[[SearchSection], list[str]],
    corpus: pa.Table,
    metric: str,
    tokenizer: str = AUTO,
) -> list[Tried]:
    """Each search with the corpus score of its outputs. ``decode`` gives one text per row of the CORPUS table."""
    references = references_of(corpus)
    return [
        Tried(search, score(metric, decode(search), references=references, tokenizer=tokenizer)) for search in searches
    ]


def best(results: Sequence[Tried]) -> Tried:
    """The one with the best score; of equal ones the first."""
    sign = 1 if metric_named(results[0].score.metric).higher_is_better else -1
    return max(results, key=lambda result: sign * result.score.value)


def tuning_table(results: Sequence[Tried], run: Run) -> pa.Table:
    """A TUNING table of all that was tried."""
    chosen = best(results)
    rows = [
        {
            **vars(run),
            "options": json.dumps(result.search.model_dump(mode="json"), sort_keys=True),
            "metric": result.score.metric,
            "value": result.score.value,
            "chosen": result is chosen,
            "signature": result.score.signature,
        }
        for result in results
    ]
    return TUNING.of_rows(rows)
