import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from retort.evaluation.runs import named_directory
from retort.report.inputs import Inputs, Paths, read_inputs
from retort.report.side_by_side import difference, marked, side_by_side
from tests.unit.fakes_report import run_on_disk
from workflow_scripts import build_report


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run_on_disk(tmp_path_factory.mktemp("run"), ["teacher", "ctc"], sentences=12)


@pytest.fixture(scope="module")
def inputs(arguments: dict) -> Inputs:
    return read_inputs(
        Paths(**{**arguments, "checkpoints": [named_directory(text) for text in arguments["checkpoints"]]})
    )


def test_words_without_a_counterpart_are_marked() -> None:
    first, second = marked(["a", "<b>", "c", "d"], ["a", "c", "x"])
    assert first == "a <mark>&lt;b&gt;</mark> c <mark>d</mark>"
    assert second == "a c <mark>x</mark>"
    assert difference(["a", "b"], ["a", "b"]) == 0
    assert difference([], ["a"]) == difference(["b"], ["a"]) == 1
    # two words of each are in common: 1 - 4 / 7
    assert difference(["a", "<b>", "c", "d"], ["a", "c", "x"]) == pytest.approx(3 / 7)


def test_a_language_without_spaces_is_marked_by_characters(inputs: Inputs) -> None:
    assert marked(list("猫は庭"), list("猫が庭"), "") == ("猫<mark>は</mark>庭", "猫<mark>が</mark>庭")
    evaluation = inputs.config.evaluation.model_copy(update={"tokenizer": "char"})
    by_characters = replace(inputs, config=inputs.config.model_copy(update={"evaluation": evaluation}))
    systems = ("teacher", "beam5"), ("ctc", "collapse")
    words, characters = side_by_side(inputs, *systems), side_by_side(by_characters, *systems)
    assert words and characters and characters.equal == words.equal
    assert characters.pairs[0].difference < words.pairs[0].difference
    plain = [pair.first.replace("<mark>", "").replace("</mark>", "") for pair in characters.pairs]
    assert all("  " not in text and " " in text for text in plain)


def test_what_differs_most_comes_first_and_equal_outputs_are_counted(inputs: Inputs) -> None:
    found = side_by_side(inputs, ("teacher", "beam5"), ("ctc", "collapse"))
    assert found and found.sentences == 12
    differences = [pair.difference for pair in found.pairs]
    assert differences == sorted(differences, reverse=True) and differences[-1] > 0
    assert len(found.pairs) == 12 - found.equal
    few = side_by_side(inputs, ("teacher", "beam5"), ("ctc", "collapse"), limit=2)
    assert few and few.pairs == found.pairs[:2]


def test_the_first_seed_is_that_of_the_configuration(tmp_path: Path) -> None:
    arguments = run_on_disk(tmp_path, ["teacher", "ctc"], seeds=(3, 1), sentences=8)
    inputs = read_inputs(Paths(**{**arguments, "checkpoints": []}))
    assert {run.seed for run in inputs.sampled.values()} == {3}
    both = ("teacher", "beam5"), ("ctc", "collapse")
    of_first = {run: path for run, path in inputs.translated.items() if run.seed == 3}
    assert side_by_side(inputs, *both) == side_by_side(replace(inputs, translated=of_first), *both) is not None


def test_without_outputs_there_is_none(inputs: Inputs) -> None:
    assert side_by_side(inputs, ("teacher", "beam5"), ("absent", "collapse")) is None


@pytest.mark.slow
def test_the_page_has_them_and_can_be_printed(arguments: dict, tmp_path: Path) -> None:
    build_report.main(argparse.Namespace(**arguments, output=tmp_path))
    html = (tmp_path / "report.html").read_text()
    part = html[html.index('<section id="differences">') :]
    part = part[: part.index("</section>")]
    assert "<summary>ctc collapse: " in part and "<mark>" in part and '<a href="#differences">' in html
    assert "@media print" in html
    # size and memory in the fastest engine, beside the scores
    assert "<td>7.0</td><td>71</td>" in html
