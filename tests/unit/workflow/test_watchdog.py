"""A job ends when the workflow that started it is gone, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retort.workflow.watchdog import EXIT_ORPHANED, VARIABLE

ROOT = Path(__file__).resolve().parents[3]
JOB = (
    "from retort.workflow.watchdog import end_with_workflow; import time; end_with_workflow(); "
    "print('on', flush=True); {}"
)


def start(code: str, pid: str | None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({VARIABLE: pid} if pid else {})}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def test_a_job_ends_when_its_workflow_is_killed() -> None:
    workflow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    job = start(JOB.format("time.sleep(60)"), str(workflow.pid))
    assert job.stdout is not None
    assert job.stdout.readline() == "on\n"
    time.sleep(0.7)
    assert job.poll() is None
    workflow.kill()
    assert job.wait(timeout=20) == EXIT_ORPHANED
    workflow.wait()


@pytest.mark.parametrize("pid", [None, "", "no number", "1"])
def test_without_a_workflow_nothing_is_watched(pid: str | None) -> None:
    assert start(JOB.format("time.sleep(0.1)"), pid).wait(timeout=20) == 0
