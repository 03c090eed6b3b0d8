"""Every system against a baseline, and any two systems against each other, on the same sentences."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import retort
from retort.config import metric_named
from retort.config.tokenizers import AUTO
from retort.data.runs import Run
from retort.data.tables import COMPARISON
from retort.evaluation.metrics import Measured, measure
from retort.evaluation.quality import Pairs, read_pairs, read_tests
from retort.evaluation.runs import runs_of
from retort.evaluation.significance import SEED, differences

Measures = dict[tuple[str, str], Measured]
"""What one run is measured to have, by test set and metric."""


def compare(
    tests: Iterable[Path | str],
    baseline: Path | str,
    translations: Sequence[Path | str],
    pairs: Sequence[tuple[Path | str, Path | str]] = (),
    samples: int = 1000,
    seed: int = SEED,
    metrics: Sequence[str] = ("BLEU", "chrF", "TER"),
    tokenizer: str = AUTO,
) -> pa.Table:
    """The COMPARISON table: each of ``translations`` with the ``baseline``, and each (system, baseline) of ``pairs``,
    in those of the ``metrics`` that can be resampled.

    A system is never compared with itself, and no comparison is made twice. Raises RetortError when a file does not
    hold the test sets' ids, and when two files are of the same run.
    """
    corpora = read_tests(tests)
    metrics = [metric for metric in metrics if metric_named(metric).resampled]
    compared = [(path, baseline) for path in translations] + list(pairs)
    runs = runs_of(path for both in compared for path in both)
    measures = {run: _measures(read_pairs(path, corpora), metrics, tokenizer) for path, run in runs.items()}
    opponents: dict[Run, list[Run]] = {}
    for system_path, baseline_path in compared:
        system, opponent = runs[Path(system_path)], runs[Path(baseline_path)]
        systems = opponents.setdefault(opponent, [])
        if system != opponent and system not in systems:
            systems.append(system)
    rows: list[dict[str, Any]] = []
    for opponent, systems in opponents.items():
        if systems:
            for key in itertools.product(corpora, metrics):
                measured = [(system, measures[system][key]) for system in systems]
                rows += _rows(key, measured, (opponent, measures[opponent][key]), samples=samples, seed=seed)
    return pa.Table.from_pylist(rows, schema=COMPARISON.schema)


def _measures(pairs: list[Pairs], metrics: Sequence[str], tokenizer: str) -> Measures:
    return {
        (part.test_set, metric): measure(metric, part.hypotheses, references=part.references, tokenizer=tokenizer)
        for part in pairs
        for metric in metrics
    }


def _rows(
    key: tuple[str, str],
    systems: Sequence[tuple[Run, Measured]],
    baseline: tuple[Run, Measured],
    samples: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    test_set, metric = key
    opponent, base = baseline
    compared = differences(metric, [measured for _, measured in systems], base, samples=samples, seed=seed)
    for (run, _), difference in zip(systems, compared, strict=True):
        yield {
            "system": run.system,
            "seed": run.seed,
            "search": run.search,
            "test_set": test_set,
            "baseline": str(opponent),
            "metric": metric,
            "value": difference.value,
            "baseline_value": difference.baseline_value,
            "difference": difference.difference,
            "difference_low": difference.low,
            "difference_high": difference.high,
            "p_value": difference.p_value,
            "samples": samples,
            "signature": f"{base.signature}|test:paired bootstrap, two-sided|bs:{samples}|seed:{seed}"
            f"|retort:{retort.__version__}",
        }
