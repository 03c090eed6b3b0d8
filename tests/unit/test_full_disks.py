"""A disk that is full in the middle of a file or cannot be written, in every stage: one sentence, and no output that
looks complete.

The limit on the size of a file stands in for a full disk: it stops writes of every library, as root, too.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retort import cli
from retort.config import Vanilla
from retort.data.files import check_writable
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from tests.unit.fakes_bad_input import Arguments, saved
from tests.unit.fakes_runs import STUDENT, TEACHER, Tables, call, make_tables
from workflow_scripts import (
    build_report,
    decode_shard,
    encode_corpus,
    gather_distilled,
    label_shard,
    measure_latency,
    prepare_corpus,
    prepare_monolingual,
    score,
    train_system,
    train_vocabulary,
    translate,
)

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
    tables = make_tables(tmp_path_factory.mktemp("full"))
    vocabulary = Vocabulary.load(tables.vocabulary)
    tables.train(TEACHER, tables.root / "teacher/seed1")
    saved(tables.root / "student/seed1", Vanilla(name="vanilla"), vocabulary)
    for script, *arguments in (
        decoding(tables, tables.root / "decoded"),
        translating(tables, tables.root / "translated"),
    ):
        call(script, *arguments)  # type: ignore[arg-type]
    pairs = "".join(f"source {number}\ttarget {number}\n" for number in range(200))
    (tables.root / "pairs.tsv").write_text(pairs)
    (tables.root / "config.json").write_text(
        json.dumps({"name": "full", "corpus": {"kind": "generated"}, "teacher": TEACHER, "students": {"s": STUDENT}})
    )
    return tables


def decoding(tables: Tables, out: Path) -> Arguments:
    return [
        decode_shard, "--distillation", '{"search": {"kind": "greedy"}}', "--checkpoint", tables.root / "teacher/seed1",
        "--system", "teacher", "--seed", 1, "--search-name", "greedy", "--corpus", tables.corpus / "train.parquet",
        "--shard", 0, "--shards", 1, "--state", out / "state", "--output", out / "shard.parquet",
    ]  # fmt: skip


def translating(tables: Tables, out: Path) -> Arguments:
    return [
        translate, "--checkpoint", tables.root / "student/seed1", "--search", '{"kind": "argmax"}', "--system", "s",
        "--seed", 1, "--search-name", "argmax", "--tests", tables.test, "--output", out / "argmax.parquet",
    ]  # fmt: skip


STAGES: dict[str, Callable[[Tables, Path], Arguments]] = {
    "prepare_corpus": lambda t, out: [
        prepare_corpus, "--corpus", '{"kind": "generated", "train_pairs": 60}', "--output", out / "corpus",
    ],
    "train_vocabulary": lambda t, out: [
        train_vocabulary, "--vocabulary", '{"size": 90}', "--corpus", t.corpus / "train.parquet", "--output", out / "v",
    ],
    "encode_corpus": lambda t, out: [
        encode_corpus, "--vocabulary", t.vocabulary, "--corpus", t.corpus / "train.parquet", "--output", out / "e",
    ],
    "prepare_monolingual": lambda t, out: [
        prepare_monolingual, "--texts", "[]", "--corpus", t.corpus / "train.parquet", "--held-out",
        t.corpus / "valid.parquet", "--cleaning", "{}", "--vocabulary", t.vocabulary, "--block-tokens", 16,
        "--valid-blocks", 2, "--output", out / "text",
    ],
    "train_system": lambda t, out: [train_system, *t.training(TEACHER, out / "system", out / "state")],
    "decode_shard": decoding,
    "gather_distilled": lambda t, out: [
        gather_distilled, "--shards", t.root / "decoded/shard.parquet", "--train", t.encoded / "train.parquet",
        "--vocabulary", t.vocabulary, "--output-translations", out / "a.parquet", "--output-encoded", out / "b.parquet",
    ],
    "label_shard": lambda t, out: [
        label_shard, "--distillation", "{}", "--teacher", t.root / "teacher/seed1", "--train",
        t.encoded / "train.parquet", "--vocabulary", t.vocabulary, "--top-k", 4, "--shard", 0, "--shards", 1,
        "--output", out / "labels.parquet",
    ],
    "translate": translating,
    "score": lambda t, out: [
        score, "--evaluation", "{}", "--data", "raw", "--translations", t.root / "translated/argmax.parquet",
        "--tests", t.test, "--output", out / "scores.parquet",
    ],
    "measure_latency": lambda t, out: [
        measure_latency, "--latency",
        '{"sentences": 2, "warmup": 1, "batch_sizes": [1], "engines": ["torch"], "cold_starts": 0}',
        "--systems", json.dumps([{
            "system": "student", "seed": 1, "search_name": "a", "search": {"kind": "argmax"},
            "checkpoint": str(t.root / "student/seed1"),
        }]), "--tests", t.test, "--output", out / "latency.parquet",
    ],
    "build_report": lambda t, out: [
        build_report, "--config", t.root / "config.json", "--corpus", t.corpus, "--output", out / "report",
    ],
    "init": lambda t, out: [cli, "init", t.root / "pairs.tsv", "--output", out / "init.yaml"],
    "export": lambda t, out: [cli, "export", "--model", t.root / "student/seed1", "--output", out / "bundle"],
}  # fmt: skip


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
    assert "give the same command again" in sentence
    return sentence


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_sentence_and_no_output(
    stage: str, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = TRAINING if stage == "train_system" else BYTES
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with full_disk(size):
        sentence = failure(STAGES[stage](tables, tmp_path), monkeypatch, capsys)
    assert "File too large" in sentence and str(tmp_path) in sentence, sentence
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size >= size]
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
    with pytest.raises(RetortError, match="a file is where a directory is needed"):
        check_writable(tmp_path / ".snakemake")
