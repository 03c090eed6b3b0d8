"""A training that is asked to stop may be asked more than once, and still saves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from retort.training import interruption
from retort.training.interruption import Interruption


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """The signals that had their usual effect, which is to be noted here."""
    found: list[int] = []
    before = {number: signal.signal(number, lambda n, _: found.append(n)) for number in interruption.SIGNALS}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_that_come_together_are_one_request(ended: list[int]) -> None:
    asked = Interruption()
    with asked.listening():
        assert asked.signal_number == 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert asked.signal_number == signal.SIGINT
    assert ended == []


def test_a_later_one_has_its_usual_effect(ended: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SECONDS_OF_ONE_REQUEST", -1.0)
    with Interruption().listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended == []
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [signal.SIGINT]


def test_afterwards_all_is_as_before(ended: list[int]) -> None:
    with Interruption().listening():
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    assert ended == [signal.SIGTERM]
