"""What is said, and with which status, when one of some processes fails; they are small scripts here."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retort.errors import RetortError
from retort.training.distributed.launching import launch
from retort.workflow.watchdog import VARIABLE

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
SCRIPT = """
import os, sys, time
rank = int(os.environ["RANK"])
open(f"{sys.argv[1]}/{rank}", "w").write(" ".join(os.environ[n] for n in ("WORLD_SIZE", "RETORT_DEVICES", "%s")))
def fail(status, *lines):
    print(*lines, sep="\\n", file=sys.stderr, flush=True)
    sys.exit(status)
"""


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The agent leaves its marks on the process it runs in."""
    for name in (VARIABLE, "RETORT_DEVICES", "GLOO_SOCKET_IFNAME", "TORCHELASTIC_SIGNALS_TO_HANDLE"):
        monkeypatch.setenv(name, "before")
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    logger = logging.getLogger("torch.distributed.elastic")
    level = logger.level
    yield
    logger.setLevel(level)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], None]:
    def launched(body: str) -> None:
        (tmp_path / "script.py").write_text(SCRIPT % VARIABLE + body)
        launch(2, [str(tmp_path / "script.py"), str(tmp_path), ""], parent_variable=VARIABLE)

    return launched


def test_both_run_with_the_same_arguments_and_watch_this_process(run: Callable[[str], None], tmp_path: Path) -> None:
    run("assert sys.argv[2:] == ['']")
    assert [(tmp_path / rank).read_text() for rank in "01"] == [f"2  {os.getpid()}"] * 2


def test_the_last_words_and_the_status_of_a_later_process_are_passed_on(
    run: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        run("time.sleep(60) if rank == 0 else fail(2, 'going on', 'error: train_system: bad', 'because')")
    assert stop.value.code == 2 and time.monotonic() - started < 30
    assert capfd.readouterr().err.endswith("error: train_system: bad\nbecause\n")


def test_the_first_process_speaks_for_itself(run: Callable[[str], None], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("time.sleep(60) if rank == 1 else fail(75, 'out of time')")
    assert stop.value.code == 75
    assert capfd.readouterr().err == "out of time\n"


def test_what_python_does_at_its_end_counts_for_nothing(run: Callable[[str], None]) -> None:
    run("import atexit; atexit.register(os.abort)")
    with pytest.raises(SystemExit) as stop:
        run("import atexit; atexit.register(os.abort); fail(75, '')")
    assert stop.value.code == 75


def test_a_defect_keeps_its_traceback(run: Callable[[str], None], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("time.sleep(60) if rank == 0 else [][0]")
    assert stop.value.code == 1
    said = capfd.readouterr().err
    assert said.startswith("Traceback") and said.endswith("IndexError: list index out of range\n")


def test_a_killed_process_is_an_error_that_names_it(run: Callable[[str], None]) -> None:
    with pytest.raises(RetortError, match=r"process 2 of 2 was ended by SIGKILL, and the others with it"):
        run("time.sleep(60) if rank == 0 else os.kill(os.getpid(), 9)")
