"""Processes that train one model together: each takes every n-th batch of an update, and gradients are summed.

All of them hold the same weights and go through the same updates. The first one alone validates, logs and writes; what
it sees (scores, the clock) is told to the others, so that all of them decide alike.
"""

from __future__ import annotations

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

from retort.errors import OutOfTime, RetortError

T = TypeVar("T")
logger = logging.getLogger(__name__)

EXIT_PEER_LOST = 76
"""Another process has ended, which whoever started them sees, too."""
SECONDS_TO_FIRST = 1.0
"""How long a later process with an error waits: the first one most often has the same, and says it."""
SECONDS_TO_CULPRIT = 3.0
"""How long a process that lost another one waits, so that the lost one is seen to have ended first."""
# Between messages the first process validates and saves.
_LONGEST_SILENCE = timedelta(days=2)


class _PeerLost(Exception):
    """Another process no longer answers."""


class Processes:
    """This process and those it trains with; alone, unless torchrun has started it."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        return self.rank == 0

    def has(self, part: int) -> bool:
        """Whether batch number ``part`` of an update is this process's."""
        return part % self.count == self.rank

    def add(self, tensor: Tensor) -> None:
        """Sum a tensor over the processes, in place."""
        if self.count > 1:
            with _listening():
                dist.all_reduce(tensor)

    def together(self, values: list[T]) -> list[T]:
        """The values of all processes, one of each in turn, as batches are dealt out."""
        if self.count == 1:
            return values
        found: list[Any] = [None] * self.count
        with _listening():
            dist.all_gather_object(found, values)
        return [value for turn in zip(*found, strict=True) for value in turn]

    def agreed(self, value: T) -> T:
        """The first process's value."""
        if self.count == 1:
            return value
        box = [value]
        with _listening():
            dist.broadcast_object_list(box, 0)
        return box[0]

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """Until the training ends. Where several processes meet the same error, the first one says it."""
        try:
            yield
        except _PeerLost as error:
            logger.info("another process no longer answers: %s", error)
            time.sleep(SECONDS_TO_CULPRIT)
            raise SystemExit(EXIT_PEER_LOST) from None
        except OutOfTime:
            if self.first:
                raise
        except RetortError:
            if not self.first:
                time.sleep(SECONDS_TO_FIRST)
            raise
        if self.count > 1:
            dist.destroy_process_group()


def join_processes() -> Processes:
    """The processes that torchrun has started with this one, each with a GPU of its own where there are GPUs."""
    count = int(os.environ.get("WORLD_SIZE", 1)) if dist.is_torchelastic_launched() else 1
    if count == 1:
        return Processes()
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_LONGEST_SILENCE)
    return Processes(dist.get_rank(), count)


@contextmanager
def _listening() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        raise _PeerLost(str(error)) from error
