"""A job ends when the workflow that started it is gone, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retort.workflow.watchdog import EXIT_ORPHANED, STOP_VARIABLE, VARIABLE, stop_jobs_on_signals

ROOT = Path(__file__).resolve().parents[3]
JOB = (
    "from retort.workflow.watchdog import end_with_workflow; import time; end_with_workflow(); "
    "print('on', flush=True); {}"
)


def start(code: str, pid: str | None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({VARIABLE: pid} if pid else {})}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
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


@pytest.mark.parametrize("pid", [None, "", "no number"])
def test_without_a_workflow_nothing_is_watched(pid: str | None) -> None:
    assert start(JOB.format("time.sleep(0.1)"), pid).wait(timeout=20) == 0


@pytest.mark.slow
@pytest.mark.parametrize("first", [False, True])
def test_a_job_gets_sigterm_when_its_workflow_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """In a container the workflow can be process 1."""
    monkeypatch.setenv(STOP_VARIABLE, str(tmp_path / "stop"))
    waiting = "import signal; signal.signal(15, lambda *_: exit(7)); time.sleep(60)"
    job = start(JOB.format(waiting), "1" if first else str(os.getpid()))
    assert job.stdout is not None
    assert job.stdout.readline() == "on\n"
    time.sleep(0.7)
    assert job.poll() is None
    (tmp_path / "stop").touch()
    assert job.wait(timeout=20) == 7


@pytest.mark.parametrize(("number", "status"), [(2, "interrupted"), (15, "-15")])
def test_a_workflow_that_gets_a_signal_asks_its_jobs_to_stop_and_then_does_what_it_did(
    tmp_path: Path, number: int, status: str
) -> None:
    (tmp_path / "stop").touch()
    code = (
        "import os, sys, time; from retort.workflow.watchdog import stop_jobs_on_signals\n"
        "stop_jobs_on_signals(sys.argv[1]); assert not os.path.exists(sys.argv[1])\n"
        "try: print('on', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
    )
    workflow = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "stop")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert workflow.stdout is not None
    assert workflow.stdout.readline() == "on\n"
    workflow.send_signal(number)
    end = workflow.wait(timeout=20)
    assert (tmp_path / "stop").exists()
    assert status in (workflow.stdout.read().strip(), str(end))


def test_a_signal_that_a_workflow_ignores_stops_no_job(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        stop_jobs_on_signals(tmp_path / "stop")
        os.kill(os.getpid(), signal.SIGINT)
        assert not (tmp_path / "stop").exists()
        assert signal.getsignal(signal.SIGTERM) != before[1]
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
