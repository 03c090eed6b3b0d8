"""The exceptions that speak to a user."""

from __future__ import annotations

import errno

_REMEDIES = {
    errno.ENOSPC: "make room on the disk",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EDQUOT: "make room within your quota",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "give permission",
    errno.EPERM: "give permission",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files",
    errno.EAGAIN: "allow more processes (ulimit -u), or use fewer threads",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EIO: "look at the disk",
    errno.EEXIST: "choose another name, for it is taken",
    errno.ENOTDIR: "choose another place, for a file is where a directory is needed",
}


class RetortError(Exception):
    """Bad input or an impossible request.

    The message says which file and row, what was found, what was expected and what to do. Scripts and the command
    line print it without a traceback and exit with status 2.
    """


class NotFinite(RetortError):
    """A loss or a gradient of a training is infinite or no number. The message says at which update."""


class OutOfTime(Exception):
    """The time that a job has is nearly over; its state is saved, and the same command goes on from it."""


class Interrupted(Exception):
    """A signal asked the job to stop; its state is saved, and the same command goes on from it."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def remedy(error: OSError) -> str:
    """What to do about something that the system refused."""
    return _REMEDIES.get(error.errno or 0, "see that it is there and can be used")


def refusal(error: BaseException) -> str | None:
    """What the system refused (a file, memory) and what to do, in one line; None for any other exception."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return f"not enough memory ({' '.join(str(error).split())[:200]}); use smaller numbers, or a larger machine"
    if not isinstance(error, OSError) or error.errno is None:
        return None
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{', '.join(files) or 'a file'}: {error.strerror}; {remedy(error)}, then give the same command again"
