"""GPUs of this machine, for workflows that run their jobs on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def local_devices(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """Names of the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, or else all below ``devices``."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(list(devices.glob("nvidia[0-9]*"))))]
