"""The rules are wiring: each names its script, has a message, and no file with rules defines a function."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "rules").glob("*.smk"))
BLOCKS = {
    match["a"] or match["b"]: match["body"]
    for path in FILES
    for match in re.finditer(
        r"^(?:(?:rule|checkpoint) (?P<a>\w+):|use rule \w+ as (?P<b>\w+) with:)\n(?P<body>(?:    .*\n|\n)+)",
        path.read_text(),
        re.MULTILINE,
    )
}
RUNS = {"DECODING": "{{system}}/seed{{seed}}/{{search}}", "TRAINING": "{{system}}/seed{{seed}}"}


@pytest.mark.parametrize("rule", BLOCKS)
def test_each_rule_says_what_it_does(rule: str) -> None:
    message = re.search(r'^    message:\n        "([A-Z][^"]*[^".])"\n', BLOCKS[rule], re.MULTILINE)
    assert message, f"{rule}: a message in the present tense"
    used = re.findall(r"{wildcards\.(\w+)}", message[1])
    assert set(re.findall(r"{([^}]*)}", message[1])) == {f"wildcards.{name}" for name in used}
    output = re.search(r"^    log:\n.*\n", BLOCKS[rule], re.MULTILINE)
    assert output, f"{rule}: a log"
    log = re.sub("{(DECODING|TRAINING)}", lambda match: RUNS[match[1]], output[0])
    assert set(used) <= set(re.findall(r"{{(\w+)}}", log)), f"{rule}: the wildcards of its log"


def test_a_script_has_the_name_of_a_rule() -> None:
    named = {name for body in BLOCKS.values() for name in re.findall(r'script=script\("(\w+)"\)', body)}
    assert named == {path.stem for path in (ROOT / "workflow_scripts").glob("*.py")}
    assert named - {"train_system"} <= set(BLOCKS)


def test_rules_and_functions_are_apart() -> None:
    for path in FILES:
        text = path.read_text()
        assert not (re.search(r"^rule ", text, re.MULTILINE) and re.search(r"^ *def ", text, re.MULTILINE)), path.name
    assert len(BLOCKS) > 30
