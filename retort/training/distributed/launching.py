"""Starts the processes that train one model together on this machine, and reports how they ended.

They find each other by a file in a directory that only this user can open. Their messages go over the loopback
interface alone: no port can be reached from another machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from retort.data.streams import complain
from retort.errors import RetortError
from retort.training.device import VARIABLE as DEVICES
from retort.training.distributed.processes import COUNT, EXIT_PEER_LOST, RANK, STORE

_SECONDS_BETWEEN_LOOKS = 0.05
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def launch(count: int, command: Sequence[str], parent_variable: str) -> None:
    """Run a Python script with its arguments ``count`` times on this machine, until all have ended.

    The first process writes where this one does; of the others the last lines appear if they are to blame. When one
    fails, the others are killed, and this process exits with its status. SIGTERM, SIGINT and SIGHUP are passed on.
    ``parent_variable`` names the environment variable that holds this process's id; members end when it is gone.
    Raises RetortError when a member was killed, and when there are GPUs, but not one for each.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < count:
        raise RetortError(f"{count} processes need as many GPUs, found {torch.cuda.device_count()}")
    with tempfile.TemporaryDirectory(prefix="retort-processes-") as folder:
        # members share the GPUs that this process has claimed
        environment = os.environ | {parent_variable: str(os.getpid()), DEVICES: "", COUNT: str(count)}
        environment |= {STORE: f"{folder}/store"}
        if sys.platform.startswith("linux"):
            environment |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
        members = [_start(rank, command, environment=environment, folder=Path(folder)) for rank in range(count)]
        try:
            with _forwarding_signals(members) as received:
                culprit = _first_to_fail(members)
        finally:
            for member in members:
                member.kill()
                member.wait()
        if received:
            sys.exit(128 + received[0])
        if culprit is None:
            return
        if culprit and (message := _last_message(Path(folder) / str(culprit))):
            complain(message)
        status = members[culprit].returncode
        if status > 0:
            sys.exit(status)
        raise RetortError(
            f"process {culprit + 1} of {count} was ended by {signal.Signals(-status).name}, and the others with it; "
            f"the state saved last is kept: give the same command again. SIGKILL may mean that memory ran out"
        )


def _start(rank: int, command: Sequence[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "retort.training.distributed.member", *command]
    own = environment | {RANK: str(rank)}
    if rank == 0:
        return subprocess.Popen(arguments, env=own)
    with open(folder / str(rank), "wb") as log:
        return subprocess.Popen(arguments, env=own, stderr=log)


def _first_to_fail(members: list[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all have ended or one has failed: its number, or None. One that lost another is not to blame."""
    while True:
        statuses = [member.poll() for member in members]
        failed = [rank for rank, status in enumerate(statuses) if status]
        if failed:
            return min(failed, key=lambda rank: (statuses[rank] == EXIT_PEER_LOST, rank))
        if None not in statuses:
            return None
        time.sleep(_SECONDS_BETWEEN_LOOKS)


@contextmanager
def _forwarding_signals(members: list[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Pass signals on to the members; yields the list of those that came."""
    received: list[int] = []

    def forward(number: int, _: object) -> None:
        received.append(number)
        for member in members:
            member.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_message(log: Path) -> str:
    """What a later process wrote at its end: an error, or a traceback."""
    lines = log.read_text(errors="replace").splitlines()
    begins = ("error:", "Traceback", "Fatal", "terminate")
    start = next((n for n, line in enumerate(lines) if line.startswith(begins)), len(lines))
    return "\n".join(lines[start:])
