"""Where a result is, what is asked, and how the answer reads; tests/workflow asks it of a real run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from retort.errors import RetortError
from retort.workflow.call import NAME, Call, keys_given
from retort.workflow.differences import Change
from retort.workflow.why import Answer, Job, place

CODE = Change("code", "retort/a.py", "retort/a.py changed")
KEY = Change("key", "seeds", "seeds: [1] -> [2]")


def test_a_result_is_below_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place(Path("results/run/a/b.parquet")) == (tmp_path, "run", "results/run/a/b.parquet")
    monkeypatch.chdir("/")
    assert place(tmp_path / "results/results/x/../c") == (tmp_path, "results", "results/results/c")
    for wrong in ("c", "results", "results/run"):
        with pytest.raises(RetortError, match="expected a file below results/<run>/"):
            place(Path("/elsewhere") / wrong)


def test_the_answer_names_what_changed_once() -> None:
    own = Job("score", "results/r/s", [KEY], ["results/r/t1", "results/r/t2", "results/r/t3", "results/r/t4"])
    answer = Answer(
        "results/r/s", own, [Job("train", "results/r/m1", [CODE], []), Job("train", "results/r/m2", [CODE], [])]
    )
    assert answer.text().splitlines() == [
        "results/r/s: score would run again",
        "  seeds: [1] -> [2]",
        "  inputs are made again: results/r/t1, results/r/t2, results/r/t3 and 1 more",
        "what changed for its inputs, and what that makes again:",
        "  retort/a.py changed: results/r/m1 and 1 more",
    ]
    read = json.loads(answer.json())
    assert read["again"] and read["causes"][1]["changes"] == [
        {"kind": "code", "name": "retort/a.py", "text": "retort/a.py changed"}
    ]


def test_a_result_that_is_up_to_date() -> None:
    answer = Answer("results/r/s", notes=["nothing is recorded"])
    assert answer.text() == "results/r/s: up to date\nnote: nothing is recorded"
    assert json.loads(answer.json())["again"] is False


def test_a_call_is_kept_with_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workflow = SimpleNamespace(
        config_settings=SimpleNamespace(
            configfiles=[tmp_path / "a.yaml", Path("/elsewhere/b.yaml")], config={"x": 1}, config_args=["x=1"]
        ),
        resource_settings=SimpleNamespace(overwrite_scatter={"distill": 2}),
        deployment_settings=SimpleNamespace(deployment_method=[SimpleNamespace(name="CONDA")]),
    )
    assert Call.read(tmp_path) is None
    call = Call.of(workflow)
    call.write(tmp_path)
    assert Call.read(tmp_path) == call == Call(["a.yaml", "/elsewhere/b.yaml"], {"x": 1}, {"distill": 2}, ["CONDA"])
    for damaged in ('{"other": 1}', '{"configfiles": 3}', '{"scatter": {"distill": "x"}}', "[" * 99999):
        (tmp_path / NAME).write_text(damaged)
        with pytest.raises(RetortError, match="not a record of a call"):
            Call.read(tmp_path)


@pytest.mark.parametrize(
    ("parsed", "written", "name"),
    [(7, "name=007", "007"), (1e5, "name=1e5", "1e5"), (True, "name=True", "True"), ("2024", 'name="2024"', "2024")],
)
def test_a_name_is_text_whatever_it_looks_like(parsed: object, written: str, name: str) -> None:
    """Which Snakemake makes of it, and how it is given."""
    settings = SimpleNamespace(config={"name": parsed, "training": {"max_updates": "5"}}, config_args=[written, "x=1"])
    assert keys_given(settings) == {"name": name, "training": {"max_updates": 5}}
    assert keys_given(SimpleNamespace(config={}, config_args=None)) == {}
