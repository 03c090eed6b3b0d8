"""Chooses the device and the precision, and claims GPUs that several jobs of a machine share."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import stat
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import torch

from retort.errors import RetortError
from retort.models.kernels import keep_pages

VARIABLE = "RETORT_DEVICES"
_SECONDS_BETWEEN_TRIES = 0.5
_claimed: list[int] = []

logger = logging.getLogger(__name__)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prepare_device(threads: int, name: str | None = None) -> torch.device:
    """Use ``threads`` CPU threads; returns the device of this name, by default a CUDA device if there is one, else the
    CPU. Raises RetortError for a CUDA device that is not there."""
    if name != "cpu":
        claim_devices()
    torch.set_num_threads(threads)
    keep_pages()
    if name == "cuda" and not torch.cuda.is_available():
        raise RetortError("device cuda: torch sees none on this machine; choose cpu")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def claim_devices(count: int = 1) -> None:
    """Reserve ``count`` of the GPUs in the variable RETORT_DEVICES for this process; without the variable, do nothing.

    A claim is a file lock, which the system releases when the process ends. Waits until ``count`` GPUs are free, and
    holds none while it waits. Call it before the first use of CUDA. Raises RetortError if fewer GPUs are named.
    """
    names = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    if not names or _claimed:
        return
    if count > len(names):
        raise RetortError(f"{count} GPUs asked for, found {len(names)}: {', '.join(names)}")
    directory = _lock_directory()
    waiting = False
    while len(locks := _lock_free_devices(directory, names, count)) < count:
        for handle in locks.values():
            os.close(handle)
        if not waiting:
            free = f"{len(locks)} of {len(names)} free"
            logger.info("GPUs %s: %s, %d asked for; waiting", ", ".join(names), free, count)
        waiting = True
        # two jobs that wait for several GPUs must not keep trying at the same moments
        time.sleep(_SECONDS_BETWEEN_TRIES * random.uniform(0.5, 1.5))
    _claimed.extend(locks.values())
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(locks)
    logger.info("this job has GPU %s", ", ".join(locks))


def _lock_directory() -> Path:
    """A directory that only this user can open; raises RetortError if another one has its name."""
    directory = Path(tempfile.gettempdir()) / f"retort-devices-{os.getuid()}"
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        facts = directory.lstat()
        private = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077
        if not private:
            raise RetortError(
                f"{directory}: must be a directory that only this user can open, for the locks of GPUs; remove it, or "
                f"set TMPDIR to another directory"
            ) from None
    return directory


def _lock_free_devices(directory: Path, names: list[str], count: int) -> dict[str, int]:
    """Lock up to ``count`` devices that no other process holds; returns the handles of their lock files."""
    locks: dict[str, int] = {}
    for name in names:
        if len(locks) == count:
            break
        handle = os.open(directory / quote(name, safe=""), os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        locks[name] = handle
    return locks


def precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a configured precision; auto is bfloat16 where the device multiplies matrices faster in it."""
    if name != "auto":
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def describe_device(device: torch.device) -> dict[str, object]:
    """Facts for provenance: type and name of the device, threads, torch's version."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"type": device.type, "name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
