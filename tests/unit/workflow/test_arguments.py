"""What command lines take."""

from __future__ import annotations

import argparse
import os

import pytest

from retort.workflow.arguments import available_cores, share


def test_no_more_cores_are_used_than_the_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8})
    assert available_cores() == 3


def test_a_share_is_between_none_and_all() -> None:
    assert [share(text) for text in ("0", "0.5", "1")] == [0, 0.5, 1]
    for text, message in (("x", "'x' is no number"), ("-1", "not between"), ("1.1", "not between"), ("nan", "not bet")):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            share(text)
