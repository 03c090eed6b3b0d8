"""A disk that is full in the middle of a file or cannot be written, in every stage: one sentence, and no output that
looks complete.

The limit on the size of a file stands in for a full disk: it stops writes of every library, as root, too.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retort import cli
from retort.data.files import check_writable
from retort.errors import RetortError
from tests.unit.fakes_bad_input import Arguments
from tests.unit.fakes_runs import Tables, call
from tests.unit.fakes_stages import STAGES, made_tables

ROOT = Path(__file__).resolve().parents[2]
BYTES = 1000
"""Smaller than any output of a stage."""


TRAINING = 20_000
"""Larger than the text that a training maps, and smaller than its weights."""


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.fixture(scope="module")
def read_only_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty directory where nobody can write: a file system of its own for root, who needs no permission."""
    place = tmp_path_factory.mktemp("read-only")
    if os.geteuid() != 0:
        place.chmod(0o500)
        yield place
    elif subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    else:
        yield place
        subprocess.run(["umount", place], check=True)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return made_tables(tmp_path_factory.mktemp("full"))


def test_every_script_is_a_stage() -> None:
    assert {path.stem for path in (ROOT / "workflow_scripts").glob("*.py")} == STAGES.keys() - {"init", "export"}


def failure(arguments: Arguments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that a stage ends with."""
    script, *options = arguments
    monkeypatch.setattr(sys, "argv", ["retort", *map(str, options)])
    with pytest.raises(SystemExit) as end:
        if script is cli:
            cli.main()
        else:
            call(script, *options)  # type: ignore[arg-type]
    errors = capsys.readouterr().err
    assert end.value.code == 2, errors
    (sentence,) = errors.split("error: ")[1:]
    assert "give the same command again" in sentence or "set TMPDIR to a directory with room" in sentence
    return sentence


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_sentence_and_no_output(
    stage: str, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = TRAINING if stage == "train_system" else BYTES
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with full_disk(size):
        sentence = failure(STAGES[stage](tables, tmp_path), monkeypatch, capsys)
    assert "File too large" in sentence and str(tmp_path) in sentence, sentence
    # the last line of a teacher's answers may be cut: it is dropped when the file is opened again
    whole = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.parent.name != "answers"]
    left = [path for path in whole if path.stat().st_size >= size]
    left += [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp") or ".staging" in path.name]
    assert not left


@pytest.mark.parametrize("stage", STAGES)
def test_a_read_only_disk_is_one_sentence(
    stage: str,
    tables: Tables,
    read_only_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = failure(STAGES[stage](tables, read_only_disk / "run"), monkeypatch, capsys)
    assert "Read-only file system" in sentence or "Permission denied" in sentence, sentence
    assert str(read_only_disk) in sentence, sentence


def test_a_run_looks_first_whether_it_can_write(read_only_disk: Path, tmp_path: Path) -> None:
    check_writable(tmp_path / "new/.snakemake")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RetortError, match=f"{read_only_disk}/.snakemake: cannot be written"):
        check_writable(read_only_disk / ".snakemake")
    (tmp_path / ".snakemake").touch()
    for name in (".snakemake", ".snakemake/below"):
        with pytest.raises(RetortError, match=r"\.snakemake: a file is where a directory is needed"):
            check_writable(tmp_path / name)
