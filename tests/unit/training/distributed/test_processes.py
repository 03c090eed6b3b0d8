"""Two processes that train together end with what one ends with, whatever happens to them; gloo stands in for NCCL."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retort.config import Argmax, Greedy, Imitation, Mixture, Rollout, System
from retort.config.mixing import SelectiveMixture
from retort.errors import RetortError
from retort.losses.base import Loss
from retort.training import loop
from retort.training.distributed.processes import EXIT_PEER_LOST, Processes, join_processes
from retort.training.state import TrainingState
from retort.training.weighting import Scores, Weighting
from retort.workflow.scripting import EXIT_OUT_OF_TIME, run_script
from tests.unit.fakes_processes import run_together
from tests.unit.fakes_runs import TEACHER, Tables, changed, make_tables
from tests.unit.fakes_training import OBJECTIVES, sequences, small_model, trainer
from workflow_scripts import train_system

SETTINGS = {"max_updates": 6, "warmup": 2, "validate_every": 3, "batch_tokens": 96, "accumulate": 4}
SELECTIVE = SelectiveMixture(kind="selective", evaluator="any", start=0.5, slope=0.2)
IMITATION = Imitation(
    name="imitation",
    labels="hard",
    beta=Mixture(schedule="linear", share=0.2),
    rollout=Rollout(updates=2, max_ratio=1),
)


@pytest.fixture(autouse=True)
def what_a_learner_sets_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """learner() also runs in processes of its own, where no fixture reaches, and so sets these by itself."""
    monkeypatch.setattr(loop, "LOG_EVERY", loop.LOG_EVERY)
    monkeypatch.setitem(OBJECTIVES, "imitation", IMITATION)


def learner(directory: Path, name: str, group: Processes, **settings: Any) -> loop.Trainer:
    """A trainer of few updates, as one of some processes."""
    loop.LOG_EVERY = 3
    OBJECTIVES["imitation"] = IMITATION
    train, valid = sequences(200, 1, reverse=True), sequences(20, 2, reverse=True)
    search = Argmax(kind="argmax") if name in ("glat", "vanilla") else Greedy(kind="greedy")
    made = trainer(directory / "state", name, train, valid, search, dropout=0.2, **{**SETTINGS, **settings})
    weighting = None
    if name == "imitation":
        made.teacher = small_model(OBJECTIVES["autoregressive"], seed=5)  # type: ignore[assignment]
    if name == "vanilla":
        # of half of the samples some are left out
        train.distilled = np.arange(len(train)) % 2 == 0
        scores = Scores(train.ids, np.linspace(0, 1, len(train)))
        weighting = Weighting(made.objective, SELECTIVE, evaluator=scores)
    again = made.model, made.objective, made.corpus, made.validator, made.settings, 1, torch.float32, made.state
    return loop.Trainer(*again, made.teacher, processes=group, weighting=weighting)


def train(rank: int, directory: Path, name: str, alone: bool = False) -> list[Any]:
    """Train to the end, and the first process saves; the log."""
    made = learner(directory, name, Processes() if alone else join_processes())
    assert made.processes.rank == rank
    result = made.run(directory / "events")
    assert (result is None) == (rank > 0)
    made.save()
    return made.progress.rows


def timeless(rows: list[Any], *splits: str) -> list[Any]:
    return [row[:4] for row in rows if row[2] not in ("tokens_per_second", "processor_seconds") and row[1] in splits]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["autoregressive", "glat", "vanilla", "imitation"])
def test_gradients_losses_and_counters_are_those_of_one_process(tmp_path: Path, name: str) -> None:
    rows = train(0, tmp_path / "one", name, alone=True)
    (status, first_rows), (other_status, other_rows) = run_together(tmp_path / "two", train, tmp_path / "two", name)
    assert (status, other_status) == (0, 0)
    alone, together = (TrainingState(tmp_path / n / "state", "key").load() for n in ("one", "two"))
    assert alone and together
    for counter in ("update", "epoch", "position", "tokens", "since_best"):
        assert alone[1][counter] == together[1][counter], counter
    # first moments are means of the gradients
    for moment in ("0.exp_avg", "1.exp_avg"):
        assert alone[0][moment].abs().max() > 1e-3
        torch.testing.assert_close(together[0][moment], alone[0][moment], rtol=1e-3, atol=2e-6)
    expected, found = (timeless(every, "train", "valid") for every in (rows, first_rows))
    assert {row[1] for row in expected} == {"train", "valid"}
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in expected], rel=1e-3, abs=1e-6)
    assert timeless(other_rows, "train", "valid") == found
    if name == "vanilla":
        assert {row[2] for row in found} >= {"kept", "kept_raw", "kept_distilled"}
        assert 0 < next(row[3] for row in found if row[2] == "kept") < 1


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return make_tables(tmp_path_factory.mktemp("tables"))


def call(rank: int, arguments: list[str]) -> None:
    run_script(train_system.parser(), train_system.main, arguments)


SYSTEM = changed(changed(TEACHER, "training", **SETTINGS, decode_sentences=2), "model", dropout=0.2)
FILES = ("model.safetensors", "source.model", "target.model")


@pytest.mark.slow
def test_stopped_by_the_clock_they_go_on_bit_for_bit(tables: Tables, tmp_path: Path) -> None:
    whole = tables.training(SYSTEM, tmp_path / "whole", tmp_path / "uninterrupted")
    assert [status for status, _ in run_together(tmp_path / "1", call, whole)] == [0, 0]
    parts = tables.training(SYSTEM, tmp_path / "parts", tmp_path / "state")
    # too short for a second update; the others leave it to the first one to say so
    limited = run_together(tmp_path / "limited", call, [*parts, "--time-limit", "0.001"])
    assert [status for status, _ in limited] == [EXIT_OUT_OF_TIME, 0]
    (state,) = tmp_path.glob("state/*/update*")
    assert state.name == "update000000001"
    assert [status for status, _ in run_together(tmp_path / "2", call, parts)] == [0, 0]
    for name in FILES:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert json.loads((tmp_path / "parts/model.json").read_text())["processes"] == 2
    assert [path.read_text() for path in tmp_path.glob("state/*/finished")] == [f"{tmp_path}/parts/model.safetensors"]


@pytest.mark.slow
def test_another_number_of_processes_goes_on_and_rounds_differently(tables: Tables, tmp_path: Path) -> None:
    begun = [*tables.training(SYSTEM, tmp_path / "mixed", tmp_path / "state"), "--time-limit", "0.001"]
    assert [status for status, _ in run_together(tmp_path / "2", call, begun)] == [EXIT_OUT_OF_TIME, 0]
    call(0, begun[:-2])
    call(0, tables.training(SYSTEM, tmp_path / "alone", tmp_path / "another"))
    losses = [json.loads((tmp_path / n / "model.json").read_text())["validation"]["loss"] for n in ("mixed", "alone")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def poisoned(rank: int, directory: Path, which: tuple[int, ...]) -> None:
    """A training in which some processes see a loss that is not finite in the third update."""
    made = learner(directory, "autoregressive", join_processes())
    compute = made.compute

    def spoilt(*arguments: Any) -> Loss:
        loss = compute(*arguments)
        bad = rank in which and made.progress.update == 2
        return Loss(loss.total * math.nan) if bad else loss

    made.compute = spoilt  # type: ignore[assignment]

    def main(_: argparse.Namespace) -> None:
        with made.processes.guarded():
            made.run(directory / "events")

    run_script(argparse.ArgumentParser(), main, [])


@pytest.mark.slow
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_an_error_of_one_process_ends_them_all(tmp_path: Path, which: tuple[int, ...]) -> None:
    statuses = [status for status, _ in run_together(tmp_path, poisoned, tmp_path, which)]
    assert statuses == [2 if rank in which else EXIT_PEER_LOST for rank in range(2)]


def test_processes_that_have_come_apart_stop(tmp_path: Path) -> None:
    statuses = [status for status, _ in run_together(tmp_path, apart, tmp_path)]
    assert statuses == [2, 2]


def apart(rank: int, directory: Path) -> None:
    made = learner(directory, "autoregressive", join_processes())
    made.optimiser.master[0] += rank

    def main(_: argparse.Namespace) -> None:
        with made.processes.guarded(), pytest.raises(RetortError, match="come apart"):
            made.run(directory / "events")
        sys.exit(2)

    run_script(argparse.ArgumentParser(), main, [])


def test_batches_that_cannot_be_dealt_out_are_refused_before_anything_starts(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        call(0, [*tables.training(SYSTEM, tmp_path / "out", tmp_path / "state"), "--processes", "3"])
    assert stop.value.code == 2
    assert (
        "3 GPUs cannot share the 4 batches of an update evenly; set training.accumulate to a multiple of 3"
        in capsys.readouterr().err
    )


def test_samples_that_wait_for_those_before_them_need_one_process() -> None:
    paced = System.model_validate({"objective": {"name": "vanilla"}, "self_paced": {}, "training": {"accumulate": 2}})
    assert not paced.unshareable(1)
    assert "self_paced compares each batch with those before it" in paced.unshareable(2)


def test_one_process_sends_no_messages() -> None:
    alone = Processes()
    assert alone.first and [alone.owns(part) for part in range(3)] == [True] * 3
    assert alone.gather([1, 2]) == [1, 2] and alone.broadcast(3) == 3
    alone.all_reduce(torch.ones(1))


def test_batches_are_dealt_out_in_turn() -> None:
    assert [[part for part in range(6) if Processes(rank, 3).owns(part)] for rank in range(3)] == [
        [0, 3],
        [1, 4],
        [2, 5],
    ]
