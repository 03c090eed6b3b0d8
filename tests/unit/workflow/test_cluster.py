"""What is checked before jobs go to SLURM, with commands that print what SLURM's would."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from retort.errors import RetortError
from retort.workflow.cluster import (
    SlurmSettings,
    active_jobs,
    check_names,
    choose_status_command,
    end_jobs,
    give_up_arrays,
    ready_at_once,
)

LOGGER = logging.getLogger("test")


@dataclass
class Settings:
    status_command: str = "sacct"
    init_seconds_before_status_checks: int = 40


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of commands, all there are: a SLURM of this machine is out of reach."""
    (tmp_path / "cat").symlink_to(shutil.which("cat") or "/bin/cat")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def command(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_settings_of_the_executor_are_recognised() -> None:
    assert isinstance(Settings(), SlurmSettings) and not isinstance(object(), SlurmSettings)


def test_squeue_is_asked_where_there_are_no_accounts(commands: Path) -> None:
    settings = Settings()
    command(commands, "sacct", "exit 0")
    choose_status_command(settings, LOGGER)
    assert settings.status_command == "sacct"
    command(commands, "sacct", "exit 1")
    command(commands, "scontrol", "echo 'MinJobAge               = 300 sec'")
    choose_status_command(settings, LOGGER)
    assert settings.status_command == "squeue"


def test_slurm_must_remember_jobs_until_they_are_asked_for(commands: Path) -> None:
    command(commands, "scontrol", "echo 'MinJobAge = 100 sec'")
    with pytest.raises(RetortError, match=r"after 100 seconds.*--slurm-init-seconds-before-status-checks 33$"):
        choose_status_command(Settings(), LOGGER)
    choose_status_command(Settings(init_seconds_before_status_checks=33), LOGGER)


@pytest.mark.parametrize(
    ("arrays", "jobs", "kept"),
    [
        ({"decode_shard", "label_shard"}, 15, True),
        ({"decode_shard", "label_shard"}, 14, False),
        ({"all"}, 14, False),
        ({"score"}, 1, True),  # one job, which is no array
        (set(), 1, True),
    ],
)
def test_there_are_no_arrays_where_jobs_ready_at_once_do_not_fit(arrays: set[str], jobs: int, kept: bool) -> None:
    ready = {"decode_shard": 4, "label_shard": 8, "train_student": 2, "score": 1}
    left = set(arrays)
    give_up_arrays(left, ready, jobs, LOGGER)
    assert left == (arrays if kept else set())


def test_iterations_of_the_em_loop_are_not_ready_at_once() -> None:
    jobs = [("decode_candidates", str(iteration)) for iteration in (2, 3) for _ in range(4)]
    assert ready_at_once([*jobs, ("decode_candidates", "3"), ("train_student", None)]) == {
        "decode_candidates": 5,
        "train_student": 1,
    }


def test_jobs_of_an_earlier_call_are_ended(commands: Path) -> None:
    queue = commands / "queue"
    queue.write_text("1 pending\n")
    command(commands, "squeue", f'[ "$5" = earlier ] && cat {queue} || true')
    command(commands, "scancel", f"echo $2 > {commands}/cancelled; : > {queue}")
    end_jobs("", LOGGER)
    end_jobs("another", LOGGER)
    assert not (commands / "cancelled").exists()
    end_jobs("earlier", LOGGER)
    assert (commands / "cancelled").read_text() == "earlier\n" and active_jobs("earlier") == ""


def test_a_machine_without_slurm_is_named(commands: Path) -> None:
    with pytest.raises(RetortError, match="squeue fails; is this a login node"):
        active_jobs("x")


@pytest.mark.parametrize("name", ["$(touch executed).de", "`touch executed`.de", 'say "so".de', "a\\b.de"])
def test_names_that_the_submitting_shell_would_expand_are_refused(name: str) -> None:
    check_names(["it's a {name}; with * and & and é.de"])
    with pytest.raises(RetortError, match="a job of SLURM cannot be given a path with"):
        check_names(["text.de", name])
