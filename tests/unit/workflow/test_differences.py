"""Changed values are named by the file of code or the key of the configuration that they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retort.workflow.code import CodeRecords
from retort.workflow.differences import Now, Then, changes

GREEDY = {"kind": "greedy", "max_ratio": 2.0}


def system(learning_rate: float, data: str = "raw") -> dict[str, Any]:
    return {
        "objective": {"name": "ctc", "upsample": 2},
        "training": {"learning_rate": learning_rate, "warmup": 5, "label_smoothing": None},
        "data": data,
        "searches": {"usual": dict(GREEDY), "wide": {"kind": "beam", "beam_size": 4}},
    }


CONFIG = {
    "name": "small",
    "training": {"learning_rate": 0.02, "warmup": 5, "label_smoothing": None},
    "teacher": {**system(0.02), "objective": {"name": "autoregressive"}},
    "students": {"one": system(0.5), "two": system(0.02, data="distilled")},
    "evaluation": {"metrics": ["BLEU", "chrF"], "batch_tokens": 4096},
    "distillation": {"batch_tokens": 4096},
}


@pytest.fixture
def records(tmp_path: Path) -> CodeRecords:
    return CodeRecords(tmp_path / "code", tmp_path)


def texts(records: CodeRecords, before: list[Any], now: dict[str, Any], *hints: str, last: Any = None) -> list[str]:
    return [change.text for change in changes(Then(before, last or {}), Now(now, CONFIG, hints), records)]


def as_json(**changed: Any) -> str:
    value = {**system(0.5), **changed}
    return json.dumps({**value, "searches": {"validation": value["searches"]["usual"]}})


def test_a_section_names_its_key(records: CodeRecords) -> None:
    before = as_json(training={"learning_rate": 0.001, "warmup": 5, "label_smoothing": None})
    assert texts(records, [before], {"system": as_json()}, "one", "1") == [
        "students.one.training.learning_rate: 0.001 -> 0.5"
    ]


def test_a_section_below_another_name_is_found_by_what_it_holds(records: CodeRecords) -> None:
    before = as_json(searches={"usual": {"kind": "greedy", "max_ratio": 1.5}})
    assert texts(records, [before], {"system": as_json()}, "one", "1") == [
        "students.one.searches.usual.max_ratio: 1.5 -> 2.0"
    ]


def test_equal_sections_are_told_apart_by_the_wildcards(records: CodeRecords) -> None:
    before, now = json.dumps({**GREEDY, "max_ratio": 1.5}), json.dumps(GREEDY)
    for name in ("one", "two"):
        found = texts(records, [before], {"search": now}, name, "1", "usual")
        assert found == [f"students.{name}.searches.usual.max_ratio: 1.5 -> 2.0"]
    assert texts(records, ["raw"], {"data": "distilled"}, "two") == ['students.two.data: "raw" -> "distilled"']


def test_sections_in_a_list_name_their_keys(records: CodeRecords) -> None:
    before, now = (
        json.dumps([{"system": "two", "search": {**GREEDY, "max_ratio": ratio}}, {"system": "one", "search": GREEDY}])
        for ratio in (1.5, 2.0)
    )
    assert texts(records, [before], {"systems": now}) == ["students.two.searches.usual.max_ratio: 1.5 -> 2.0"]
    turned = json.dumps(json.loads(now)[::-1])
    assert texts(records, [turned], {"systems": now}) == ["systems: in another order"]


def test_a_value_of_which_several_keys_hold_the_like(records: CodeRecords) -> None:
    assert texts(records, [2048], {"batch_tokens": 4096}) == ["batch_tokens: 2048 -> 4096"]
    last = {"evaluation": {"batch_tokens": 2048}, "distillation": {"batch_tokens": 4096}}
    assert texts(records, [2048], {"batch_tokens": 4096}, last=last) == ["evaluation.batch_tokens: 2048 -> 4096"]


def test_lists_and_options(records: CodeRecords) -> None:
    assert texts(records, ['{"metrics": ["BLEU"]}'], {"evaluation": '{"metrics": ["BLEU", "chrF"]}'}) == [
        'evaluation.metrics: ["BLEU"] -> ["BLEU", "chrF"]'
    ]
    long = [f"--pair-of-systems-{i}" for i in range(9)]
    assert texts(records, [long[:-1]], {"pairs": long}) == ['pairs: added ["--pair-of-systems-8"]']
    before, now = (["--language", json.dumps({"kind": "generated", "seed": seed})] for seed in (1, 2))
    assert texts(records, [before], {"language": now}) == ["language.seed: 1 -> 2"]


def test_no_pair_is_made_up(records: CodeRecords) -> None:
    assert texts(records, [1, 2], {"best": 3, "shards": 4}) == ["best: is now 3", "shards: is now 4"]
    assert texts(records, [], {"best": 3}) == ["best: is now 3"]
    assert (
        texts(records, [1, '{"kind": "greedy"}'], {"best": 3, "search": '{"kind": "beam", "kin": 1}'})[0]
        == "best: 1 -> 3"
    )


def test_code_is_named_by_file(records: CodeRecords, tmp_path: Path) -> None:
    for name, text in (("__init__", ""), ("a", "A = 1\n"), ("b", "B = 1\n"), ("c", "C = 1\n")):
        (tmp_path / "retort").mkdir(exist_ok=True)
        (tmp_path / f"retort/{name}.py").write_text(text)
    script = tmp_path / "script.py"
    script.write_text("import retort.a\nimport retort.b\n")
    earlier = CodeRecords(records.directory, tmp_path)
    earlier.keep()
    before = earlier.digest(script)
    (tmp_path / "retort/a.py").write_text("A = 2\n")
    script.write_text("import retort.a\nimport retort.c\n")
    now = records.digest(script)
    assert texts(records, ["0" * 64, before], {"template": "1" * 64, "code": now}) == [
        "template changed",
        "retort/a.py changed",
        "retort/b.py is no longer used",
        "retort/c.py is used now",
        "script.py changed",
    ]
    unknown = texts(records, ["0" * 64], {"code": now})
    assert len(unknown) == 1 and "which file is not known" in unknown[0]
