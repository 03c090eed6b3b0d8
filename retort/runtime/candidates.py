"""A lexical shortlist as the runtime reads it: for each source piece the target ids that a graph is to score."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.lib.format import read_array

from retort.errors import RetortError


@dataclass(frozen=True)
class Candidates:
    """Rows of target ids, one after the other."""

    start_r: np.ndarray
    """Where each row starts, and where the last one ends. Row 0 is of every source, row i + 1 of source id i."""
    ids: np.ndarray

    @classmethod
    def of_rows(cls, rows: Sequence[np.ndarray]) -> Self:
        """From the rows themselves."""
        starts = np.cumsum([0, *map(len, rows)])
        return cls(starts.astype(np.int32), np.concatenate(rows).astype(np.int32))

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file. Raises RetortError if it is none."""
        try:
            with path.open("rb") as file:
                return cls(read_array(file, allow_pickle=False), read_array(file, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise RetortError(f"{path}: cannot be read ({error}); export the system again") from None

    def to_bytes(self) -> bytes:
        """The content of a file: two arrays in the format of numpy."""
        file = io.BytesIO()
        np.save(file, self.start_r)
        np.save(file, self.ids)
        return file.getvalue()

    def of(self, sources: Sequence[Sequence[int]]) -> np.ndarray:
        """Candidates of any of the sources, int64, ascending."""
        rows = {0, *(i + 1 for source in sources for i in source)}
        ids = np.concatenate([self.ids[self.start_r[row] : self.start_r[row + 1]] for row in rows])
        return np.unique(ids).astype(np.int64)
