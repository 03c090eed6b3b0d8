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

SUFFIXES = (".gz", ".xz", ".bz2", ".zst")
"""Endings of the names of compressed files."""

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a damaged stream raises."""


@dataclass(frozen=True)
class Compression:
    """A format, with the bytes that its files begin with."""

    name: str
    magic: bytes
    opened: Callable[[Any], Any]


def _zstd(stream: Any) -> Any:
    # Python 3.11 has no zstd of its own
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")


# The block of bzip2 that follows its name and level begins with the digits of pi, or of its root in an empty file.
_FORMATS = (
    Compression("gzip", b"\x1f\x8b", lambda stream: gzip.GzipFile(fileobj=stream)),
    Compression("xz", b"\xfd7zXZ\x00", lzma.LZMAFile),
    Compression("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    *(
        Compression("bzip2", b"BZh%d" % level + block, bz2.BZ2File)
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
