"""Lines of a stream of bytes that comes in blocks, in time and memory that do not grow with the length of a line."""

from __future__ import annotations

from retort.errors import RetortError

MAX_LINE_BYTES = 32 * 2**20
"""Longest line of a text; a longer one has other line ends, or is no text."""


def decoded_line(raw: bytes, name: str, number: int, strip: bool) -> str:
    """A line as the corpus stage reads it: no byte order mark at the start of the text, no white space at its edges.

    ``name`` is that of the text. Raises RetortError for what is no UTF-8.
    """
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RetortError(f"{name}: line {number}: byte {error.start} is not valid UTF-8") from None
    return text.strip() if strip else text


class LineSplitter:
    """Cuts blocks of bytes, smaller than the limit, at the ends of lines; an unfinished line waits for its end."""

    def __init__(self, name: str) -> None:
        """``name`` is that of the text, for errors."""
        self.name = name
        self.lines = 0
        self._parts: list[bytes] = []
        self._waiting = 0

    def whole(self, block: bytes) -> bytes | None:
        """The lines that end in ``block``, with newlines between them and none at the end; None if none ends there.

        Raises RetortError for a line above MAX_LINE_BYTES.
        """
        complete, end, tail = block.rpartition(b"\n")
        if not end:
            self._wait(tail)
            return None
        self._check(self._waiting + len(complete.partition(b"\n")[0]))
        whole = b"".join([*self._parts, complete])
        self.lines += whole.count(b"\n") + 1
        self._parts, self._waiting = [], 0
        self._wait(tail)
        return whole

    def rest(self) -> bytes:
        """What follows the last newline."""
        return b"".join(self._parts)

    def _wait(self, tail: bytes) -> None:
        if tail:
            self._parts.append(tail)
            self._waiting += len(tail)
            self._check(self._waiting)

    def _check(self, length: int) -> None:
        if length > MAX_LINE_BYTES:
            raise RetortError(
                f"{self.name}: line {self.lines + 1}: more than {MAX_LINE_BYTES >> 20} MiB without a newline; expected "
                f"a text of lines that end with \\n: split the line, or convert the file"
            )
