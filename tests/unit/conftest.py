"""What holds for every unit test."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors are slower on several; torch is not imported for tests that do without it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
