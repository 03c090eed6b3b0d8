"""Arrays larger than memory: written part by part to a file without a name, then mapped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from retort.errors import RetortError


@contextmanager
def room_for(what: str) -> Iterator[None]:
    """Turn errors of writing a temporary file into RetortError; ``what`` names its contents."""
    try:
        yield
    except OSError as error:
        raise RetortError(
            f"{tempfile.gettempdir()}: cannot take the {what} ({error.strerror}); set TMPDIR to a directory with room"
        ) from None


class Spool:
    """A flat array of one dtype that grows, in the directory for temporary files.

    The operating system removes the file with its last user.
    """

    def __init__(self, dtype: type[np.generic], what: str) -> None:
        """``what`` names the contents in errors."""
        self.dtype = np.dtype(dtype)
        self.what = what
        self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def append(self, values: np.ndarray) -> None:
        """Append values; raises RetortError if the disk is full."""
        with room_for(self.what):
            self.file.write(np.ascontiguousarray(values, self.dtype).data)
            self.file.flush()

    def mapped(self) -> np.ndarray:
        """All appended values, read-only. Nothing can be appended afterwards."""
        with self.file:
            # an empty file cannot be mapped; a map survives the closing of its file
            if self.file.tell() == 0:
                return np.zeros(0, self.dtype)
            return np.memmap(self.file, self.dtype, "r").view(np.ndarray)
