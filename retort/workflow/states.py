"""States of trainings and shards: kept until the workflow has recorded the results made from them."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from retort.data.files import FINISHED


def forget_recorded(states: Path, is_recorded: Callable[[str], bool]) -> None:
    """Remove the states below ``states/<rule>/<key>`` of finished work whose output is there and ``is_recorded``.

    A result that was written, but not recorded before the workflow was killed, is made again. It then comes from the
    state at once. So does the result of a job whose shell was killed after the work was done: Snakemake removes it,
    and records it all the same.
    """
    for mark in states.glob(f"*/*/{FINISHED}"):
        output = mark.read_text(encoding="utf-8").strip()
        if Path(output).exists() and is_recorded(output):
            shutil.rmtree(mark.parent, ignore_errors=True)


def abandoned(states: Path) -> str | None:
    """How to remove the states below ``states/<rule>/<key>`` of a run that is finished, with their sizes; None without
    any. They are of interrupted trainings and shards whose parameters or code have changed since."""
    sizes = {
        state: sum(path.stat().st_size for path in state.rglob("*") if path.is_file())
        for state in sorted(states.glob("*/*"))
        if state.is_dir()
    }
    if not sizes:
        return None
    listed = "".join(f"\n  {state} ({size / 1e6:,.1f} MB)" for state, size in sizes.items())
    return (
        f"{states}: {sum(sizes.values()) / 1e6:,.1f} MB of states of interrupted work with other parameters or code, "
        f"which this run no longer needs: rm -r {shlex.quote(str(states))}{listed}"
    )
