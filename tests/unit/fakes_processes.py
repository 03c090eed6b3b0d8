"""Processes that train together, forked from one that has imported everything, so that they start at once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from retort.training.distributed import processes

SECONDS_AT_MOST = 120
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.unit.fakes_training", "workflow_scripts.train_system", "torch._dynamo"])


def run_together(directory: Path, task: Callable[..., Any], *arguments: Any, count: int = 2) -> list[tuple[int, Any]]:
    """``task(rank, *arguments)`` in processes as ``launch`` starts them: status and result (None if there is none) of
    each. They find each other by a file in ``directory``."""
    directory.mkdir(exist_ok=True)
    ends = [_CONTEXT.Pipe(duplex=False) for _ in range(count)]
    started = [
        _CONTEXT.Process(target=_run, args=(rank, count, directory / "store", ends[rank][1], task, arguments))
        for rank in range(count)
    ]
    found = []
    for process in started:
        process.start()
    for _, sender in ends:
        sender.close()
    for (receiver, _), process in zip(ends, started, strict=True):
        try:
            result = receiver.recv() if receiver.poll(SECONDS_AT_MOST) else None
        except EOFError:
            result = None
        process.join(SECONDS_AT_MOST)
        process.kill()
        process.join()
        found.append((process.exitcode or 0, result))
    return found


def _run(rank: int, count: int, store: Path, end: Connection, task: Callable[..., Any], arguments: Any) -> None:
    os.environ |= {processes.RANK: str(rank), processes.COUNT: str(count), processes.STORE: str(store)}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    processes.SECONDS_TO_FIRST, processes.SECONDS_TO_CULPRIT = 0.1, 0.3
    end.send(task(rank, *arguments))
