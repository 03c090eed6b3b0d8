"""Answers of an external teacher, kept one by one as they come, so that none that is kept is asked for again.

One directory per teacher and settings, one file of JSON lines per job. A job reads the files of all jobs before
it asks, and appends to its own; two jobs at the same time may ask about the same source. A line that a kill left
unfinished is dropped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from retort.data.files import writable
from retort.errors import RetortError
from retort.teachers.base import Answer, Output

SYNC_SECONDS = 1.0
"""At least so often are answers forced to disk while they come; the operating system has them at once."""


class Answers:
    """The known answers to some sources, and the file that new ones are appended to."""

    def __init__(self, directory: Path, job: str, wanted: Collection[str]) -> None:
        """``job`` names the file of new answers; of the known ones only those to ``wanted`` sources are held.

        Raises RetortError, naming file and line, for a file that is damaged.
        """
        self.path = directory / f"{job}.jsonl"
        self.known: dict[str, list[Output]] = {}
        self.requests = self.tokens = 0
        self._wanted = frozenset(wanted)
        with writable(self.path):
            directory.mkdir(parents=True, exist_ok=True)
            _drop_unfinished_line(self.path)
            for path in sorted(directory.glob("*.jsonl")):
                self._read(path)
            self._handle = self.path.open("ab")
            self._length_at_opening = self._handle.tell()
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writable(self.path):
            os.fsync(self._handle.fileno())
            self._handle.close()

    def add(self, answer: Answer) -> None:
        """Keep an answer: after this it survives a kill."""
        source = answer.question.source
        line = {"source": source, "outputs": answer.outputs, "requests": answer.requests, "tokens": answer.tokens}
        with writable(self.path):
            self._handle.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
            self._handle.flush()
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._handle.fileno())
                self._synced = time.monotonic()
        self.known[source] = answer.outputs
        self.requests += answer.requests
        self.tokens += answer.tokens

    def drop_added(self) -> None:
        """Remove the answers of this job from its file, so that their sources are asked again."""
        with writable(self.path):
            self._handle.truncate(self._length_at_opening)

    def _read(self, path: Path) -> None:
        with path.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                if not line.endswith(b"\n"):
                    return  # another job is writing it
                try:
                    row = json.loads(line)
                    source, outputs = row["source"], [_output(*output) for output in row["outputs"]]
                    self.requests += int(row["requests"])
                    self.tokens += int(row["tokens"])
                except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
                    raise RetortError(
                        f"{path}: line {number}: not an answer ({type(error).__name__}: {error}); remove this line, "
                        f"and its source is asked again"
                    ) from None
                if source in self._wanted:
                    self.known[source] = outputs


def _output(text: str, ended: str | None = None, score: float = 0.0) -> Output:
    """Raises TypeError for what is none."""
    if not isinstance(text, str) or not isinstance(ended, str | None) or not isinstance(score, int | float):
        raise TypeError(f"{[text, ended, score]!r:.80} is no output")
    return Output(text, ended, float(score))


def _drop_unfinished_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as handle:
        end = handle.seek(0, os.SEEK_END)
        position = end
        while position > 0:
            start = max(0, position - 65_536)
            handle.seek(start)
            newline = handle.read(position - start).rfind(b"\n")
            if newline >= 0:
                handle.truncate(start + newline + 1)
                return
            position = start
        handle.truncate(0)
