"""The exceptions that speak to a user."""

from __future__ import annotations


class RetortError(Exception):
    """Bad input or an impossible request.

    The message says which file and row, what was found, what was expected and what to do. Scripts and the command
    line print it without a traceback and exit with status 2.
    """


class OutOfTime(Exception):
    """The time that a job has is nearly over; its state is saved, and the same command goes on from it."""


class Interrupted(Exception):
    """A signal asked the job to stop; its state is saved, and the same command goes on from it."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number
