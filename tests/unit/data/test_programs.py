"""Programs that are called: their time."""

from __future__ import annotations

import time

import pytest

from retort.data.programs import called
from retort.errors import RetortError


@pytest.mark.slow
def test_a_program_has_its_time_once_for_output_and_end() -> None:
    started = time.monotonic()
    with pytest.raises(RetortError, match="late"):
        called(["sh", "-c", "sleep 1.8; exec >&-; sleep 9"], ["a"], "sh", timeout=2, late="late")
    assert time.monotonic() - started < 3.7
