"""Guards of the EM loop: compare the candidates that the E-step chose with the first teacher's translations.

Candidates that a parallel model prefers tend to be short and generic. The paper bounds their quality
("pseudo-bound").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from retort.config import Guards
from retort.config.training import WARNED
from retort.data.tables import GUARDS

LENGTH, DISTINCT, QUALITY, LIKELIHOOD = "length", "distinct_words", "BLEU", "log_likelihood"
CHANGED, CANDIDATES, GAIN, IMPOSSIBLE = "changed", "candidates", "gain", "impossible"
MEANING = {
    LENGTH: "mean length in tokens",
    DISTINCT: "distinct words",
    QUALITY: "BLEU against the references",
    LIKELIHOOD: "log p per token under the first teacher, nats",
    CHANGED: "share of sources whose choice is not the first candidate",
    CANDIDATES: "distinct candidates per source",
    IMPOSSIBLE: "share of sources without a possible candidate, of which the first one is taken",
    GAIN: "score of the choice minus that of the first candidate, nats per sentence, where both are possible",
}


def measure(
    selection: pa.Table,
    first: pa.Table,
    guards: Guards,
    quality: Callable[[pa.Table], float],
    log_likelihoods: tuple[float, float],
    words: Callable[[str], list[str]] = str.split,
) -> list[dict[str, Any]]:
    """Rows of the GUARDS table (without iteration and seed); the tables hold the same ids in the same order.

    ``selection`` is a SELECTION table, ``first`` has the first teacher's text and tokens. ``quality`` gives the BLEU of
    a table's text against the references, ``log_likelihoods`` are the mean log p per token of both under the first
    teacher, ``words`` gives the words of a text.
    """
    length, first_length = mean_length(selection), mean_length(first)
    distinct, first_distinct = distinct_words(selection, words), distinct_words(first, words)
    bleu, first_bleu = quality(selection), quality(first)
    likelihood, first_likelihood = log_likelihoods
    score, first_score = (selection[name].to_numpy().astype(float) for name in ("score", "first_score"))
    finite = np.isfinite(score) & np.isfinite(first_score)
    rows = (
        (LENGTH, length, first_length, guards.length * first_length),
        (DISTINCT, distinct, first_distinct, guards.distinct_words * first_distinct),
        (QUALITY, bleu, first_bleu, guards.quality * first_bleu),
        (LIKELIHOOD, likelihood, first_likelihood, first_likelihood - guards.likelihood),
        (CHANGED, float((selection["rank"].to_numpy() > 0).mean()), None, None),
        (CANDIDATES, float(selection["candidates"].to_numpy().mean()), None, None),
        (IMPOSSIBLE, float(np.isneginf(score).mean()), None, None),
        (GAIN, float((score[finite] - first_score[finite]).mean()) if finite.any() else 0.0, None, None),
    )
    return [dict(zip(("metric", "value", "first", "least"), row, strict=True)) for row in rows]


def impossible_warnings(table: pa.Table) -> list[str]:
    """Warnings, one per seed of a GUARDS table, where many sources have no possible candidate."""
    return [
        f"EM iteration {row['iteration']} (seed {row['seed']}): for {100 * row['value']:.3g} % of the sources no "
        f"candidate is possible under the models that choose, and the first one was taken; give the parallel model "
        f"more slots (objective.upsampling), or raise model.max_length"
        for row in table.to_pylist()
        if row["metric"] == IMPOSSIBLE and row["value"] > WARNED
    ]


def missed(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The bounds that are missed, as sentences; none when the loop may go on."""
    return [
        f"{MEANING[row['metric']]} is {row['value']:.4g}, below the bound of {row['least']:.4g} "
        f"(the first teacher's own translations: {row['first']:.4g})"
        for row in rows
        if row["least"] is not None and not row["value"] >= row["least"]
    ]


def verdicts(table: pa.Table) -> dict[int, str]:
    """Why the loop ends before this GUARDS table's iteration, by seed; empty where it goes on."""
    reasons_by_seed = {}
    rows = table.to_pylist()
    for seed in sorted({row["seed"] for row in rows}):
        rows_of_seed = [row for row in rows if row["seed"] == seed]
        reasons = "; ".join(missed(rows_of_seed))
        where = f"EM iteration {rows_of_seed[0]['iteration']} (seed {seed})"
        ending = f"{where}: the loop ends here, the chosen candidates are too poor: {reasons}"
        reasons_by_seed[seed] = ending if reasons else ""
    return reasons_by_seed


def mean_length(table: pa.Table) -> float:
    """Tokens per sentence, eos included."""
    return float(np.mean(table["tokens"].combine_chunks().value_lengths().to_numpy())) + 1


def distinct_words(table: pa.Table, words: Callable[[str], list[str]]) -> float:
    """Number of distinct words."""
    return float(len({word for text in table["text"].to_pylist() for word in words(text)}))


def guards_table(rows: list[dict[str, Any]], iteration: int, seed: int) -> pa.Table:
    """The GUARDS table of one iteration."""
    return GUARDS.of_rows([{"iteration": iteration, "seed": seed, **row} for row in rows])
