"""Where and in which precision to compute."""

from __future__ import annotations

import torch

from retort.models.functional import keep_pages

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prepare_device(threads: int) -> torch.device:
    """Use ``threads`` CPU threads; returns the first CUDA device if there is one, else the CPU."""
    torch.set_num_threads(threads)
    keep_pages()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
