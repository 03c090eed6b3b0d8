"""Compressed texts: several streams in one file, padding, and what follows."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pyarrow as pa
import pytest

from retort.data.compression import UNREADABLE, decompressed, read_decompressed


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}
LONG = b"".join(b"%d\n" % i for i in range(99_999))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [1, 1000, 10_000_000])
def test_streams_of_one_file_are_one_text(name: str, size: int) -> None:
    compress = FORMATS[name]
    packed = compress(b"") + compress(b"one\n") + compress(LONG if size > 1 else b"two\n")
    stream, parts = decompressed(io.BufferedReader(io.BytesIO(packed))), []
    while part := stream.read(size):
        parts.append(part)
    assert b"".join(parts) == b"one\n" + (LONG if size > 1 else b"two\n")


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_second_stream_is_no_end(name: str) -> None:
    compress = FORMATS[name]
    second = bytearray(compress(LONG))
    second[1] ^= 1
    for packed in (compress(b"one\n") + bytes(second), compress(b"one\n") + b"more", compress(LONG)[:-3]):
        with pytest.raises(UNREADABLE):
            read_decompressed(packed)


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_zeros_may_follow(name: str) -> None:
    assert read_decompressed(FORMATS[name](b"one\n") + bytes(99_996)) == b"one\n"
    assert read_decompressed(FORMATS[name](b"one\n") + bytes(8) + FORMATS[name](b"two\n")) == b"one\ntwo\n"


def test_zstd_in_frames_of_pzstd() -> None:
    assert read_decompressed(b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstd(b"one\n")) == b"one\n"
