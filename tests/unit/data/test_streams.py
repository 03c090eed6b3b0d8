"""Writing to streams that take a part at a time."""

from __future__ import annotations

import io
import os
import threading

import pytest

from retort.data.streams import write_out, write_whole


class Slow(io.RawIOBase):
    """Takes three bytes at a time."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, content: memoryview) -> int:  # type: ignore[override]
        self.taken += content[:3]
        return len(content[:3])


def test_an_unbuffered_stream_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Slow()
    write_whole(file, b"ten bytes.")  # type: ignore[arg-type]
    assert file.taken == b"ten bytes."
    # that of a process with PYTHONUNBUFFERED
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(file, write_through=True))  # type: ignore[type-var]
    write_out("ä line\n")
    assert file.taken == "ten bytes.ä line\n".encode()


def test_one_that_does_not_wait_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    content = os.urandom(300_000)
    with open(reader, "rb") as source, open(writer, "wb", buffering=0) as file:
        thread = threading.Thread(target=write_whole, args=(file, content))
        thread.start()
        assert source.read(len(content)) == content
        thread.join()
