"""What the system refuses becomes one sentence."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from retort.errors import RetortError, refusal
from retort.workflow.scripting import run_script


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "make room on the disk"), (errno.EROFS, "choose a place"), (errno.ENOENT, "see that it is there")],
)
def test_a_file(number: int, advice: str) -> None:
    sentence = refusal(OSError(number, os.strerror(number), "a/b", None, "c")) or ""
    assert sentence.startswith(f"a/b, c: {os.strerror(number)}; {advice}") and sentence.endswith("same command again")
    assert (refusal(OSError(number, os.strerror(number))) or "").startswith("a file: ")


def test_memory() -> None:
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**60, np.int8)
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**60, dtype=torch.int8)
    for error in (of_numpy.value, of_torch.value):
        sentence = refusal(error) or ""
        assert sentence.startswith("not enough memory (") and "\n" not in sentence


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), RuntimeError("x"), RetortError("x")])
def test_other_exceptions(error: Exception) -> None:
    assert refusal(error) is None


def test_a_script_that_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def main(args: argparse.Namespace) -> None:
        (tmp_path / "absent" / "file").write_text("x")

    with pytest.raises(SystemExit) as end:
        run_script(argparse.ArgumentParser("script.py"), main, [])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: script: {tmp_path}/absent/file: No such file or directory; ")


def test_a_defect_keeps_its_traceback() -> None:
    def main(args: argparse.Namespace) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run_script(argparse.ArgumentParser("script.py"), main, [])
