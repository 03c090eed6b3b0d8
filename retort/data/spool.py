"""Arrays that do not fit in memory: written to a file without a name, part by part, and mapped."""

from __future__ import annotations

import tempfile

import numpy as np

from retort.errors import RetortError


class Spool:
    """A flat array of one dtype that grows, in the directory for temporary files; its file is gone with its last
    user."""

    def __init__(self, dtype: type[np.generic], what: str) -> None:
        """``what`` names the contents in errors."""
        self.dtype, self.what, self.file = np.dtype(dtype), what, tempfile.TemporaryFile()  # noqa: SIM115

    def append(self, values: np.ndarray) -> None:
        """Write values behind the others; raises RetortError if there is no room."""
        try:
            self.file.write(np.ascontiguousarray(values, self.dtype).data)
            self.file.flush()
        except OSError as error:
            raise RetortError(
                f"{tempfile.gettempdir()}: cannot take the {self.what} ({error.strerror}); set TMPDIR to a directory "
                f"with room"
            ) from None

    def mapped(self) -> np.ndarray:
        """All that was written, read-only."""
        with self.file:
            # an empty file cannot be mapped; a map keeps its file when that is closed
            empty = not self.file.tell()
            return np.zeros(0, self.dtype) if empty else np.memmap(self.file, self.dtype, "r").view(np.ndarray)
