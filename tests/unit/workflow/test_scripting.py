import argparse
import json
import logging

import pytest

from retort.config import Cleaning, Search
from retort.errors import RetortError
from retort.workflow.scripting import run_script, section


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="some_stage.py")
    parser.add_argument("--cleaning", type=section(Cleaning), default="{}")
    parser.add_argument("--search", type=section(Search))
    return parser


def test_section_reads_json_a_file_and_the_default(tmp_path):
    parser = make_parser()
    assert parser.parse_args([]).cleaning == Cleaning()
    assert parser.parse_args(["--cleaning", '{"max_words": 7}']).cleaning.max_words == 7
    path = tmp_path / "cleaning.json"
    path.write_text(json.dumps({"max_words": 8}))
    assert parser.parse_args(["--cleaning", f"@{path}"]).cleaning.max_words == 8
    assert parser.parse_args(["--search", '{"kind": "beam"}']).search.beam_size == 5


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('{"max_word": 7, "max_ratio": 0}', ["max_word", "max_ratio", "greater than or equal to 1, found 0"]),
        ("{", ["Invalid JSON"]),
        ("@nowhere.json", ["nowhere.json", "cannot be read"]),
    ],
)
def test_section_reports_every_problem_with_its_path(text, parts, capsys):
    with pytest.raises(SystemExit) as stopped:
        make_parser().parse_args(["--cleaning", text])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "--cleaning" in said
    for part in parts:
        assert part in said


def test_run_script_turns_a_user_error_into_one_line_and_status_2(capsys):
    def main(args: argparse.Namespace) -> None:
        logging.info("hello")
        raise RetortError("corpus.tsv: line 3: bad")

    with pytest.raises(SystemExit) as stopped:
        run_script(make_parser(), main, [])
    assert stopped.value.code == 2
    logged, said = capsys.readouterr().err.strip().split("\n")
    assert said == "error: some_stage: corpus.tsv: line 3: bad"
    assert logged.endswith(" hello")


def test_run_script_keeps_the_traceback_of_a_defect():
    def main(args: argparse.Namespace) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_script(make_parser(), main, [])
