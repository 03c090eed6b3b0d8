"""Standard streams, which may be closed, full, or without anybody who reads them."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import IO, TextIO

from retort.errors import RetortError


def replace_closed_streams() -> None:
    """Keep the numbers of closed standard streams from the files that are opened later, here and in programs that are
    run from here."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def write_out(text: str) -> None:
    """Write to standard output, at once; names of files keep their bytes.

    Raises RetortError if it cannot be written, and BrokenPipeError if the reader has gone; then nothing more of it is
    written.
    """
    # None where the process was started without the stream
    if sys.stdout is None:
        raise RetortError("standard output is closed; send it to a file or to another program")
    try:
        sys.stdout.flush()
        write_whole(sys.stdout.buffer, text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
    except OSError as error:
        _drop(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise RetortError(
            f"standard output cannot be written ({error.strerror}); make room, or send it elsewhere"
        ) from None


def write_whole(file: IO[bytes], content: bytes) -> None:
    """Write all of it: an unbuffered stream may take a part alone, and one that does not block nothing. Raises
    OSError."""
    left = memoryview(content)
    while left:
        written: int | None = file.write(left)
        if written is None:
            select.select([], [file], [])
        left = left[written or 0 :]


def complain(text: str) -> None:
    """Write a line to standard error if that is possible: it must not hide what is complained about."""
    if sys.stderr is not None:
        with suppress(OSError):
            # at once: lines of several threads stay whole
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def drop_complaints() -> None:
    """Drop what standard error could not take, which would change the exit status at the end of the process."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Have nobody write again, at the end of the process, what could not be written."""
    with suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
