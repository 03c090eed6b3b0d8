"""Comparisons are read at equal updates and at equal time."""

from __future__ import annotations

from typing import Any

import pytest

from retort.config.load import load_config
from retort.data.runs import Run
from retort.evaluation.significance import spread
from retort.report.budgets import Validation, reading, readings
from retort.report.inputs import Inputs


def log(scores: list[float], every: int = 10, cost: float = 1.0, processor: bool = True) -> list[dict[str, Any]]:
    """A training log with a validation every ``every`` updates of ``cost`` seconds; the clock is twice as slow."""
    rows = []
    for number, score in enumerate(scores, 1):
        update = number * every
        metrics = {"BLEU": score, "loss": 1.0} | ({"processor_seconds": update * cost} if processor else {})
        rows += [
            {"update": update, "split": "valid", "metric": metric, "value": value, "seconds": 2 * update * cost}
            for metric, value in metrics.items()
        ]
    return rows


def inputs(logs: dict[Run, list[dict[str, Any]]], **evaluation: Any) -> Inputs:
    objective = {"objective": {"name": "autoregressive"}}
    students = {run.system: objective for run in logs if run.system != "teacher"}
    raw = {"name": "r", "corpus": {"kind": "generated"}, "teacher": objective, "students": students}
    config = load_config({**raw, "evaluation": evaluation})
    return Inputs(config=config, baseline="teacher/seed1/beam5", logs=logs)


def test_a_method_that_costs_three_times_as_much_is_read_at_a_third_of_its_updates() -> None:
    logs = {
        Run("teacher", 1): log([10, 20, 30, 31, 32, 33]),
        Run("slow", 1): log([5, 25, 35], every=20, cost=3.0),
    }
    (found,) = readings(inputs(logs))
    assert (found.system, found.baseline, found.by_clock) == ("slow", "teacher", False)
    assert (found.updates.budget.mean, found.updates.own.mean, found.updates.baseline.mean) == (60, 35, 33)
    assert found.updates.difference.mean == pytest.approx(2)
    assert (found.seconds.budget.mean, found.seconds.own.mean, found.seconds.baseline.mean) == (60, 5, 33)


def test_baselines_are_those_of_the_configuration_and_of_the_same_seed() -> None:
    logs = {
        Run("teacher", 1): log([10]), Run("a", 1): log([20, 21]), Run("a", 2): log([30]), Run("b", 1): log([20]),
        Run("b", 2): log([33, 32]), Run("b", 3): log([40]),
    }  # fmt: skip
    found = {(r.system, r.baseline): r for r in readings(inputs(logs, baselines={"b": ["a", "teacher"]}))}
    assert set(found) == {("a", "teacher"), ("b", "a"), ("b", "teacher")}
    assert found["b", "a"].updates.own.mean == pytest.approx((20 + 33 + 40) / 3)
    assert found["b", "a"].updates.difference.mean == pytest.approx((0 + 3 + 20) / 3), "seed 3 meets seed 1"
    assert found["b", "a"].updates.baseline == spread([20, 30]), "seed 1 counts once"
    assert (found["b", "teacher"].updates.baseline.n, found["b", "teacher"].updates.own.n) == (1, 3)


def test_where_a_log_has_no_processor_time_the_clock_is_named() -> None:
    logs = {Run("teacher", 1): log([10, 20]), Run("a", 1): log([30, 31], processor=False)}
    (found,) = readings(inputs(logs))
    assert found.by_clock and found.seconds.budget.mean == 20
    assert found.seconds.own.mean == 30


def test_lower_is_better_for_some_metrics_and_a_late_first_validation_counts() -> None:
    early, late = [Validation(10, 1, 5.0), Validation(20, 2, 4.0)], [Validation(40, 9, 3.0)]
    found = reading([(late, early, Run("b", 1))], "seconds", -1)
    assert (found.own.mean, found.baseline.mean, found.budget.mean) == (3.0, 4.0, 9)
    assert reading([(early, early, Run("b", 1))], "updates", -1).own.mean == 4.0
