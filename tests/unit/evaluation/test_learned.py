"""Learned metrics: a program's scores, from its lines to the tables."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from retort.config import Evaluation
from retort.data.parquet import read_table
from retort.data.tables import COMPARISON, SCORES, SEGMENT_SCORES
from retort.errors import RetortError
from retort.evaluation.learned import SegmentScores, segment_scores
from retort.evaluation.quality import Pairs, read_pairs, read_tests
from retort.evaluation.significance import differences
from tests.unit.fakes_evaluation import corpus, translations
from tests.unit.fakes_runs import call
from tests.unit.fakes_worker import WORDS
from workflow_scripts import compare_systems, score, score_learned

REFERENCES = ["one two three", "four", "five six"]
LONG, SHORT = ["a b c", "d", "e f"], ["a", "d", "e f"]
WORKER = Path(__file__).resolve().parents[3] / "workflow_scripts/workers/comet_worker.py"


def pairs_of(tmp_path: Path, texts: list[str]) -> Pairs:
    test = corpus(tmp_path / "test.test.parquet", REFERENCES)
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", texts), read_tests([test]))
    return pairs


def learned(tmp_path: Path, system: str, texts: list[str]) -> tuple[Path, Path]:
    """Translations, and their segment scores."""
    test = corpus(tmp_path / "test.test.parquet", REFERENCES)
    table = translations(tmp_path / system / "seed1/argmax.parquet", texts)
    output = tmp_path / "segment_scores/words" / system / "seed1/argmax.parquet"
    call(
        score_learned,
        *("--translations", table, "--tests", test, "--metric", "words"),
        *("--learned", json.dumps({"command": WORDS}), "--output", output),
    )
    return table, output


def test_scores_come_in_the_order_of_the_outputs(tmp_path: Path) -> None:
    # a source of the fake corpus has two words
    assert segment_scores("words", WORDS, pairs_of(tmp_path, LONG)) == ([203, 201, 202], "words|version:1")


def test_the_mean_is_a_row_of_the_scores_and_is_compared(tmp_path: Path) -> None:
    (long, long_scores), (short, short_scores) = learned(tmp_path, "ctc", LONG), learned(tmp_path, "nat", SHORT)
    assert read_table(long_scores, SEGMENT_SCORES)["value"].to_pylist() == [203, 201, 202]
    test, evaluation = tmp_path / "test.test.parquet", json.dumps({"metrics": ["chrF"], "bootstrap_samples": 20})
    common = ("--tests", test, "--evaluation", evaluation, "--output", tmp_path / "out.parquet")
    call(score, "--translations", long, "--data", "raw", "--learned", long_scores, *common)
    rows = {row["metric"]: row for row in read_table(tmp_path / "out.parquet", SCORES).to_pylist()}
    assert rows["words"]["value"] == 202 and rows["words"]["signature"] == "words|version:1"
    call(compare_systems, "--baseline", long, "--translations", short, "--learned", long_scores, short_scores, *common)
    rows = {row["metric"]: row for row in read_table(tmp_path / "out.parquet", COMPARISON).to_pylist()}
    assert list(rows) == ["chrF", "words"] and rows["words"]["difference"] == pytest.approx(-2 / 3)


def test_resamples_are_means_of_their_segments(tmp_path: Path) -> None:
    measures = []
    for system, texts in (("ctc", LONG), ("nat", SHORT)):
        table, path = learned(tmp_path, system, texts)
        (pairs,) = read_pairs(table, read_tests([tmp_path / "test.test.parquet"]))
        measures.append(SegmentScores.read(path).measures({"test": pairs})["test", "words"])
    counts = np.array([[1.0, 1, 1], [3, 0, 0], [0, 1, 2]])
    found = measures[0].scorer.resampled_scores(measures, counts)
    assert found == pytest.approx(np.array([[202, 203, (201 + 2 * 202) / 3], [604 / 3, 201, 605 / 3]]))
    (difference,) = differences("words", measures[1:], measures[0], samples=200)
    assert difference.low <= difference.difference == pytest.approx(-2 / 3) and difference.high <= 0


def test_a_system_without_the_metric_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (long, scores), (short, _) = learned(tmp_path, "ctc", LONG), learned(tmp_path, "nat", SHORT)
    with pytest.raises(SystemExit):
        call(
            compare_systems,
            *("--baseline", long, "--translations", short, "--learned", scores, "--evaluation", "{}"),
            *("--tests", tmp_path / "test.test.parquet", "--output", tmp_path / "out.parquet"),
        )
    assert "nat/seed1/argmax: no scores of words, which other systems have" in capsys.readouterr().err


def test_scores_of_other_outputs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (table, path), (_, others) = learned(tmp_path, "ctc", LONG), learned(tmp_path, "nat", SHORT)
    (pairs,) = read_pairs(table, read_tests([tmp_path / "test.test.parquet"]))
    with pytest.raises(RetortError, match="other outputs of test set 'test' than ctc/seed1/argmax has"):
        SegmentScores.read(path).measures({"other": pairs})
    with pytest.raises(SystemExit):
        call(
            score,
            *("--translations", table, "--data", "raw", "--learned", others, "--evaluation", "{}"),
            *("--tests", tmp_path / "test.test.parquet", "--output", tmp_path / "out.parquet"),
        )
    assert "scores of nat/seed1/argmax; expected those of ctc/seed1/argmax" in capsys.readouterr().err


def test_scores_that_lack_a_test_set_are_refused(tmp_path: Path) -> None:
    table, path = learned(tmp_path, "ctc", LONG)
    (pairs,) = read_pairs(table, read_tests([tmp_path / "test.test.parquet"]))
    with pytest.raises(RetortError, match=r"argmax\.parquet: no words of test set 'other'; score the outputs again"):
        SegmentScores.read(path).measures({"test": pairs, "other": pairs})


SIGNED = 'print(\'{"signature": "x"}\');'
NOT_A_NUMBER = SIGNED + 'print(\'{"score": NaN}\\n\' * 3, end="")'
NO_SCORES = SIGNED + "print('[1]\\n' * 3, end='')"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit('no model')", "ended with status 1: no model"),
        ("print('0.5')", "line 1: '0.5'; expected a JSON line {\"signature\": ...}"),
        (SIGNED, "0 scores for 3 outputs of test set 'test'"),
        (NO_SCORES, 'expected a JSON line {"score": ...}'),
        (NOT_A_NUMBER, "line 2: the score is nan; expected a finite number"),
        (r"import os; os.write(1, b'\xff')", "its output is not UTF-8"),
    ],
)
def test_a_program_that_does_otherwise_is_one_sentence(tmp_path: Path, program: str, said: str) -> None:
    with pytest.raises(RetortError) as error:
        segment_scores("words", [sys.executable, "-c", program], pairs_of(tmp_path, LONG))
    assert "evaluation.learned.words: command" in str(error.value) and said in str(error.value)
    with pytest.raises(RetortError, match="cannot be started"):
        segment_scores("words", ["/no/such/program"], pairs_of(tmp_path, LONG))


@pytest.mark.parametrize("name", ["BLEU", "length_ratio"])
def test_a_name_that_has_a_meaning_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has a meaning already"):
        Evaluation(learned={name: {"command": ["x"]}})  # type: ignore[dict-item]


def test_the_worker_for_comet_scores_each_reference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a stand-in for its package, which is not installed here."""

    def predict(samples: list[dict[str, str]], batch_size: int, gpus: int) -> Any:
        print("Predicting")
        assert (batch_size, gpus) == (32, 0)
        return SimpleNamespace(scores=[len(sample["ref"]) / 10 for sample in samples])

    comet = ModuleType("comet")
    comet.download_model = lambda name: f"/models/{name}"  # type: ignore[attr-defined]
    comet.load_from_checkpoint = lambda path: SimpleNamespace(predict=predict)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comet", comet)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.2.7")
    lines = [{"source": "s", "hypothesis": "h", "references": texts} for texts in (["ab", "abcd"], ["abcde"])]
    monkeypatch.setattr("sys.stdin", [json.dumps(line) for line in lines])
    monkeypatch.setattr("sys.argv", [str(WORKER)])
    runpy.run_path(str(WORKER), run_name="__main__")
    signature, *scores = map(json.loads, capsys.readouterr().out.splitlines())
    assert signature["signature"].startswith("COMET|model:Unbabel/wmt22-comet-da|refs:mean|scale:100")
    assert [line["score"] for line in scores] == pytest.approx([30, 50])


def test_a_score_that_is_true_or_false_is_none(tmp_path: Path) -> None:
    program = 'import sys; print(\'{"signature": "x"}\'); [print(\'{"score": true}\') for _ in sys.stdin]'
    with pytest.raises(RetortError, match='line 2: .*expected a JSON line {"score": ...}'):
        segment_scores("words", [sys.executable, "-c", program], pairs_of(tmp_path, LONG))
