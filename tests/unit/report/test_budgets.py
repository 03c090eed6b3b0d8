"""Comparisons are read at equal updates and at equal time."""

from __future__ import annotations

from typing import Any

import pytest

from retort.config.load import load_config
from retort.data.runs import Run
from retort.evaluation.significance import spread
from retort.report.budgets import Reading, Readings, Validation, reading, readings
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


def inputs(logs: dict[Run, list[dict[str, Any]]], teacher_seeds: list[int] | None = None, **evaluation: Any) -> Inputs:
    objective = {"objective": {"name": "autoregressive"}}
    students = {run.system: objective for run in logs if run.system != "teacher"}
    raw = {"name": "r", "corpus": {"kind": "generated"}, "students": students}
    raw["teacher"] = {**objective, "seeds": teacher_seeds}
    config = load_config({**raw, "evaluation": evaluation})
    return Inputs(config=config, baseline="teacher/seed1/beam5", logs=logs)


def at_equal(found: Readings) -> tuple[Reading, Reading]:
    """Its readings at equal updates and at equal time, which must be there."""
    assert found.updates and found.seconds
    return found.updates, found.seconds


def test_a_method_that_costs_three_times_as_much_is_read_at_a_third_of_its_updates() -> None:
    logs = {
        Run("teacher", 1): log([10, 20, 30, 31, 32, 33]),
        Run("slow", 1): log([5, 25, 35], every=20, cost=3.0),
    }
    (found,) = readings(inputs(logs))
    assert (found.system, found.baseline, found.by_clock) == ("slow", "teacher", False)
    updates, seconds = at_equal(found)
    assert (updates.budget.mean, updates.own.mean, updates.baseline.mean) == (60, 35, 33)
    assert updates.difference.mean == pytest.approx(2)
    assert (seconds.budget.mean, seconds.own.mean, seconds.baseline.mean) == (60, 5, 33)


def test_baselines_are_those_of_the_configuration_and_of_the_same_seed() -> None:
    logs = {
        Run("teacher", 1): log([10]), Run("a", 1): log([20, 21]), Run("a", 2): log([30]), Run("b", 1): log([20]),
        Run("b", 2): log([33, 32]), Run("b", 3): log([40]),
    }  # fmt: skip
    found = {(r.system, r.baseline): r for r in readings(inputs(logs, baselines={"b": ["a", "teacher"]}))}
    assert set(found) == {("a", "teacher"), ("b", "a"), ("b", "teacher")}
    updates, _ = at_equal(found["b", "a"])
    assert updates.own.mean == pytest.approx((20 + 33 + 40) / 3)
    assert updates.difference.mean == pytest.approx((0 + 3 + 20) / 3), "seed 3 meets seed 1"
    assert updates.baseline == spread([20, 30]), "seed 1 counts once"
    updates, _ = at_equal(found["b", "teacher"])
    assert (updates.baseline.n, updates.own.n) == (1, 3)


def test_a_system_that_is_compared_with_its_own_search_alone_has_the_baseline_of_all() -> None:
    logs = {Run("teacher", 1): log([10]), Run("a", 1): log([20])}
    (found,) = readings(inputs(logs, baselines={"a": "a/beam5"}))
    assert (found.system, found.baseline) == ("a", "teacher")


def test_a_baseline_that_lacks_a_seed_takes_part_with_the_first_one_of_the_configuration() -> None:
    logs = {Run("teacher", 1): log([10]), Run("teacher", 3): log([30]), Run("a", 2): log([20])}
    (found,) = readings(inputs(logs, teacher_seeds=[3, 1]))
    assert at_equal(found)[0].difference.mean == pytest.approx(-10)


def test_where_a_log_has_no_processor_time_the_clock_is_named() -> None:
    logs = {Run("teacher", 1): log([10, 20]), Run("a", 1): log([30, 31], processor=False)}
    (found,) = readings(inputs(logs))
    _, seconds = at_equal(found)
    assert found.by_clock and seconds.budget.mean == 20
    assert seconds.own.mean == 30


def test_lower_is_better_for_some_metrics() -> None:
    both = [Validation(10, 1, 5.0), Validation(20, 2, 4.0), Validation(30, 3, 4.5)]
    found = reading([(both[:2], both[:1], Run("b", 1))], "updates", -1)
    assert found and (found.own.mean, found.baseline.mean, found.budget.mean) == (5.0, 5.0, 10)
    found = reading([(both, both, Run("b", 1))], "updates", -1)
    assert found and found.own.mean == 4.0


def test_a_training_that_was_not_validated_by_then_is_not_compared() -> None:
    early, late = [Validation(10, 1, 5.0), Validation(20, 2, 4.0)], [Validation(40, 9, 3.0)]
    pairs = [(late, early, Run("b", 1)), (early, late, Run("b", 2))]
    assert reading(pairs, "seconds", -1) is reading(pairs, "updates", -1) is None
    found = reading([*pairs, (early, early, Run("b", 3))], "seconds", -1)
    assert found and (found.own.mean, found.budget.mean, found.budget.n) == (4.0, 2, 1)
