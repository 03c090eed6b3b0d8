"""Every stage runs over texts with odd characters, and what is no text ends in one clear error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest

from retort.config import Cleaning, TextCorpus
from retort.corpus.preparation import prepare_corpus
from retort.data.parquet import read_table
from retort.data.tables import CORPUS, ENCODED, SCORES, TRANSLATIONS
from retort.errors import RetortError
from tests.unit.fakes_runs import TEACHER, call, changed
from workflow_scripts import (
    compare_systems,
    decode_shard,
    encode_corpus,
    gather_distilled,
    score,
    score_by_length,
    train_system,
    train_vocabulary,
    translate,
)
from workflow_scripts import prepare_corpus as prepare

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = ROOT / "tests" / "fixtures" / "hostile"
FILES = sorted(HOSTILE.glob("*.txt"))
SYSTEM = changed(TEACHER, "training", max_updates=100, select_by="BLEU")


def corpus_of(paths: list[Path]) -> dict[str, object]:
    """The files as both sides of every split. No text may be two of them, so they have other paths."""
    again = [path.parent / ".." / path.parent.name / path.name for path in paths]
    one, other = ([{"location": str(path)} for path in files] for files in (paths, again))
    sides, swapped = {"source": one, "target": other}, {"source": other, "target": one}
    return {"kind": "text", "train": sides, "valid": swapped, "tests": {"hostile": sides}}


@pytest.mark.slow
def test_all_stages_run_over_hostile_texts(tmp_path: Path) -> None:
    corpus, vocabulary, encoded = tmp_path / "corpus", tmp_path / "vocabulary", tmp_path / "encoded"
    section, rules = json.dumps(corpus_of(FILES)), json.dumps({"drop_leaks": False})
    call(prepare, "--corpus", section, "--cleaning", rules, "--output", corpus)
    train, valid, test = (corpus / f"{name}.parquet" for name in ("train", "valid", "test.hostile"))
    pairs = read_table(test, CORPUS)
    assert pairs["source"].to_pylist() == pairs["target"].to_pylist() and "" not in pairs["source"].to_pylist()
    settings = json.dumps({"size": 560, "byte_fallback": True, "character_coverage": 0.98})
    call(train_vocabulary, "--vocabulary", settings, "--corpus", train, "--output", vocabulary)
    call(encode_corpus, "--vocabulary", vocabulary, "--corpus", train, valid, "--counted", test, "--max-length", 256,
         "--output", encoded)  # fmt: skip
    model, texts = tmp_path / "teacher" / "seed1", encoded / "train.parquet"
    call(train_system, "--system", json.dumps(SYSTEM), "--seed", 1, "--data", "raw", "--train", texts,
         "--valid", encoded / "valid.parquet", "--vocabulary", vocabulary, "--state", tmp_path / "state",
         "--output", model)  # fmt: skip
    greedy = json.dumps({"kind": "greedy", "max_ratio": 2.0})
    call(decode_shard, "--distillation", json.dumps({"search": json.loads(greedy)}), "--checkpoint", model,
         "--system", "teacher", "--seed", 1, "--search-name", "distillation", "--corpus", train, "--shard", 0,
         "--shards", 1, "--state", tmp_path / "state", "--output", tmp_path / "shard.parquet")  # fmt: skip
    call(gather_distilled, "--shards", tmp_path / "shard.parquet", "--train", texts, "--vocabulary", vocabulary,
         "--output-translations", tmp_path / "distilled.parquet",
         "--output-encoded", tmp_path / "e.parquet")  # fmt: skip
    assert read_table(tmp_path / "distilled.parquet", TRANSLATIONS).num_rows == read_table(train, CORPUS).num_rows
    read_table(tmp_path / "e.parquet", ENCODED)
    outputs = tmp_path / "translations" / "teacher" / "seed1" / "greedy.parquet"
    call(translate, "--checkpoint", model, "--search", greedy, "--system", "teacher", "--seed", 1,
         "--search-name", "greedy", "--tests", test, "--output", outputs)  # fmt: skip
    found = read_table(outputs, TRANSLATIONS)
    assert found["id"].to_pylist() == pairs["id"].to_pylist()
    metrics = json.dumps({"metrics": ["BLEU", "chrF", "chrF++", "TER", "ROUGE-L", "distinct-2"],
                          "length_buckets": [3], "bootstrap_samples": 10})  # fmt: skip
    scores = tmp_path / "scores.parquet"
    call(score, "--translations", outputs, "--tests", test, "--data", "raw", "--evaluation", metrics,
         "--output", scores)  # fmt: skip
    assert pc.all(pc.is_finite(read_table(scores, SCORES)["value"])).as_py()
    call(score_by_length, "--translations", outputs, "--tests", test, "--evaluation", metrics,
         "--output", tmp_path / "lengths.parquet")  # fmt: skip
    call(compare_systems, "--evaluation", metrics, "--tests", test, "--baseline", outputs, "--translations", outputs,
         "--output", tmp_path / "comparison.parquet")  # fmt: skip
    check_command_line(model, greedy)


def check_command_line(model: Path, search: str) -> None:
    """Lines out are lines in, whatever they hold."""
    text = b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in FILES)
    command = [
        sys.executable,
        "-m",
        "retort",
        "translate",
        "--model",
        str(model),
        "--search",
        search,
        "--threads",
        "1",
    ]
    ended = subprocess.run(command, input=text, cwd=ROOT, capture_output=True, timeout=120)
    assert ended.returncode == 0 and b"Traceback" not in ended.stderr
    assert ended.stdout.count(b"\n") == text.count(b"\n")
    ended.stdout.decode("utf-8")


@pytest.mark.parametrize("path", sorted((HOSTILE / "refused").iterdir()), ids=lambda path: path.stem)
def test_what_is_no_text_is_one_clear_error(tmp_path: Path, path: Path) -> None:
    with pytest.raises(RetortError) as refused:
        prepare_corpus(TextCorpus.model_validate(corpus_of([path])), Cleaning(), tmp_path / "out")
    message = str(refused.value)
    assert "\n" not in message and ("corpus: no pair" in message or path.name in message)
    assert not (tmp_path / "out").exists()
