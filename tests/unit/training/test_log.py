"""The log of a training says how far it is and how long it still takes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from retort.training import log
from retort.training.log import TrainingLog, time_left


def test_time_left() -> None:
    assert time_left(50, 100, 90.0) == ", about 3 min left"
    assert time_left(50, 50, 90.0) == ", about 90 s left"
    assert time_left(1, 999, 60.0) == ", about 17 h left"
    assert time_left(0, 10, 5.0) == time_left(10, 0, 5.0) == ""


def test_lines_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter((0.0, 18.0, 40.0))
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(log.sys.stderr, "isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO):
        # a training that goes on from update 100 knows the speed of its own updates only
        training = TrainingLog(tmp_path, 700, [], 100)
        training.add(150, "train", {"loss": 2.5}, 1.0)
        training.add(700, "valid", {"loss": 2.0}, 1.0)
        training.close()
    assert caplog.messages == [
        "update 150/700, 21 %, about 3 min left, train: loss 2.5",
        "update 700/700, 100 %, valid: loss 2",
    ]


def test_a_training_that_begins_anew_shows_its_own_curve_alone(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    for number, updates in enumerate(((500, 1000), (100, 200))):
        training = TrainingLog(tmp_path, 1000, [], 0)
        for update in updates:
            training.add(update, "valid", {"loss": float(number)}, 1.0)
        training.close()
        # as if it had been written earlier: files are read in the order of their times
        for path in tmp_path.glob("events.*") if number == 0 else ():
            path.rename(path.with_name("events.out.tfevents.1.first"))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("valid/loss")] == [(100, 1.0), (200, 1.0)]
