"""What command lines take."""

from __future__ import annotations

import os

import pytest

from retort.workflow.arguments import available_cores


def test_no_more_cores_are_used_than_the_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8})
    assert available_cores() == 3
