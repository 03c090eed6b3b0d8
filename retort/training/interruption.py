"""Signals that ask a training to stop: it saves its state first, at the end of the update it is in.

Updates that share what was prepared for them, as rollouts, end together.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SECONDS_OF_ONE_REQUEST = 5.0
"""Signals this soon after the first one ask for the same: a terminal, a launcher and a watchdog may all pass it on."""


class Interruption:
    """Whether a signal came while ``listening``; one that comes SECONDS_OF_ONE_REQUEST later has its usual effect."""

    def __init__(self) -> None:
        self.signal_number = 0
        """The first signal that came; 0: none did."""
        self._first_at = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note signals instead of ending. Only the main thread can; elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def note(number: int, _: object) -> None:
            now = time.monotonic()
            if not self.signal_number:
                self.signal_number, self._first_at = number, now
            elif now - self._first_at > SECONDS_OF_ONE_REQUEST:
                restore()
                os.kill(os.getpid(), number)

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        for number in SIGNALS:
            signal.signal(number, note)
        try:
            yield
        finally:
            restore()
