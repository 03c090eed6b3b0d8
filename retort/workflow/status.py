"""What ``retort status`` says of a run."""

from __future__ import annotations

import os
import time
from pathlib import Path

from retort.errors import RetortError
from retort.workflow.lock import is_held, lock_of
from retort.workflow.progress import NAME, Progress, Snapshot, snapshot
from retort.workflow.progress_view import framed, view


def lines(run: Path | None) -> list[str]:
    """The state of a run, the running jobs, and the logs of those that failed; of the last run that was started in
    this directory unless one is named. Raises RetortError where there is none."""
    # links above it are kept: the lock and the logs are found by the path that the run was started with
    run = Path(os.path.abspath(run or _last()))
    if run.is_symlink():
        run = Path(os.path.abspath(run.parent / os.readlink(run)))
    progress = Progress.read(run)
    base = run.parents[1]
    alive = is_held(lock_of(run.name, base))
    now = snapshot(progress, base, Path(*run.parts[-2:]), alive)
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(progress.started))
    result = view(run.name, now)
    if alive:
        return [*result, f"under way since {started}", *_failures(now, base)]
    if len(now.having("done")) == len(now.standings):
        report = run / "report/report.html"
        return [*result, f"finished; started {started}", *([f"report: {report}"] if report.exists() else [])]
    return [*result, f"not under way; started {started}; the same command goes on with it", *_failures(now, base)]


def _failures(now: Snapshot, base: Path) -> list[str]:
    """``base``: the directory that the run was started in."""
    return [line for failed in now.having("failed") for line in framed(failed.job.title, base / failed.job.log)]


def _last() -> Path:
    found = sorted(Path("results").glob(f"*/{NAME}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RetortError(f"no run was started here: expected results/<run>/{NAME}; name the directory of the run")
    return found[-1].parent
