"""Starts the processes that train one model together, by torchrun's agent, and says how they ended."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from retort.errors import RetortError
from retort.training.device import VARIABLE as DEVICES


def launch(count: int, command: Sequence[str], parent_variable: str) -> None:
    """Run a Python script with its arguments ``count`` times on this machine, as torchrun does, until all have ended.

    The first process writes where this one does; of the others the last lines appear if they are to blame. When one
    fails, all are ended, and this process exits with its status. Raises RetortError when one was killed, and when there
    are GPUs, but not one for each. ``parent_variable`` names the environment
    variable by which they learn the process id of their starter, and end when it is gone.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < count:
        raise RetortError(f"{count} processes need as many GPUs, found {torch.cuda.device_count()}")
    os.environ[parent_variable] = str(os.getpid())
    # they share the GPUs that this process has claimed
    os.environ[DEVICES] = ""
    # messages stay on this machine, whatever its names and networks are
    if sys.platform.startswith("linux"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        logs = DefaultLogsSpecs(folder, redirects=dict.fromkeys(range(1, count), Std.ERR))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            logs_specs=logs,
            run_id=str(os.getpid()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "retort.training.distributed.member", *command)
        except ChildFailedError as error:
            # those that ended first come first; the others were ended because of them
            rank, failure = next(iter(error.failures.items()))
            if rank and (said := _last_words(Path(folder), rank)):
                print(said, file=sys.stderr)
            if failure.exitcode > 0:
                sys.exit(failure.exitcode)
            raise RetortError(
                f"process {rank + 1} of {count} was ended by {failure.signal_name()}, and the others with it; the "
                f"state saved last is kept: give the same command again. SIGKILL may mean that memory ran out"
            ) from None
        except SignalException as stop:
            sys.exit(128 + stop.sigval)


def _last_words(folder: Path, rank: int) -> str:
    """What a later process said at its end: an error, or a traceback."""
    lines = [line for path in folder.rglob(f"{rank}/stderr.log") for line in path.read_text().splitlines()]
    begins = ("error:", "Traceback", "Fatal", "terminate")
    start = next((n for n, line in enumerate(lines) if line.startswith(begins)), len(lines))
    return "\n".join(lines[start:])
