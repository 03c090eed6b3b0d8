"""Every system against a baseline, and any two systems against each other, on the same sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import retort
from retort.config import metric_named
from retort.config.tokenizers import AUTO
from retort.data.runs import Run
from retort.data.tables import COMPARISON
from retort.errors import RetortError
from retort.evaluation.learned import SegmentScores
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
    metrics: Sequence[str] = ("BLEU", "chrF", "TER"),
    tokenizer: str = AUTO,
    learned: Sequence[Path] = (),
) -> pa.Table:
    """The COMPARISON table: each of ``translations`` with the ``baseline``, and each (system, baseline) of ``pairs``,
    in those of the ``metrics`` that can be resampled, and in the learned ones, whose SEGMENT_SCORES ``learned`` names.

    A system is never compared with itself, and no comparison is made twice. Raises RetortError when a file does not
    hold the test sets' ids, when two files are of the same run, and when some run lacks a learned metric.
    """
    corpora = read_tests(tests)
    metrics = [metric for metric in metrics if metric_named(metric).resampled]
    compared = [(path, baseline) for path in translations] + list(pairs)
    runs = runs_of(path for both in compared for path in both)
    segments: dict[Run, list[SegmentScores]] = {}
    for table in map(SegmentScores.read, learned):
        segments.setdefault(table.run, []).append(table)
    measures: dict[Run, Measures] = {}
    for path, run in runs.items():
        parts = read_pairs(path, corpora)
        measures[run] = _measures(parts, metrics, tokenizer)
        for table in segments.get(run, []):
            measures[run] |= table.measures({part.test_set: part for part in parts})
    keys = _common_keys(measures)
    opponents: dict[Run, list[Run]] = {}
    for system_path, baseline_path in compared:
        system, opponent = runs[Path(system_path)], runs[Path(baseline_path)]
        systems = opponents.setdefault(opponent, [])
        if system != opponent and system not in systems:
            systems.append(system)
    rows: list[dict[str, Any]] = []
    for opponent, systems in opponents.items():
        if systems:
            for key in keys:
                measured = [(system, measures[system][key]) for system in systems]
                rows += _rows(key, measured, (opponent, measures[opponent][key]), samples=samples)
    return COMPARISON.of_rows(rows)


def _common_keys(measures: dict[Run, Measures]) -> list[tuple[str, str]]:
    """Test sets and metrics, which all runs must have."""
    keys = list(dict.fromkeys(key for own in measures.values() for key in own))
    for run, own in measures.items():
        if missing := {metric: None for test_set, metric in keys if (test_set, metric) not in own}:
            raise RetortError(f"{run}: no scores of {', '.join(missing)}, which other systems have; score it as well")
    return keys


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
) -> Iterator[dict[str, Any]]:
    test_set, metric = key
    opponent, base = baseline
    compared = differences(metric, [measured for _, measured in systems], base, samples=samples)
    for (run, _), difference in zip(systems, compared, strict=True):
        yield {
            **vars(run),
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
            "signature": f"{base.signature}|test:paired bootstrap, two-sided|bs:{samples}|seed:{SEED}"
            f"|retort:{retort.__version__}",
        }
