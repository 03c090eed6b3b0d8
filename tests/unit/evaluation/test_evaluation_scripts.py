"""The scripts by hand, as a user would run them."""

from pathlib import Path

import pytest

from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.tables import COMPARISON, CORPUS, LENGTHS, SCORES, TRANSLATIONS
from retort.workflow.scripting import run_script
from tests.unit.fakes_evaluation import corpus, translations
from tests.unit.fakes_runs import call
from workflow_scripts import compare_systems, score, score_by_length

REFERENCES = ["one two three four five", "six seven eight nine ten", "a b c d e"]


def score_options(tmp_path: Path, table: Path) -> list[str]:
    return [
        *("--translations", str(table), "--tests", str(tmp_path / "test.test.parquet")),
        *(
            "--data",
            "distilled",
            "--evaluation",
            '{"metrics": ["BLEU", "BLEU-lc", "chrF", "TER", "distinct-2"]}',
        ),
        *("--output", str(tmp_path / "scores.parquet")),
    ]


def test_score_writes_one_row_a_metric(tmp_path: Path):
    corpus(tmp_path / "test.test.parquet", REFERENCES)
    table = translations(tmp_path / "t.parquet", [*REFERENCES[:2], "A b c d e"])
    run_script(score.parser(), score.main, score_options(tmp_path, table))
    rows = {row["metric"]: row for row in read_table(tmp_path / "scores.parquet", SCORES).to_pylist()}
    assert list(rows)[:5] == ["BLEU", "BLEU-lc", "chrF", "TER", "distinct-2"] and len(rows) == 13
    assert rows["BLEU-lc"]["value"] == pytest.approx(100) and rows["BLEU"]["value"] < 100
    assert {(row["system"], row["data"], row["seed"], row["search"]) for row in rows.values()} == {
        ("ctc", "distilled", 3, "collapse")
    }
    assert set(read_provenance(tmp_path / "scores.parquet")) >= {"retort", "translations", "tests", "evaluation"}


def test_score_refuses_mismatched_ids_with_exit_status_2(tmp_path: Path, capsys):
    corpus(tmp_path / "test.test.parquet", REFERENCES)
    table = translations(tmp_path / "t.parquet", REFERENCES[:1])
    with pytest.raises(SystemExit) as end:
        run_script(score.parser(), score.main, score_options(tmp_path, table))
    assert end.value.code == 2
    assert "its ids are not the 3 of its references: 2 missing [1, 2]; translate" in capsys.readouterr().err
    assert not (tmp_path / "scores.parquet").exists()


def test_compare_systems_names_its_baseline(tmp_path: Path):
    test = corpus(tmp_path / "test.test.parquet", REFERENCES)
    teacher = translations(tmp_path / "teacher" / "seed1" / "beam5.parquet", REFERENCES)
    student = translations(tmp_path / "ctc" / "seed1" / "collapse.parquet", ["one", *REFERENCES[1:]])
    output = tmp_path / "comparison.parquet"
    options = [
        "--evaluation",
        '{"bootstrap_samples": 50, "metrics": ["ROUGE-L", "chrF++", "distinct-1"]}',
        "--tests",
        str(test),
        "--baseline",
        str(teacher),
    ]
    options += ["--translations", str(teacher), str(student), "--pair", str(teacher), str(student)]
    run_script(compare_systems.parser(), compare_systems.main, [*options, "--output", str(output)])
    rows = read_table(output, COMPARISON).to_pylist()
    assert [(row["system"], row["baseline"], row["metric"]) for row in rows] == [
        ("ctc", "teacher/seed1/beam5", "ROUGE-L"),
        ("ctc", "teacher/seed1/beam5", "chrF++"),
        ("teacher", "ctc/seed1/collapse", "ROUGE-L"),
        ("teacher", "ctc/seed1/collapse", "chrF++"),
    ]
    assert read_provenance(output)["baseline"] == "teacher/seed1/beam5"


@pytest.mark.parametrize("teacher", [None, "external"])
def test_every_table_of_scores_names_the_teacher_whose_outputs_are_the_references(tmp_path: Path, teacher: str | None):
    tests = {name: corpus(tmp_path / f"test.{name}.parquet", REFERENCES) for name in ("own", "test")}
    write_table(tests["test"], CORPUS, read_table(tests["test"], CORPUS), {"references": teacher})
    table = translations(tmp_path / "ctc/seed1/collapse.parquet", REFERENCES)
    other = translations(tmp_path / "nat/seed1/argmax.parquet", [*REFERENCES[:2], "a"])
    for path in (table, other):
        rows = read_table(path, TRANSLATIONS).to_pylist()
        write_table(path, TRANSLATIONS, TRANSLATIONS.of_rows([*rows, *({**row, "test_set": "own"} for row in rows)]))
    output = tmp_path / "out.parquet"
    common = ("--tests", *tests.values(), "--evaluation", '{"bootstrap_samples": 20}', "--output", output)
    for script, options, kind in (
        (score, ("--translations", table, "--data", "distilled"), SCORES),
        (compare_systems, ("--translations", table, "--baseline", other), COMPARISON),
        (score_by_length, ("--translations", table), LENGTHS),
    ):
        call(script, *options, *common)
        rows = read_table(output, kind).to_pylist()
        noted = {row["test_set"] for row in rows if row["signature"].endswith("|references:outputs of external")}
        assert noted == ({"test"} if teacher else set())
        assert {row["test_set"] for row in rows} == {"own", "test"}
