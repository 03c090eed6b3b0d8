"""Where and in which precision to compute."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import torch

from retort.models.functional import keep_pages

VARIABLE = "RETORT_DEVICES"
_SECONDS_BETWEEN_TRIES = 0.5
_claimed: list[int] = []

logger = logging.getLogger(__name__)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prepare_device(threads: int) -> torch.device:
    """Use ``threads`` CPU threads; returns a CUDA device if there is one, else the CPU."""
    claim_device()
    torch.set_num_threads(threads)
    keep_pages()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def claim_device() -> None:
    """Make one GPU this process's own, where a workflow on this machine names those that its jobs share.

    The claim is a lock on a file, which the system releases when the process ends, however it ends. Waits for a free
    one. CUDA must not have been used before.
    """
    names = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    if not names or _claimed:
        return
    directory = Path(tempfile.gettempdir()) / f"retort-devices-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    waiting = False
    while not _claimed:
        for name in names:
            handle = os.open(directory / quote(name, safe=""), os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            _claimed.append(handle)
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            logger.info("this job has GPU %s", name)
            return
        if not waiting:
            logger.info("all GPUs (%s) are taken by other jobs; waiting", ", ".join(names))
        waiting = True
        time.sleep(_SECONDS_BETWEEN_TRIES)


def precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype for a configured precision; auto: bfloat16 where matrix products in it are faster."""
    if name != "auto":
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def describe_device(device: torch.device) -> dict[str, object]:
    """Facts for provenance: kind of device, its name, threads, torch's version."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"type": device.type, "name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
