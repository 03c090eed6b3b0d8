"""Jobs on one machine share its GPUs: each has its own, and a free one is taken again. No GPU is needed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retort.errors import RetortError
from retort.training.device import _lock_directory, claim_devices

ROOT = Path(__file__).resolve().parents[3]
JOB = """
import logging, os, sys
logging.basicConfig(stream=sys.stderr, level=logging.INFO)
from retort.training.device import claim_devices
claim_devices(int(sys.argv[1]))
claim_devices()
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


class Jobs:
    """Processes that claim a device, say which, and wait."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []

    def start(self, devices: str, count: int = 1) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        environment |= {"RETORT_DEVICES": devices, "TMPDIR": str(self.directory), "PYTHONPATH": str(ROOT)}
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        job = subprocess.Popen([sys.executable, "-c", JOB, str(count)], env=environment, text=True, **pipes)
        self.started.append(job)
        return job


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    result = Jobs(tmp_path)
    yield result
    for job in result.started:
        job.kill()
        job.communicate()


def device(job: subprocess.Popen[str]) -> str:
    assert job.stdout
    return job.stdout.readline().strip()


@pytest.mark.slow
def test_each_job_has_a_device_of_its_own_and_a_killed_one_gives_it_back(jobs: Jobs) -> None:
    names = "0,GPU-a b/c"
    first, second = jobs.start(names), jobs.start(names)
    assert {device(first), device(second)} == set(names.split(","))
    third = jobs.start(names)
    assert third.stderr and "GPUs 0, GPU-a b/c: 0 of 2 free, 1 asked for; waiting" in third.stderr.readline()
    assert third.poll() is None
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert device(third) != ""


@pytest.mark.slow
def test_a_job_has_several_devices_or_waits_and_holds_none(jobs: Jobs) -> None:
    one = jobs.start("0,1")
    taken = device(one)
    both = jobs.start("0,1", 2)
    assert both.stderr and "1 of 2 free, 2 asked for; waiting" in both.stderr.readline()
    other = jobs.start("0,1")
    assert {taken, device(other)} == {"0", "1"}
    one.kill()
    other.kill()
    assert device(both) == "0,1"


def test_more_devices_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_DEVICES", "0,1")
    with pytest.raises(RetortError, match="3 GPUs asked for, found 2: 0, 1"):
        claim_devices(3)


@pytest.mark.slow
def test_without_named_devices_nothing_is_claimed(jobs: Jobs) -> None:
    assert device(jobs.start("")) == "None"


@pytest.mark.parametrize("taken", ["open to others", "a file", "a link"])
def test_locks_are_in_a_directory_that_only_this_user_can_open(
    taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    directory = _lock_directory()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700 and _lock_directory() == directory
    directory.rmdir()
    if taken == "a file":
        directory.touch()
    elif taken == "a link":
        directory.symlink_to(tmp_path)
    else:
        directory.mkdir()
        directory.chmod(0o755)
    with pytest.raises(RetortError, match="must be a directory that only this user can open"):
        _lock_directory()
