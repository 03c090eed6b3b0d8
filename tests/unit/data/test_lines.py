"""Lines of any length in linear time."""

from __future__ import annotations

import gzip
import random
import time
from pathlib import Path

import pytest

from retort.cli import lines as cli_lines
from retort.corpus.sources import Text, TextReader
from retort.data import lines
from retort.data.lines import LineSplitter
from retort.errors import RetortError


def split(content: bytes, sizes: list[int]) -> list[bytes]:
    """The lines of ``content`` that comes in blocks of these sizes, the last one for ever."""
    splitter, found, start = LineSplitter("text"), [], 0
    while start < len(content):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        whole = splitter.whole(content[start : start + size])
        found += [] if whole is None else whole.split(b"\n")
        assert splitter.lines == len(found)
        start += size
    return [*found, splitter.rest()]


def test_lines_do_not_depend_on_the_blocks() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        content = bytes(rng.choices(b"ab\n", weights=(4, 4, rng.choice((1, 8))), k=rng.randint(0, 40)))
        assert split(content, [rng.randint(1, 9) for _ in range(10)]) == content.split(b"\n"), seed


@pytest.mark.parametrize("block", [1, 3, 4, 10])
def test_a_line_is_too_long_by_its_bytes(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    for content in (b"a\n" + b"b" * 10 + b"\n" + b"c" * 10, b"b" * 10, b"\n" * 30):
        assert split(content, [block]) == content.split(b"\n")
    for content in (b"a\n" + b"b" * 11, b"a\n" + b"b" * 11 + b"\n"):
        with pytest.raises(RetortError, match="text: line 2: more than 0 MiB without a newline; expected a text of"):
            split(content, [block])


def test_one_endless_line_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    with gzip.open(path, "wb", compresslevel=1) as handle:
        for _ in range(100):
            handle.write(b"x" * 2**20)
    start = time.process_time()
    with pytest.raises(RetortError, match="text.gz: line 1: more than 32 MiB without a newline"):
        list(TextReader(Text(str(path), path, "file")))
    assert time.process_time() - start < 3


def test_one_endless_line_to_translate() -> None:
    def forever() -> bytes:
        return b"x" * 2**16

    start = time.process_time()
    with pytest.raises(RetortError, match="standard input: line 1: more than 32 MiB without a newline"):
        list(cli_lines.batches(forever, lambda: True, 8, "standard input"))
    assert time.process_time() - start < 3
