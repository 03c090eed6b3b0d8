"""Killed at any moment and started again with the same command, the results are those of an undisturbed run."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from retort.data.files import is_alive
from retort.data.parquet import Table, read_table
from retort.data.tables import ENCODED, SCORES, TRAINING_LOG, TRANSLATIONS
from tests.unit.fakes_runs import TEACHER, Tables, call, changed, make_tables
from tests.workflow.checkouts import ROOT, TINY, Checkout, copy_checkout
from workflow_scripts import train_system

pytestmark = pytest.mark.reliability

# A state is saved after each update, so that a kill can fall into a save.
AUTOREGRESSIVE = changed(changed(TEACHER, "training", checkpoint_minutes=1e-9), "model", dropout=0.2)
CMLM = {**AUTOREGRESSIVE, "objective": {"name": "cmlm"}, "searches": {"p": {"kind": "mask_predict", "iterations": 2}}}
SYSTEMS = {"autoregressive": AUTOREGRESSIVE, "cmlm": CMLM}
UPDATES = AUTOREGRESSIVE["training"]["max_updates"]
TIMES = ("tokens_per_second", "processor_seconds")
SECONDS_AT_MOST = 400
STARTED: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """A test that fails leaves no process behind."""
    yield
    for process in STARTED:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    STARTED.clear()


def launch(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own. It can be interrupted, though the tests may run in a script's background,
    where that is ignored."""

    def interruptible() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    STARTED.append(
        subprocess.Popen([sys.executable, *command], start_new_session=True, preexec_fn=interruptible, **options)
    )
    return STARTED[-1]


def text_of(log: Path) -> str:
    """What a log holds; Snakemake removes it when its job starts again."""
    try:
        return log.read_text()
    except FileNotFoundError:
        return ""


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> None:
    """Until the condition holds; the process must still be at work."""
    end = time.monotonic() + SECONDS_AT_MOST
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.002)


def log_rows(directory: Path) -> list[tuple[Any, ...]]:
    rows = read_table(directory / "training.parquet", TRAINING_LOG).to_pylist()
    return [(r["update"], r["split"], r["metric"], r["value"]) for r in rows if r["metric"] not in TIMES]


def temporary_files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob(".*") if path.name.endswith(".tmp") or path.name.startswith(".update")]


# ---- one training ---------------------------------------------------------------------------------------------------


class Training:
    """train_system as a process of its own."""

    def __init__(self, tables: Tables, directory: Path, system: dict[str, Any], *options: str) -> None:
        directory.mkdir(exist_ok=True)
        self.tables, self.system, self.options = tables, system, options
        self.output, self.state, self.log = directory / "output", directory / "state", directory / "log"

    def start(self) -> subprocess.Popen[bytes]:
        script = ROOT / "workflow_scripts/train_system.py"
        command = [str(script), *self.tables.training(self.system, self.output, self.state), *self.options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with open(self.log, "wb") as log:
            return launch(command, env=environment, stderr=log)

    def saved(self) -> int:
        """The newest saved update."""
        return max((int(path.name[6:15]) for path in self.state.glob("*/update*")), default=0)

    def has_saved(self, update: int) -> bool:
        """Whether this update, or a later one, is saved."""
        return self.saved() >= update

    def kill(self, condition: Callable[[], Any], delay: float = 0.0) -> None:
        """Start it and kill it once the condition holds, or at the end of the delay after that."""
        process = self.start()
        wait_for(condition, process)
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL

    def finish(self) -> None:
        assert self.start().wait(timeout=SECONDS_AT_MOST) == 0

    def resume_here(self, capsys: pytest.CaptureFixture[str], system: dict[str, Any] | None = None) -> str:
        """Run it to its end in this process; returns what it logged."""
        capsys.readouterr()
        call(train_system, *self.tables.training(system or self.system, self.output, self.state))
        return capsys.readouterr().err


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def undisturbed(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Training]:
    trainings = {name: Training(tables, tmp_path_factory.mktemp(name), system) for name, system in SYSTEMS.items()}
    processes = [training.start() for training in trainings.values()]
    assert [process.wait(timeout=SECONDS_AT_MOST) for process in processes] == [0, 0]
    return trainings


def same_results(found: Training, expected: Training) -> None:
    for name in ("model.safetensors", "source.model", "target.model"):
        assert (found.output / name).read_bytes() == (expected.output / name).read_bytes(), name
    assert log_rows(found.output) == log_rows(expected.output)
    descriptions = [json.loads((training.output / "model.json").read_text()) for training in (found, expected)]
    for description in descriptions:
        del description["train_seconds"]
    assert descriptions[0] == descriptions[1]
    names = [{p.name for p in training.output.iterdir()} for training in (found, expected)]
    assert names[0] == names[1] and not temporary_files(found.output)
    assert all((state / "finished").is_file() for state in found.state.iterdir())


@pytest.mark.parametrize(("name", "shares"), [("autoregressive", (0.2, 0.5, 0.8)), ("cmlm", (0.5,))])
def test_a_training_killed_again_and_again(
    tables: Tables, undisturbed: dict[str, Training], tmp_path: Path, name: str, shares: tuple[float, ...]
) -> None:
    rng = random.Random()
    training = Training(tables, tmp_path, SYSTEMS[name])
    training.kill(lambda: True, rng.uniform(0, 1.5))  # while it starts
    for share in shares:
        wanted = int(UPDATES * share) + rng.randint(-10, 10)
        training.kill(partial(training.has_saved, wanted), rng.uniform(0, 0.03))
        assert not (training.output / "model.json").exists()
    training.kill((training.output / "training.parquet").exists, rng.uniform(0, 0.005))  # while it writes its results
    training.finish()
    same_results(training, undisturbed[name])


def test_a_killed_write_leaves_nothing_behind(
    tables: Tables, undisturbed: dict[str, Training], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(tables, tmp_path, AUTOREGRESSIVE)
    training.output.mkdir()
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in ("model.safetensors", "model.json", "training.parquet"):
        (training.output / f".{name}.{dead.pid}.tmp").write_bytes(b"half")
    training.resume_here(capsys)
    same_results(training, undisturbed["autoregressive"])


def test_a_state_of_other_parameters_is_not_resumed(
    tables: Tables, undisturbed: dict[str, Training], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(tables, tmp_path / "killed", AUTOREGRESSIVE)
    training.kill(lambda: training.saved() >= 20)
    other = changed(AUTOREGRESSIVE, "training", learning_rate=0.011)
    assert "going on" not in training.resume_here(capsys, other)
    fresh = Training(tables, tmp_path / "fresh", other)
    fresh.resume_here(capsys)
    weights = (training.output / "model.safetensors").read_bytes()
    assert weights == (fresh.output / "model.safetensors").read_bytes()
    assert weights != (undisturbed["autoregressive"].output / "model.safetensors").read_bytes()
    assert training.saved() >= 20, "the killed training's state is still its own"
    assert "going on from update" in training.resume_here(capsys)
    same_results(training, undisturbed["autoregressive"])


def test_a_corrupted_state_is_passed_over(
    tables: Tables, undisturbed: dict[str, Training], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(tables, tmp_path, AUTOREGRESSIVE)
    training.kill(lambda: training.saved() >= 20)
    early = training.saved()
    (directory,) = training.state.iterdir()
    kept = shutil.copytree(directory / f"update{early:09d}", tmp_path / "kept")
    training.kill(lambda: training.saved() >= 60)
    for newest in directory.glob("update*/tensors.safetensors"):
        newest.write_bytes(newest.read_bytes()[:1000])
    shutil.copytree(kept, directory / f"update{early:09d}")
    assert f"going on from update {early}\n" in training.resume_here(capsys)
    same_results(training, undisturbed["autoregressive"])


def processes_of(launcher: subprocess.Popen[bytes]) -> list[int]:
    """Those that it started, in the order of their starts."""
    path = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    return sorted(map(int, path.read_text().split()))


def wait_for_end(processes: list[int]) -> None:
    end = time.monotonic() + 30
    while any(is_alive(pid) for pid in processes):
        assert time.monotonic() < end, "a process outlives the one that started it"
        time.sleep(0.05)


def test_of_two_processes_one_is_killed_and_then_the_one_that_started_them(tables: Tables, tmp_path: Path) -> None:
    system = changed(AUTOREGRESSIVE, "training", accumulate=2)
    whole, parts = (Training(tables, tmp_path / name, system, "--processes", "2") for name in ("whole", "parts"))
    whole.finish()

    launcher = parts.start()
    wait_for(lambda: parts.saved() >= 20, launcher)
    processes = processes_of(launcher)
    assert len(processes) == 2
    os.kill(processes[1], signal.SIGKILL)
    assert launcher.wait(timeout=SECONDS_AT_MOST) == 2
    wait_for_end(processes)
    errors = [line for line in parts.log.read_text().splitlines() if line.startswith(("error:", "Traceback"))]
    assert len(errors) == 1 and "process 2 of 2 was ended by SIGKILL, and the others with it; the state" in errors[0]

    launcher = parts.start()
    wait_for(lambda: parts.saved() >= 60, launcher)
    processes = processes_of(launcher)
    launcher.kill()
    launcher.wait()
    wait_for_end(processes)

    parts.finish()
    same_results(parts, whole)


# ---- the whole workflow ---------------------------------------------------------------------------------------------

RUN = "results/tiny"
COMPARED: dict[str, Table] = {
    "translations/*/*/*.parquet": TRANSLATIONS,
    "distilled/translations.parquet": TRANSLATIONS,
    "distilled/encoded.parquet": ENCODED,
    "scores/*/*/*.parquet": SCORES,
}


def workflow_config() -> dict[str, Any]:
    config = copy.deepcopy(TINY)
    config["training"]["checkpoint_minutes"] = 1e-9
    del config["students"]["vanilla-raw"]
    return config


def started(checkout: Checkout) -> subprocess.Popen[bytes]:
    """The workflow in a process group of its own, up to the scores."""
    command = ["-m", "snakemake", "--set-scatter", "distill=2", "--cores", "2", "evaluate"]
    command += ["--configfile", "tiny.yaml"]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RETORT_MIRROR")}
    with open(checkout.path / "output.txt", "ab") as output:
        return launch(command, cwd=checkout.path, env=environment, stdout=output, stderr=output)


def files(run: Path) -> set[str]:
    """Names of the results; TensorBoard's events carry the time in theirs, one file a start."""
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    return {name for name in found if "/events/" not in name}


def test_a_workflow_killed_again_and_again(tmp_path: Path) -> None:
    config = workflow_config()
    whole, killed = copy_checkout(tmp_path / "whole"), copy_checkout(tmp_path / "killed")
    for checkout in (whole, killed):
        checkout.configure(config, "tiny.yaml")
    assert started(whole).wait(timeout=SECONDS_AT_MOST) == 0, (whole.path / "output.txt").read_text()

    run = killed.path / RUN
    moments: list[tuple[Callable[[], Any], bool]] = [
        (lambda: list(run.glob("state/train_system/*/update*")), False),
        ((run / "logs/train_student/ctc-distilled/seed1.log").exists, True),
        ((run / "logs/translate/ctc-distilled/seed1/collapse.log").exists, False),
    ]
    for moment, with_jobs in moments:
        process = started(killed)
        wait_for(moment, process)
        time.sleep(random.uniform(0, 0.5))
        if with_jobs:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        assert process.wait() == -signal.SIGKILL
    assert started(killed).wait(timeout=SECONDS_AT_MOST) == 0, (killed.path / "output.txt").read_text()

    expected = whole.path / RUN
    assert files(run) == files(expected)
    assert not temporary_files(run) and not [path for path in (run / "state").rglob("*") if path.is_file()]
    for path in sorted(expected.rglob("model.safetensors")):
        assert (run / path.relative_to(expected)).read_bytes() == path.read_bytes()
        assert log_rows((run / path.relative_to(expected)).parent) == log_rows(path.parent)
    compared = 0
    for pattern, table in COMPARED.items():
        for path in expected.glob(pattern):
            found = read_table(run / path.relative_to(expected), table)
            assert found.equals(read_table(path, table)), path
            compared += 1
    assert compared == 2 + 1 + 1 + 2


def teacher_of(checkout: Checkout) -> subprocess.Popen[bytes]:
    """The workflow up to the teacher, one update long enough to be caught in it."""
    command = ["-m", "snakemake", "--cores", "1", "teacher", "--configfile", "long.yaml"]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RETORT_MIRROR")}
    with open(checkout.path / "output.txt", "wb") as output:
        return launch(command, cwd=checkout.path, env=environment, stdout=output, stderr=output)


def long_training(tmp_path: Path, updates: int) -> Checkout:
    config = workflow_config()
    config["students"] = {}
    config["teacher"]["training"] = {"max_updates": updates, "validate_every": updates}
    checkout = copy_checkout(tmp_path / "checkout")
    checkout.configure(config, "long.yaml")
    return checkout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_workflow_saves_and_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    checkout = long_training(tmp_path, updates=100_000)
    run = checkout.path / RUN
    log = run / "logs/train_teacher/teacher/seed1.log"
    process = teacher_of(checkout)
    wait_for(lambda: list(run.glob("state/train_system/*/update*")), process)
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    assert "interrupted after update" in log.read_text()
    (saved,) = run.glob("state/train_system/*/update*")
    process = teacher_of(checkout)
    wait_for(lambda: "going on from update" in text_of(log), process)
    assert int(saved.name.removeprefix("update").partition(".")[0]) > 0
    process.kill()
    process.wait()


def test_a_training_that_was_finished_but_not_recorded_is_not_done_again(tmp_path: Path) -> None:
    checkout = long_training(tmp_path, updates=30)
    model = checkout.path / RUN / "systems/teacher/seed1/model.json"
    process = teacher_of(checkout)
    wait_for(model.exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    weights = model.with_name("model.safetensors").read_bytes()
    process = teacher_of(checkout)
    assert process.wait(timeout=SECONDS_AT_MOST) == 0, (checkout.path / "output.txt").read_text()
    assert "going on from update 30" in (checkout.path / RUN / "logs/train_teacher/teacher/seed1.log").read_text()
    assert model.with_name("model.safetensors").read_bytes() == weights
    assert not [path for path in (checkout.path / RUN / "state").rglob("*") if path.is_file()]
