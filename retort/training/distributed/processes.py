"""Processes that train one model together: each takes every n-th batch of an update, and gradients are summed.

All of them hold the same weights and go through the same updates. The first process alone validates, logs and writes.
Its scores and clock are broadcast, so that all processes take the same decisions. Messages are tensors and JSON:
nothing is ever unpickled.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from retort.errors import Interrupted, OutOfTime, RetortError

T = TypeVar("T")
logger = logging.getLogger(__name__)

RANK, COUNT, STORE = "RETORT_PROCESS_RANK", "RETORT_PROCESS_COUNT", "RETORT_PROCESS_STORE"
"""Environment variables of a member: its number from 0, how many there are, and the file by which they find each
other."""
EXIT_PEER_LOST = 76
"""Status of a process that lost another one; whoever started them sees the lost one, too."""
SECONDS_TO_FIRST = 1.0
"""How long a later process with an error waits: the first one usually has the same error, and reports it."""
SECONDS_TO_CULPRIT = 3.0
"""How long a process that lost another one waits, so that the lost one is seen to have ended first."""
# Between messages the first process validates and saves.
_LONGEST_SILENCE = timedelta(days=2)


class _PeerLost(Exception):
    """Another process no longer answers."""


class Processes:
    """This process and those it trains with; alone, unless ``launch`` has started it."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        return self.rank == 0

    def owns(self, part: int) -> bool:
        """Whether batch number ``part`` of an update is this process's."""
        return part % self.count == self.rank

    def all_reduce(self, tensor: Tensor) -> None:
        """Sum a tensor over the processes, in place."""
        if self.count > 1:
            with _communicating():
                dist.all_reduce(tensor)

    def gather(self, values: list[T]) -> list[T]:
        """The values of all processes, which have equally many: one of each in turn, as batches are dealt out.

        Values are plain JSON values; with several processes tuples come back as lists.
        """
        if self.count == 1:
            return values
        message = _encoded(values)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        with _communicating():
            dist.all_gather(sizes, torch.tensor([len(message)]))
            longest = int(max(sizes))
            messages = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.count)]
            dist.all_gather(messages, torch.nn.functional.pad(message, (0, longest - len(message))))
        received = [_decoded(m[: int(size)]) for m, size in zip(messages, sizes, strict=True)]
        return [value for turn in zip(*received, strict=True) for value in turn]

    def broadcast(self, value: T) -> T:
        """The first process's value, a plain JSON value."""
        if self.count == 1:
            return value
        message = _encoded(value)
        size = torch.tensor([len(message)])
        with _communicating():
            dist.broadcast(size, 0)
            if not self.first:
                message = torch.zeros(int(size), dtype=torch.uint8)
            dist.broadcast(message, 0)
        return _decoded(message)  # type: ignore[no-any-return]

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Ends the group of processes after the block. Where several have the same error, the first one reports it."""
        try:
            yield
        except _PeerLost as error:
            logger.info("another process no longer answers: %s", error)
            time.sleep(SECONDS_TO_CULPRIT)
            raise SystemExit(EXIT_PEER_LOST) from None
        except (OutOfTime, Interrupted):
            if self.first:
                raise
        except RetortError:
            if not self.first:
                time.sleep(SECONDS_TO_FIRST)
            raise
        if self.count > 1:
            dist.destroy_process_group()


def is_member() -> bool:
    """Whether this process was started by ``launch``."""
    return RANK in os.environ


def join_processes() -> Processes:
    """The processes that ``launch`` has started with this one, each with a GPU of its own where there are GPUs."""
    if not is_member():
        return Processes()
    rank, count = int(os.environ[RANK]), int(os.environ[COUNT])
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend, init_method=f"file://{os.environ[STORE]}", rank=rank, world_size=count, timeout=_LONGEST_SILENCE
    )
    return Processes(rank, count)


def _encoded(value: object) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _decoded(message: Tensor) -> Any:
    return json.loads(message.numpy().tobytes())


@contextmanager
def _communicating() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        raise _PeerLost(str(error)) from error
