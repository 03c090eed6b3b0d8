"""Progress of a command on a terminal: one line on standard error that is written again and again."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from retort.data.durations import duration
from retort.data.streams import complain

SECONDS = 0.2
"""Between two writings."""
CLEAR = "\r\x1b[K"


class Progress:
    """Counts lines. Silent where standard error is no terminal, or where the output goes to it, too."""

    def __init__(self, total_bytes: int | None, to_terminal: bool) -> None:
        """``total_bytes``: size of the input, None if it is not known."""
        self._shown = not to_terminal and is_terminal(sys.stderr)
        self._total, self._bytes, self._lines = total_bytes, 0, 0
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hide()

    def hide(self) -> None:
        """Make room for something else."""
        if self._shown and self._last > self._start:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()

    def complain(self, text: str) -> None:
        """A line on standard error."""
        self.hide()
        complain(text)

    def add(self, texts: list[str]) -> None:
        """Lines that are translated."""
        self._lines += len(texts)
        self._bytes += sum(len(text.encode("utf-8", "surrogatepass")) + 1 for text in texts)
        now = time.monotonic()
        if self._shown and now - self._last >= SECONDS:
            self._last = now
            sys.stderr.write(CLEAR + self.line(now - self._start))
            sys.stderr.flush()

    def line(self, seconds: float) -> str:
        """What is shown after so many seconds."""
        said = f"{self._lines:,} lines, {self._lines / seconds:,.0f} per second"
        if not self._total:
            return said
        share = min(1.0, self._bytes / self._total)
        return f"{said}, {share:.0%}, about {duration(seconds * (1 - share) / share)} left"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees what is written there."""
    return stream is not None and stream.isatty()
