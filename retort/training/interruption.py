"""Signals that ask a training to stop: it saves its state first, at the end of the update it is in."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Whether a signal came while ``listening``; a second one has its usual effect."""

    def __init__(self) -> None:
        self.signal_number = 0
        """0: none came."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals instead of ending. Only the main thread can; elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def note(number: int, _: object) -> None:
            self.signal_number = number
            restore()

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        for number in SIGNALS:
            signal.signal(number, note)
        try:
            yield
        finally:
            restore()
