"""Time on processors of the processes that work for a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

NANOSECONDS = 1e-9


def processor_seconds(pid: int) -> float | None:
    """Time on processors of a process and of the processes that it started and that still run; None where the system
    does not tell."""
    try:
        own = sum(_on_processor(task) for task in Path(f"/proc/{pid}/task").iterdir())
        children = [processor_seconds(child) for child in _children(pid)]
    except (OSError, ValueError):
        return None
    return own + sum(seconds for seconds in children if seconds is not None)


def _on_processor(task: Path) -> float:
    return NANOSECONDS * int((task / "schedstat").read_text().split()[0])


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())
