"""The progress of a run as lines of text, and a view of it that is drawn over itself on a terminal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TextIO

from retort.data.durations import duration
from retort.workflow.progress import FAILED, INTERRUPTED, Snapshot, Standing, State, tail

BAR = 24
LOG_LINES = 15
"""Last lines of a failed job's log that are shown."""
ENDED: tuple[State, ...] = ("interrupted", "failed")
"""What jobs that have begun and will not end are."""
UP_AND_CLEAR = "\x1b[{}A\x1b[J"


def summary(snapshot: Snapshot) -> str:
    """Such as "52 %, 14 of 27 jobs, about 3 min left"."""
    text = f"{100 * snapshot.share:.0f} %, {len(snapshot.having('done'))} of {len(snapshot.standings)} jobs"
    for state in ENDED:
        if count := len(snapshot.having(state)):
            text += f", {count} {state}"
    return text + (f", about {duration(snapshot.left)} left" if snapshot.left else "")


def view(name: str, snapshot: Snapshot) -> list[str]:
    """The bar of the run, and a line for each running job."""
    filled = round(BAR * snapshot.share)
    bar = "#" * filled + "-" * (BAR - filled)
    return [f"{name} [{bar}] {summary(snapshot)}", *(f"  {line(s)}" for s in snapshot.having("running"))]


def line(standing: Standing) -> str:
    """A running job: updates, loss, validation score, its own time left."""
    parts = []
    if training := standing.training:
        parts.append(f"update {training.update}/{training.updates}")
        if training.loss is not None:
            parts.append(f"loss {training.loss:.3g}")
        if training.score is not None:
            parts.append(f"{standing.job.metric} {training.score:.1f}")
    parts.append(f"about {duration(standing.left)} left")
    return f"{standing.job.title}: {', '.join(parts)}"


def framed(title: str, log: Path) -> list[str]:
    """The end of the log of a job that failed or was interrupted in a frame."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        text = f"(cannot be read: {error.strerror})"
    head = f"--- {'interrupted' if INTERRUPTED.search(text) else 'failed'}: {title} ({log}) "
    rows = text.splitlines()[-LOG_LINES:] or ["(empty)"]
    return [head.ljust(80, "-"), *(f"| {row}" for row in rows), "-" * max(80, len(head))]


def telling(logs: list[Path]) -> list[Path]:
    """The job's own log if it names an error. Otherwise all: that of a cluster may say why the job was ended."""
    return logs[:1] if logs and FAILED.search(tail(logs[0])) else logs


class LiveView:
    """Lines at the bottom of a terminal that are drawn again in place; other text goes above them."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self._shown = stream, 0

    def draw(self, lines: list[str]) -> None:
        columns, rows = shutil.get_terminal_size()
        # a line that wraps, or scrolls, could not be taken back
        fitting = [text[: columns - 1] for text in lines[: rows - 1]]
        self.stream.write(self._taken_back() + "".join(f"{text}\n" for text in fitting))
        self.stream.flush()
        self._shown = len(fitting)

    def write(self, text: str) -> None:
        """Text that stays, above what is drawn next."""
        self.stream.write(f"{self._taken_back()}{text}\n")
        self.stream.flush()

    def _taken_back(self) -> str:
        shown, self._shown = self._shown, 0
        return UP_AND_CLEAR.format(shown) if shown else ""
