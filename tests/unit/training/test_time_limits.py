"""A training with a time limit stops by itself, and goes on to what an uninterrupted one ends with, bit for bit."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from retort.training.loop import Trainer
from retort.workflow import scripting
from tests.unit.fakes_runs import TEACHER, Tables, call, changed, make_tables
from workflow_scripts import train_system

UPDATES = 24
SYSTEM = changed(
    changed(TEACHER, "training", max_updates=UPDATES, validate_every=8, decode_sentences=2), "model", dropout=0.2
)
FILES = ("model.safetensors", "source.model", "target.model")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def whole(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a training without a limit."""
    return tables.train(SYSTEM, tmp_path_factory.mktemp("whole"))


def weights(directory: Path) -> list[bytes]:
    return [(directory / name).read_bytes() for name in FILES]


def test_a_limit_leaves_a_tenth_of_the_time_and_at_most_five_minutes() -> None:
    now = time.monotonic()
    started = now - scripting.time_since_start()
    assert scripting.deadline(10) == pytest.approx(started + 540, abs=1)
    assert scripting.deadline(6000) == pytest.approx(started + 6000 * 60 - 300, abs=1)
    assert scripting.deadline(None) == math.inf
    assert 0 < scripting.time_since_start() < 24 * 3600


@pytest.mark.slow
def test_attempts_that_run_out_of_time_end_in_the_same_weights(
    tables: Tables, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # the clock strikes in the 5th update of each attempt; the limit counts from when the tests began, and never does
    update = Trainer._update

    def slow(self: Trainer, batches: object) -> None:
        update(self, batches)  # type: ignore[arg-type]
        self.done = getattr(self, "done", 0) + 1  # type: ignore[attr-defined]
        if self.done == 5:  # type: ignore[attr-defined]
            self.deadline = min(self.deadline, time.monotonic())

    monkeypatch.setattr(Trainer, "_update", slow)
    arguments = [*tables.training(SYSTEM, tmp_path / "output", tmp_path / "state"), "--time-limit", "6000"]
    for attempt in range(1, 5):
        with pytest.raises(SystemExit) as stop:
            call(train_system, *arguments)
        assert stop.value.code == scripting.EXIT_OUT_OF_TIME == 75
        errors = capsys.readouterr().err
        assert f"out of time after update {5 * attempt}; its state is saved" in errors
        assert (f"going on from update {5 * attempt - 5}\n" in errors) == (attempt > 1)
        assert not (tmp_path / "output/model.json").exists()
    call(train_system, *arguments)
    assert weights(tmp_path / "output") == weights(whole)
    assert [path.name for path in (tmp_path / "state").glob("*/finished")] == ["finished"]


def test_the_kept_state_of_a_finished_training_gives_its_results_again(
    tables: Tables, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, output = tmp_path / "state", tmp_path / "output"
    call(train_system, *tables.training(SYSTEM, output, state))
    (key,) = state.iterdir()
    assert (key / "finished").exists()
    output.rename(tmp_path / "first")
    monkeypatch.setattr(Trainer, "_update", lambda *_: pytest.fail("it trains again"))
    call(train_system, *tables.training(SYSTEM, output, state))
    assert weights(tmp_path / "first") == weights(output) == weights(whole)
    assert (key / "finished").exists()
