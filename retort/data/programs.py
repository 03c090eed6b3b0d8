"""Programs of users: lines on their standard input, lines on their standard output, errors in one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

from retort.data.spool import room_for
from retort.errors import RetortError

SHOWN_BYTES = 2000
"""Of what a program wrote to standard error, an error shows so much."""
MOST_BYTES, SPARE_BYTES = 100, 64 << 20
"""Most bytes of output per byte of input, and at any rate."""


def started(arguments: Sequence[str], name: str, stdin: Any, stderr: Any) -> subprocess.Popen[bytes]:
    """The program, leader of a process group, ``name`` in errors. Raises RetortError where it cannot be started."""
    try:
        return subprocess.Popen(arguments, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, process_group=0)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RetortError(f"{name}: cannot be started ({reason}); name a program that this machine has") from None


def killed(process: subprocess.Popen[bytes]) -> None:
    """End a started program and what it started, which may run after it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def called(
    arguments: Sequence[str], lines: Sequence[str], name: str, timeout: float | None = None, late: str = ""
) -> tuple[list[str], str]:
    """The lines that a program writes when it is given these, and the end of its standard error.

    ``late`` is the error when it takes more than ``timeout`` seconds. Raises RetortError for that, for a program that
    cannot be started or fails, for output that is no UTF-8, and for far more output than input.
    """
    text = "".join(f"{line}\n" for line in lines).encode()
    most = SPARE_BYTES + MOST_BYTES * len(text)
    with room_for(f"lines for {name}"), tempfile.TemporaryFile() as given:
        given.write(text)
        given.seek(0)
        process = started(arguments, name, stdin=given, stderr=subprocess.PIPE)
    end = None if timeout is None else time.monotonic() + timeout
    output, errors = _Pipe(process.stdout, most, whole=True), _Pipe(process.stderr, SHOWN_BYTES, whole=False)
    try:
        if not output.ends(timeout):
            raise RetortError(late)
        if len(output.content) > most:
            raise RetortError(f"{name}: more than {most} bytes for {len(lines)} lines; have it end")
        status = process.wait(None if end is None else max(0.0, end - time.monotonic()))
        errors.ends(1)
    except BaseException as error:
        killed(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise RetortError(late) from None
        raise
    if status:
        raise RetortError(f"{name}: ended with status {status}: {shown(errors.content)}")
    answers = decoded(output.content, name).split("\n")
    if answers[-1] == "":
        answers.pop()
    return answers, shown(errors.content)


def decoded(data: bytes, name: str) -> str:
    """What a program wrote. Raises RetortError unless it is UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RetortError(f"{name}: its output is not UTF-8 ({error}); have it write UTF-8") from None


def shown(errors: bytes) -> str:
    """The end of a program's standard error."""
    text = errors[-SHOWN_BYTES:].decode("utf-8", errors="replace").strip()
    return text or "nothing"


class _Pipe:
    """What a program writes, read in a thread, so that neither its length nor its time is the program's to choose."""

    def __init__(self, stream: IO[bytes] | None, most: int, whole: bool) -> None:
        """Reads to the end; ``whole``: or until there are more than ``most`` bytes. Otherwise the last are kept."""
        assert stream is not None
        self.content = b""
        self._thread = threading.Thread(target=self._read, args=(stream, most, whole), daemon=True)
        self._thread.start()

    def ends(self, seconds: float | None) -> bool:
        """Whether all is read within this time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _read(self, stream: IO[bytes], most: int, whole: bool) -> None:
        if whole:
            self.content = stream.read(most + 1)
            return
        while block := stream.read(most):
            self.content = (self.content + block)[-most:]
