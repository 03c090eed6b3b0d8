"""The lock of a run: one workflow at a time works on its files.

Snakemake's own lock outlives a killed process and would refuse the next call; the system releases this one when the
process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from retort.errors import RetortError


def lock_of(name: str, base: Path) -> Path:
    """The lock file of the run ``name`` in the working directory ``base``."""
    return base / ".snakemake" / f"{name}.run-lock"


def stop_file_of(name: str, base: Path) -> Path:
    """The file that is there from when the run ``name`` was interrupted until it is started again."""
    return base / ".snakemake" / f"{name}.stop"


def is_held(path: Path) -> bool:
    """Whether a process holds the lock in this file."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _locked(path, file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def _locked(path: Path, file: int, kind: int) -> bool:
    """Lock an open file if nobody else has; raises RetortError where files cannot be locked."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # some network file systems have no locks
        raise RetortError(
            f"{path.absolute()}: cannot be locked ({error.strerror}); run in a directory on another file system"
        ) from None
    return True


def check_place(root: Path) -> None:
    """Raise RetortError where Snakemake cannot use a checkout because of its path."""
    if "{" in str(root) or "}" in str(root):
        raise RetortError(f"{root}: Snakemake takes braces in the path of a checkout for wildcards; move it")


class RunLock:
    """The lock of ``run``, such as results/<name>, in the file ``path``, which keeps a note for the next holder."""

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        self._file = -1

    def take(self) -> None:
        """Hold the lock until the process ends; raises RetortError where another process holds it, or nobody can."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT)
        # a second time: somebody may just have asked whether it is held
        if not _locked(self.path, self._file, fcntl.LOCK_EX):
            time.sleep(0.2)
            if _locked(self.path, self._file, fcntl.LOCK_EX):
                return
            raise RetortError(f"another snakemake works on {self.run}; wait for it, or choose another name")

    def replace_note(self, note: str) -> str:
        """Leave a note, and return the one that was there. The lock must be held."""
        before = os.pread(self._file, os.fstat(self._file).st_size, 0).decode().strip()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, note.encode(), 0)
        return before
