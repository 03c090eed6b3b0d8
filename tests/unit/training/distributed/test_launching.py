"""What is said, and with which status, when one of some processes fails; they are small scripts here."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from retort.errors import RetortError
from retort.training.distributed.launching import launch
from retort.workflow.watchdog import STOP_VARIABLE, VARIABLE

SCRIPT = """
import os, sys, time
rank = int(os.environ["RETORT_PROCESS_RANK"])
names = ("RETORT_PROCESS_COUNT", "RETORT_DEVICES", "%s")
open(f"{sys.argv[1]}/{rank}", "w").write(" ".join(os.environ[n] for n in names))
def fail(status, *lines):
    print(*lines, sep="\\n", file=sys.stderr, flush=True)
    sys.exit(status)
"""


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


def test_a_signal_is_passed_on_and_is_the_status(run: Callable[[str], None], tmp_path: Path) -> None:
    body = """
import signal
def stop(*_):
    open(f"{sys.argv[1]}/{rank}.stopped", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open(f"{sys.argv[1]}/{rank}.ready", "w").close()
time.sleep(60)
"""

    def interrupt() -> None:
        while not all((tmp_path / f"{rank}.ready").exists() for rank in range(2)):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(SystemExit) as stop:
        run(body)
    assert stop.value.code == 128 + signal.SIGTERM
    assert all((tmp_path / f"{rank}.stopped").exists() for rank in range(2))


JOINED = """
import torch
from retort.training.distributed.processes import join_processes
group = join_processes()
total = torch.ones(3)
group.all_reduce(total)
assert group.gather([[group.rank, 0.1]]) == [[0, 0.1], [1, 0.1]] and total.tolist() == [2.0] * 3
assert group.broadcast({"rank": group.rank}) == {"rank": 0}
open(f"{sys.argv[1]}/{rank}.joined", "w").write(str(os.getpid()))
while not os.path.exists(f"{sys.argv[1]}/stop"):
    time.sleep(0.02)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of sockets")
def test_nothing_listens_but_on_the_loopback_interface(run: Callable[[str], None], tmp_path: Path) -> None:
    seen: list[str] = []

    def look() -> None:
        members = [tmp_path / f"{rank}.joined" for rank in range(2)]
        while not all(path.exists() and path.read_text() for path in members):
            time.sleep(0.02)
        pids = [os.getpid(), *(int(path.read_text()) for path in members)]
        seen.extend(address for pid in pids for address in listening(pid))
        (tmp_path / "stop").touch()

    watcher = threading.Thread(target=look)
    watcher.start()
    run(JOINED)
    watcher.join()
    assert seen and set(seen) == {"127.0.0.1"}


def listening(pid: int) -> list[str]:
    """Addresses at which a process listens for TCP connections; one of IPv6 as its hexadecimal digits."""
    sockets = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    addresses = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                digits = fields[1].partition(":")[0]
                local = ".".join(str(byte) for byte in reversed(bytes.fromhex(digits))) if table == "tcp" else digits
                addresses.append(local)
    return addresses


def test_members_find_each_other_by_a_file_of_this_user_alone(run: Callable[[str], None], tmp_path: Path) -> None:
    run('open(f"{sys.argv[1]}/store", "w").write(os.environ["RETORT_PROCESS_STORE"] + " " + '
        'oct(os.stat(os.path.dirname(os.environ["RETORT_PROCESS_STORE"])).st_mode))')  # fmt: skip
    store, mode = (tmp_path / "store").read_text().split()
    assert mode.endswith("700") and not Path(store).parent.exists()


@pytest.mark.slow
def test_members_that_are_asked_twice_to_stop_still_save(run: Callable[[str], None], tmp_path: Path) -> None:
    """By their own watchdog, and by this process, which passes on what its own watchdog asks."""
    body = f"""
sys.path.insert(0, {str(Path(__file__).resolve().parents[4])!r})
os.environ["{STOP_VARIABLE}"] = f"{{sys.argv[1]}}/stop"
from retort.training.interruption import Interruption
from retort.workflow.watchdog import end_with_workflow
asked = Interruption()
with asked.listening():
    end_with_workflow()
    open(f"{{sys.argv[1]}}/{{rank}}.ready", "w").close()
    while not asked.signal_number:
        time.sleep(0.02)
    time.sleep(1.2)  # the rest of an update, in which all signals have come
open(f"{{sys.argv[1]}}/{{rank}}.saved", "w").close()
"""

    def interrupt() -> None:
        while not all((tmp_path / f"{rank}.ready").exists() for rank in range(2)):
            time.sleep(0.02)
        (tmp_path / "stop").touch()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(SystemExit):
        run(body)
    assert all((tmp_path / f"{rank}.saved").exists() for rank in range(2))
