"""Every system against a baseline, and any two systems against each other, on the same sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import retort
from retort.data.tables import COMPARISON
from retort.errors import RetortError
from retort.evaluation.metrics import DISTINCT, segment_statistics
from retort.evaluation.quality import Pairs, read_pairs, read_tests
from retort.evaluation.runs import Run, run_of_decoding
from retort.evaluation.significance import SEED, differences

Statistics = dict[tuple[str, str], tuple[np.ndarray, str]]
"""Segment statistics and signature by (test set, metric)."""


def compare(
    tests: Iterable[Path | str],
    baseline: Path | str,
    translations: Sequence[Path | str],
    pairs: Sequence[tuple[Path | str, Path | str]] = (),
    samples: int = 1000,
    seed: int = SEED,
    metrics: Sequence[str] = ("BLEU", "chrF", "TER"),
) -> pa.Table:
    """The COMPARISON table: each of ``translations`` with the ``baseline``, and each (system, baseline) of ``pairs``,
    in those of the ``metrics`` that can be resampled.

    A system is never compared with itself, and no comparison stands twice. Raises RetortError when a file does not
    hold the test sets' ids.
    """
    corpora = read_tests(tests)
    metrics = [metric for metric in metrics if metric not in DISTINCT]
    wanted = [(path, baseline) for path in translations] + list(pairs)
    files = _files(path for both in wanted for path in both)
    statistics = {run: _statistics(read_pairs(path, corpora), metrics) for run, path in files.items()}
    opponents: dict[Run, list[Run]] = {}
    for system_path, baseline_path in wanted:
        system, opponent = run_of_decoding(system_path), run_of_decoding(baseline_path)
        systems = opponents.setdefault(opponent, [])
        if system != opponent and system not in systems:
            systems.append(system)
    rows: list[dict[str, Any]] = []
    for opponent, systems in opponents.items():
        if systems:
            rows += _rows(opponent, systems, statistics, list(corpora), metrics, samples, seed)
    return pa.Table.from_pylist(rows, schema=COMPARISON.schema)


def _files(paths: Iterable[Path | str]) -> dict[Run, Path]:
    files: dict[Run, Path] = {}
    for path in map(Path, paths):
        run = run_of_decoding(path)
        if files.setdefault(run, path) != path:
            raise RetortError(f"{path}: {run} is already given as {files[run]}; give each system, seed and search once")
    return files


def _statistics(pairs: list[Pairs], metrics: Sequence[str]) -> Statistics:
    return {
        (part.test_set, metric): segment_statistics(metric, part.hypotheses, part.references)
        for part in pairs
        for metric in metrics
    }


def _rows(
    opponent: Run,
    systems: list[Run],
    statistics: dict[Run, Statistics],
    test_sets: list[str],
    metrics: Sequence[str],
    samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    rows = []
    for test_set in test_sets:
        for metric in metrics:
            key = (test_set, metric)
            base, signature = statistics[opponent][key]
            found = differences(metric, [statistics[system][key][0] for system in systems], base, samples, seed)
            for system, difference in zip(systems, found, strict=True):
                rows.append(
                    {
                        "system": system.system,
                        "seed": system.seed,
                        "search": system.search,
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
                        "signature": f"{signature}|test:paired bootstrap, two-sided|bs:{samples}|seed:{seed}"
                        f"|retort:{retort.__version__}",
                    }
                )
    return rows
