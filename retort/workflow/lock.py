"""The lock of a run: one workflow at a time works on its files.

Snakemake's own lock outlives a killed process and would refuse the next call; the system releases this one when the
process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from retort.errors import RetortError


class RunLock:
    """The lock of ``run``, such as results/<name>, in the file ``path``, which keeps a note for the next holder."""

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        self._file = -1

    def take(self) -> None:
        """Hold the lock until the process ends; raises RetortError where another process holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RetortError(f"another snakemake works on {self.run}; wait for it, or choose another name") from None

    def replace_note(self, note: str) -> str:
        """Leave a note, and return the one that was there. The lock must be held."""
        before = os.pread(self._file, os.fstat(self._file).st_size, 0).decode().strip()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, note.encode(), 0)
        return before
