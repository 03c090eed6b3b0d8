"""One process holds the lock of a run, and leaves a note to the next."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retort.errors import RetortError
from retort.workflow.lock import RunLock, check_place

OTHER = """
import sys, time
from pathlib import Path
from retort.workflow.lock import RunLock
lock = RunLock(Path(sys.argv[1]), "results/r")
lock.take()
print(lock.replace_note("mine"), flush=True)
time.sleep(60)
"""


def test_the_lock_is_held_until_its_process_ends_however_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.lock"
    other = subprocess.Popen([sys.executable, "-c", OTHER, path], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "\n"
        with pytest.raises(RetortError, match="another snakemake works on results/r; wait for it"):
            RunLock(path, "results/r").take()
    finally:
        other.kill()
        other.wait()
    lock = RunLock(path, "results/r")
    lock.take()
    assert lock.replace_note("a longer note") == "mine"
    assert lock.replace_note("") == "a longer note"
    assert lock.replace_note("x") == ""
    assert path.read_text() == "x"


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RetortError, match=r"r\.lock: cannot be locked \(No locks available\); run in a directory"):
        RunLock(tmp_path / "r.lock", "results/r").take()


def test_a_checkout_below_braces_is_refused() -> None:
    check_place(Path("/home/me/retort"))
    with pytest.raises(RetortError, match="takes braces in the path of a checkout for wildcards"):
        check_place(Path("/home/{me}/retort"))
