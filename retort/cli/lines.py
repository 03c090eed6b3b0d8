"""Lines of text from files and pipes, as ``retort translate`` reads them."""

from __future__ import annotations

import difflib
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from retort.data.files import descriptor_of, is_special, move, temporary_path, writable
from retort.data.streams import complain, write_out, write_whole
from retort.errors import RetortError

_BLOCK = 1 << 16
_BEGINNING = 16
"""Bytes that tell a compression."""
_SHOWN = 300
"""Characters of the name of a file that an error shows."""


def opened(path: Path | None) -> IO[bytes]:
    """The bytes of a file, or of standard input."""
    if path is None:
        if sys.stdin is None:
            raise RetortError("standard input is closed; give lines, or the name of a file by --input")
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as error:
        near = difflib.get_close_matches(path.name, _names_beside(path) - {path.name}, n=1)
        remedy = f"did you mean {path.parent / near[0]}?" if near else "expected a text file"
        raise RetortError(f"--input {str(path)[:_SHOWN]}: cannot be read ({error.strerror}); {remedy}") from None


def _names_beside(path: Path) -> set[str]:
    try:
        return set(os.listdir(path.parent))
    except OSError:
        return set()


@contextmanager
def output(path: Path | None) -> Iterator[Callable[[str], None]]:
    """How to write text: to a file that is there when all is written, or to standard output, a pipe, a device or a
    descriptor such as /dev/stdout, at once. Raises RetortError for a directory."""
    if path is None:
        yield write_out
        return
    if path.is_dir():
        raise RetortError(f"--output {path}: a directory; give the name of a file")
    number = descriptor_of(path)
    at_once = number is not None or is_special(path)
    with writable(path):
        # a link stays one
        final = Path(os.path.realpath(path))
        written = path if at_once else temporary_path(final)
        # what is written before and after to an open file must stay
        opened_by = written if number is None else os.dup(number)
        file = open(opened_by, "wb", buffering=0 if at_once else -1)  # noqa: SIM115 - closed below

    def write(text: str) -> None:
        with writable(path):
            write_whole(file, text.encode("utf-8", "surrogateescape"))

    try:
        with file:
            yield write
            if not at_once:
                with writable(path):
                    file.flush()
                    os.fsync(file.fileno())
        if not at_once:
            with writable(path):
                move(written, final)
    finally:
        if not at_once:
            written.unlink(missing_ok=True)


def size(lines: IO[bytes]) -> int | None:
    """Bytes of a plain file; None for a pipe, and for a compressed file, whose text is larger."""
    from retort.data.compression import compression_of

    facts = os.fstat(lines.fileno())
    if not stat.S_ISREG(facts.st_mode) or compression_of(os.pread(lines.fileno(), _BEGINNING, 0)):
        return None
    return facts.st_size


def reader(lines: IO[bytes], name: str) -> tuple[Callable[[], bytes], Callable[[], bool]]:
    """How to read the next bytes of a plain or compressed file or of a pipe, and whether more can be read at once."""
    from retort.data.compression import UNREADABLE, compression_of, decompressed

    number = lines.fileno()

    def checked(read: Callable[..., bytes], *arguments: int) -> bytes:
        try:
            return read(number, *arguments)
        except OSError as error:
            raise RetortError(f"{name}: cannot be read ({error.strerror}); expected lines of text") from None

    def plain() -> bytes:
        return checked(os.read, _BLOCK)

    if not lines.seekable():
        return plain, lambda: _more_waits(lines)
    if not compression_of(checked(os.pread, _BEGINNING, os.lseek(number, 0, os.SEEK_CUR))):
        return plain, lambda: _more_waits(lines)
    stream = decompressed(lines)

    def inside() -> bytes:
        try:
            return stream.read(_BLOCK)  # type: ignore[no-any-return]
        except UNREADABLE as error:
            raise RetortError(f"{name}: cannot be read: {error}; expected a whole compressed file") from None

    return inside, lambda: True


def batches(
    read: Callable[[], bytes], more_waits: Callable[[], bool], size: int, name: str, strip: bool = True
) -> Iterator[list[str]]:
    """Decoded lines in lists of at most ``size``; a pause of the writer ends a batch early. ``strip`` takes the white
    space at their edges off."""
    from retort.data.lines import LineSplitter, decoded_line

    waiting: list[str] = []
    splitter, number, first = LineSplitter(name), 0, True
    while block := read():
        if first:
            _check_beginning(block, name)
            first = False
        whole = splitter.whole(block)
        for raw in [] if whole is None else whole.split(b"\n"):
            number += 1
            waiting.append(decoded_line(raw, name, number, strip=strip))
        while len(waiting) >= size or (waiting and not more_waits()):
            yield waiting[:size]
            waiting = waiting[size:]
    if rest := splitter.rest():
        waiting.append(decoded_line(rest, name, number + 1, strip=strip))
    for start in range(0, len(waiting), size):
        yield waiting[start : start + size]


def _check_beginning(block: bytes, name: str) -> None:
    """Warns about text that is not what its lines say. Raises RetortError for what is no text."""
    from retort.data.appearance import BEGINNING, foreign_encoding, foreign_format, suspicions

    if found := foreign_format(block):
        raise RetortError(
            f"{name}: begins as {found}; expected lines of text: decompress it, or name the file by --input"
        )
    if encoding := foreign_encoding(block[:BEGINNING]):
        raise RetortError(f"{name}: {encoding}; expected UTF-8: convert it first")
    for suspicion in suspicions(block[:BEGINNING]):
        complain(f"warning: retort: {name}: {suspicion}")


def _more_waits(lines: IO[bytes]) -> bool:
    """Whether the input has more to read at once; the end of a file counts, and ends the loop."""
    return bool(select.select([lines], [], [], 0)[0])
