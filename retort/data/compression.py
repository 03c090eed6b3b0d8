"""Compressed streams of bytes, recognised by how they begin and not by their names: gzip, bzip2, xz and zstd."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a damaged stream raises."""
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Compression:
    """A format, with the bytes that its files begin with."""

    name: str
    magic: bytes
    opened: Callable[[Any], Any]


class _Streams(io.RawIOBase):
    """What is inside streams of bzip2 or xz, one after the other. BZ2File and LZMAFile end in silence where the second
    of them is damaged."""

    def __init__(self, stream: Any, decompressor: Callable[[], Any]) -> None:
        self._stream, self._decompressor = stream, decompressor
        self._inside, self._rest = decompressor(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._inside.eof:
                # zeros may pad a stream
                rest = self._rest.lstrip(b"\0") or self._stream.read(_BLOCK).lstrip(b"\0")
                if not rest and not self._stream.peek(1):
                    return 0
                self._rest = rest
                if not rest:
                    continue
                self._inside = self._decompressor()
            elif self._inside.needs_input and not self._rest:
                self._rest = self._stream.read(_BLOCK)
                if not self._rest:
                    raise EOFError("it ends before its end-of-stream marker")
            found = self._inside.decompress(self._rest, len(buffer))
            self._rest = self._inside.unused_data
            if found:
                buffer[: len(found)] = found
                return len(found)


def _bzip2(stream: Any) -> Any:
    return io.BufferedReader(_Streams(stream, bz2.BZ2Decompressor))


def _xz(stream: Any) -> Any:
    return io.BufferedReader(_Streams(stream, lzma.LZMADecompressor))


def _zstd(stream: Any) -> Any:
    # Python 3.11 has no zstd of its own
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")


# The block of bzip2 that follows its name and level begins with the digits of pi, or of its root in an empty file.
_FORMATS = (
    Compression("gzip", b"\x1f\x8b", lambda stream: gzip.GzipFile(fileobj=stream)),
    Compression("xz", b"\xfd7zXZ\x00", _xz),
    Compression("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    # frames to be skipped, with which pzstd begins a file
    *(Compression("zstd", b"%c\x2a\x4d\x18" % frame, _zstd) for frame in range(0x50, 0x60)),
    *(
        Compression("bzip2", b"BZh%d" % level + block, _bzip2)
        for level in range(1, 10)
        for block in (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")
    ),
)
_LONGEST_MAGIC = max(len(format_.magic) for format_ in _FORMATS)


def compression_of(beginning: bytes) -> Compression | None:
    """The format of a stream that begins so; None if it is none of them."""
    return next((format_ for format_ in _FORMATS if beginning.startswith(format_.magic)), None)


def decompressed(stream: Any) -> Any:
    """A readable stream of the bytes inside ``stream``, a buffered binary one; ``stream`` itself if it is not
    compressed."""
    found = compression_of(stream.peek(_LONGEST_MAGIC)[:_LONGEST_MAGIC])
    return found.opened(stream) if found else stream


def read_decompressed(data: bytes) -> bytes:
    """All bytes inside ``data``."""
    return decompressed(io.BufferedReader(io.BytesIO(data))).read()  # type: ignore[no-any-return]
