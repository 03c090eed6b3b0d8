"""A translations table that version 0.1 wrote: without system, seed and search."""

import json
import shutil
from pathlib import Path

import pytest

from retort.data.parquet import iterate_table, open_table, read_between, read_table, write_table
from retort.data.runs import Run
from retort.data.tables import SCORES, TRANSLATIONS
from retort.errors import RetortError
from retort.evaluation.runs import run_of_translations
from tests.unit.fakes_evaluation import corpus
from tests.unit.fakes_runs import call
from workflow_scripts import score

OLD = Path(__file__).parent / "old" / "ctc" / "seed3" / "collapse.parquet"
IDENTITY = {"system": "ctc", "seed": 3, "search": "collapse"}


def test_its_identity_is_that_of_its_path():
    assert run_of_translations(OLD) == Run("ctc", 3, "collapse")
    (first, second) = read_table(OLD, TRANSLATIONS).to_pylist()
    assert first.items() >= IDENTITY.items() and (first["text"], second["text"]) == ("a b c d e", "f g h")
    assert list(first) == TRANSLATIONS.names and open_table(OLD, TRANSLATIONS).metadata.num_rows == 2
    assert [part.to_pylist() for part in iterate_table(OLD, TRANSLATIONS, rows=1)] == [[first], [second]]
    (part,) = read_between(OLD, TRANSLATIONS, 1, 9, ["id", "search"])
    assert part.to_pylist() == [{"id": 1, "search": "collapse"}]
    assert read_table(OLD, TRANSLATIONS, ["seed"]).to_pylist() == [{"seed": 3}] * 2


def test_it_is_scored(tmp_path):
    test = corpus(tmp_path / "test.test.parquet", ["a b c d e", "f g h"])
    evaluation = json.dumps({"metrics": ["BLEU"]})
    options = ("--data", "raw", "--evaluation", evaluation, "--output", tmp_path / "scores.parquet")
    call(score, "--translations", OLD, "--tests", test, *options)
    row = read_table(tmp_path / "scores.parquet", SCORES).to_pylist()[0]
    assert row.items() >= IDENTITY.items() and (row["metric"], row["value"]) == ("BLEU", pytest.approx(100))


def test_elsewhere_it_is_read_but_not_compared(tmp_path):
    path = Path(shutil.copy(OLD, tmp_path / "translations.parquet"))
    table = read_table(path, TRANSLATIONS)
    assert table["text"].to_pylist() == ["a b c d e", "f g h"], "distilled text needs no identity"
    with pytest.raises(RetortError, match="a translations table of version 1, which does not name its system"):
        run_of_translations(path)
    copy = tmp_path / "ctc" / "seed3" / "collapse.parquet"
    write_table(copy, TRANSLATIONS, table)
    with pytest.raises(RetortError, match="does not name its system"):
        run_of_translations(copy)


def test_a_table_is_of_one_run(tmp_path):
    rows = read_table(OLD, TRANSLATIONS)
    other = rows.set_column(1, "seed", [[4, 4]])
    for parts, count in (([rows, other], 2), ([rows.slice(0, 0)], 0)):
        write_table(tmp_path / "t.parquet", TRANSLATIONS, parts)
        with pytest.raises(RetortError, match=f"holds translations of {count} systems, seeds and searches"):
            run_of_translations(tmp_path / "t.parquet")
