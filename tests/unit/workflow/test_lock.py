"""One process holds the lock of a run, and leaves a note to the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from retort.errors import RetortError
from retort.workflow.lock import RunLock

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
