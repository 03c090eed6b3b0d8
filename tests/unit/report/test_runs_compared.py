"""Several runs in one table: what is compared, and what is refused with its reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from matplotlib.axes import Axes

from retort import cli
from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.tables import CORPUS, LATENCY, SCORES, Table
from retort.errors import RetortError
from retort.report.runs_compared import as_csv, compare_runs, figure, lines
from retort.workflow.progress import Progress
from tests.unit.fakes_report import run_on_disk


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "first"
    root.mkdir()
    run_on_disk(root, ["teacher", "ctc"], sentences=6)
    (root / "latency").mkdir()
    (root / "latency.parquet").rename(root / "latency/latency.parquet")
    return root


@pytest.fixture
def runs(original: Path, tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(original, tmp_path / "second")
    return original, tmp_path / "second"


Change = Callable[[list[dict[str, Any]]], Any]


def change(path: Path, table: Table, rows: Change, **facts: Any) -> None:
    data, provenance = read_table(path, table).to_pylist(), read_provenance(path)
    rows(data)
    write_table(path, table, pa.Table.from_pylist(data, schema=table.schema), {**provenance, **facts})


@pytest.mark.slow
def test_systems_of_both_runs_are_in_one_table_and_figure(runs: tuple[Path, Path]) -> None:
    compared = compare_runs(runs)
    assert {(row.run, row.key[0]) for row in compared.rows} == {
        (run, system) for run in ("first", "second") for system in ("teacher", "ctc")
    }
    assert compared.metrics == ["BLEU", "chrF", "TER"] and not compared.refused
    head, *body = as_csv(compared).splitlines()
    assert head == "run,system,search,seeds,BLEU,chrF,TER,ms,engine,MB" and len(body) == 6
    (ctc,) = [row for row in body if row.startswith("second,ctc,collapse,1,")]
    assert ctc.endswith(",onnx int8,7.0")
    assert len(lines(compared)) == 8
    assert {row.latency.batch_size for row in compared.rows if row.latency} == {1}
    drawn = figure(compared)
    assert drawn and drawn.startswith(b"\x89PNG")


def test_scores_that_an_earlier_configuration_left_are_left_out(runs: tuple[Path, Path]) -> None:
    clean = as_csv(compare_runs(runs))
    for name, changed in (
        ("ctc/seed9/collapse", {"seed": 9}),
        ("ctc/seed1/old", {"search": "old"}),
        ("gone/seed1/collapse", {"system": "gone"}),
    ):
        left = runs[1] / f"scores/{name}.parquet"
        left.parent.mkdir(parents=True, exist_ok=True)
        rows = read_table(runs[1] / "scores/ctc/seed1/collapse.parquet", SCORES).to_pylist()
        data = pa.Table.from_pylist([row | changed | {"value": 10.0} for row in rows], schema=SCORES.schema)
        write_table(left, SCORES, data, {})
    assert as_csv(compare_runs(runs)) == clean


def test_a_row_says_how_many_seeds_its_scores_are_means_of(runs: tuple[Path, Path]) -> None:
    config = json.loads((runs[1] / "config.json").read_text())
    config["students"]["ctc"]["seeds"] = [1, 2]
    (runs[1] / "config.json").write_text(json.dumps(config))
    again = runs[1] / "scores/ctc/seed2/collapse.parquet"
    again.parent.mkdir()
    shutil.copy(runs[1] / "scores/ctc/seed1/collapse.parquet", again)
    change(again, SCORES, lambda rows: [row.update(seed=2) for row in rows])
    rows = [line.split(",")[:4] for line in as_csv(compare_runs(runs)).splitlines()]
    assert rows[0][3] == "seeds"
    assert {tuple(row) for row in rows if row[1] == "ctc"} == {
        ("first", "ctc", "collapse", "1"), ("second", "ctc", "collapse", "2")
    }  # fmt: skip


def test_times_of_another_device_are_left_out(runs: tuple[Path, Path]) -> None:
    device = {"type": "cpu", "processor": "Another CPU", "threads": 2}
    change(runs[1] / "latency/latency.parquet", LATENCY, lambda rows: None, device=device)
    compared = compare_runs(runs)
    (reason,) = compared.refused
    assert reason.startswith("times are of other devices (first: {") and "Another CPU" in reason
    assert all(row.latency is None and "BLEU" in row.scores for row in compared.rows)
    assert figure(compared) is None


def test_times_of_another_text_are_left_out(runs: tuple[Path, Path]) -> None:
    for run in runs:
        shutil.copy(run / "corpus/test.flickr.parquet", run / "corpus/test.coco.parquet")
        change(run / "latency/latency.parquet", LATENCY, lambda rows: None, test_set="coco")
    change(runs[1] / "corpus/test.coco.parquet", CORPUS, lambda rows: rows[0].update(source="other"))
    compared = compare_runs(runs)
    assert compared.refused == ["times are of test sets coco with other texts"]
    assert all(row.latency is None and "BLEU" in row.scores for row in compared.rows)


def test_times_of_loaded_machines_are_said_to_be_the_processor_s(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["total_seconds"] = 3 * row["processor_seconds"]

    labels: list[str] = []
    monkeypatch.setattr(Axes, "set_xlabel", lambda _, label: labels.append(label))
    assert not any("processor" in line for line in lines(compare_runs(runs)))
    for run in runs:
        change(run / "latency/latency.parquet", LATENCY, load, device={"type": "cpu", "threads": 1})
    compared = compare_runs(runs)
    assert "processor ms" in as_csv(compared).splitlines()[0]
    assert lines(compared)[-1] == "The machine was loaded in all runs: these are the processor's times."
    with_teacher = replace(compared, columns={"processor_seconds", "total_seconds"})
    assert ",ms," in as_csv(with_teacher).splitlines()[0]
    assert lines(with_teacher)[-1].endswith("the processor's times, but the clock's of external.")
    for each in (compared, with_teacher):
        figure(each)
    assert [label.split(" at ")[0] for label in labels] == [
        "median processor time",
        "median processor time (clock of external)",
    ]


def test_times_are_left_out_where_a_run_has_none(runs: tuple[Path, Path]) -> None:
    (runs[1] / "latency/latency.parquet").unlink()
    assert compare_runs(runs).refused == ["times are not there in all runs (first: True; second: False)"]


def test_a_metric_of_another_signature_is_left_out(runs: tuple[Path, Path]) -> None:
    def retokenise(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["signature"] = row["signature"].replace("tok:13a", "tok:char")

    change(runs[1] / "scores/ctc/seed1/collapse.parquet", SCORES, retokenise)
    compared = compare_runs(runs)
    assert compared.metrics == ["chrF", "TER"]
    assert compared.refused[0].startswith("BLEU has other signatures (first: nrefs:1") and "char" in compared.refused[0]


def test_a_metric_of_a_later_run_alone_is_named(runs: tuple[Path, Path]) -> None:
    first, second = runs
    config = json.loads((second / "config.json").read_text())
    (second / "config.json").write_text(
        json.dumps(config | {"evaluation": config["evaluation"] | {"metrics": ["BLEU"]}})
    )
    for name in (("ctc", "collapse"), ("teacher", "beam5"), ("teacher", "greedy")):
        path = second / f"scores/{name[0]}/seed1/{name[1]}.parquet"
        if path.exists():
            change(path, SCORES, lambda rows: rows.__setitem__(slice(None), [r for r in rows if r["metric"] == "BLEU"]))
    both = [compare_runs(order) for order in ((first, second), (second, first))]
    assert [compared.metrics for compared in both] == [["BLEU"]] * 2
    assert [[reason.split()[0] for reason in compared.refused] for compared in both] == [["chrF", "TER"]] * 2


def test_other_test_text_is_refused(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(runs[1] / "corpus/test.flickr.parquet", CORPUS, lambda rows: rows[0].update(source="other"))
    monkeypatch.setattr("sys.argv", ["retort", "compare", *map(str, runs)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "nothing can be compared: flickr is another text in second than in first" in capsys.readouterr().err


def test_what_is_no_run_is_named(original: Path, tmp_path: Path) -> None:
    with pytest.raises(RetortError, match="no config.json; expected the directory of a run"):
        compare_runs([original, tmp_path])
    with pytest.raises(RetortError, match="one run; expected two or more"):
        compare_runs([original])


def test_a_run_without_its_report_is_said_to_be_one(original: Path, tmp_path: Path) -> None:
    Progress(0.0, 1).write(tmp_path)
    with pytest.raises(RetortError, match="this run has not come to its report yet .* give its command again"):
        compare_runs([original, tmp_path])


def test_a_run_without_scores_is_named(runs: tuple[Path, Path]) -> None:
    shutil.rmtree(runs[1] / "scores")
    with pytest.raises(RetortError, match="second: this run has no scores yet; give its command again"):
        compare_runs(runs)


def test_a_run_given_twice_is_one_run(original: Path) -> None:
    with pytest.raises(RetortError, match="one run; expected two or more"):
        compare_runs([original, original.parent / "." / original.name])


def test_runs_of_one_name_are_told_apart_by_their_paths(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "first")
    assert {row.run for row in compare_runs([original, tmp_path / "first"]).rows} == {
        str(original),
        str(tmp_path / "first"),
    }


def test_signatures_of_other_test_sets_do_not_count(runs: tuple[Path, Path]) -> None:
    def add(rows: list[dict[str, Any]]) -> None:
        rows += [row | {"test_set": "coco", "signature": "another"} for row in rows]

    change(runs[1] / "scores/ctc/seed1/collapse.parquet", SCORES, add)
    assert compare_runs(runs).metrics == ["BLEU", "chrF", "TER"]


@pytest.mark.parametrize("key", ["sentences", "threads", "turn"])
def test_times_of_other_settings_are_left_out(runs: tuple[Path, Path], key: str) -> None:
    change(runs[1] / "latency/latency.parquet", LATENCY, lambda rows: None, latency={key: 4})
    compared = compare_runs(runs)
    assert not any(row.latency for row in compared.rows) and "were measured with other settings" in compared.refused[0]


def test_times_of_devices_that_are_not_known_are_left_out(runs: tuple[Path, Path], tmp_path: Path) -> None:
    change(runs[1] / "latency/latency.parquet", LATENCY, lambda rows: None, device=None)
    shutil.copytree(runs[1], tmp_path / "third")
    assert "are of other devices" in compare_runs((runs[1], tmp_path / "third")).refused[0]
