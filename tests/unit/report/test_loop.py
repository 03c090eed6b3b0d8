"""The report's section on multi-modality and the EM loop."""

import argparse
import csv
import re
from dataclasses import replace
from html import unescape

import pytest

from retort.config import Em
from retort.evaluation.significance import spread
from retort.report import loop, page, summary
from retort.report.figures import em_iterations
from retort.report.inputs import Inputs, read_inputs
from retort.report.results import results_csv
from tests.unit.fakes_report import LOOP, NO_FIGURES, run_on_disk
from tests.unit.report.test_page import paths
from workflow_scripts import build_report

SEARCHES = ["passes4", "passes1"]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> dict:
    return run_on_disk(tmp_path_factory.mktemp("run"), ["teacher", "vanilla-raw", *LOOP], seeds=(1, 2), sentences=20)


@pytest.fixture(scope="module")
def inputs(arguments) -> Inputs:
    return read_inputs(paths(arguments))


@pytest.fixture(scope="module")
def found(inputs) -> list[loop.Iteration]:
    return loop.iterations(inputs, "flickr")


def bleu(inputs, system, search):
    rows = [row for row in inputs.scores if (row["system"], row["search"]) == (system, search)]
    return {row["seed"]: row["value"] for row in rows if row["metric"] == "BLEU"}


def section(html):
    """The EM section, or nothing."""
    start = html.find('<section id="em">')
    return "" if start < 0 else html[start : html.index("</section>", start)]


@pytest.mark.slow
def test_an_iteration_is_a_row_of_means_over_seeds(inputs, found):
    assert [(row.number, row.seeds) for row in found] == [(1, 2), (2, 2)]
    assert [row.modality.ncm.mean for row in found] == pytest.approx([2.30, 2.20])
    assert [row.valid.mean for row in found] == pytest.approx([50 * 0.7 + 1.5, 50 * 0.8 + 1.5])
    for row, student, teacher in ((found[0], "em1", "teacher"), (found[1], "em2", "em2-teacher")):
        assert list(row.scores) == SEARCHES
        assert row.scores["passes1"] == spread(list(bleu(inputs, student, "passes1").values()))
        assert row.teacher == spread(list(bleu(inputs, teacher, "beam5").values()))


def test_differences_are_to_the_first_iteration_seed_by_seed(inputs, found):
    assert found[0].differences == dict.fromkeys(SEARCHES)
    for search, difference in found[1].differences.items():
        first, second = bleu(inputs, "em1", search), bleu(inputs, "em2", search)
        assert difference.mean == pytest.approx(sum(second[seed] - first[seed] for seed in (1, 2)) / 2)
        assert difference.seeds == 2 and difference.low < difference.mean < difference.high


def test_a_third_iteration_is_compared_with_the_first_too(inputs, found):
    def as_third(rows):
        return [*rows, *(row | {"system": "em3"} for row in rows if row["system"] == "em2")]

    third = loop.iterations(
        replace(inputs, scores=as_third(inputs.scores), comparison=as_third(inputs.comparison)), "flickr"
    )[2]
    assert third.differences == found[1].differences


def test_guards_stand_beside_the_first_teachers_values(found):
    assert found[0].guards == {} and found[0].changed is None is found[0].impossible
    assert found[1].impossible.mean == pytest.approx(0.06)
    assert {metric: (value.mean, first.mean) for metric, (value, first) in found[1].guards.items()} == {
        "length": (11.5, 12),
        "BLEU": (30, 32),
    }
    assert found[1].changed.mean == pytest.approx(0.3)


def test_the_page_begins_with_iterations_without_possible_candidates(inputs):
    warned = [what for where, what in summary.warnings(inputs) if where == "em"]
    assert [what.partition(" no candidate")[0] for what in warned] == [
        "EM iteration 2 (seed 2): for 8 % of the sources",
        "EM iteration 3 (seed 1): for 6 % of the sources",
        "EM iteration 3 (seed 2): for 12 % of the sources",
    ]
    html = page.render(inputs, NO_FIGURES)
    assert html.index(warned[0]) < html.index("<section")
    assert '<th>Impossible<span class="unit">% of sources</span></th>' in section(html) and "<td>6.0</td>" in html


def test_the_iteration_with_the_best_validation_is_kept_the_earlier_of_equals(found):
    assert loop.kept(found).number == 2
    equal = [replace(found[0], validation=found[1].validation), found[1]]
    assert loop.kept(equal).number == loop.kept(equal[::-1]).number == 1
    assert loop.kept([replace(found[1], validation={}), found[0]]).number == 1
    assert loop.kept([replace(found[1], validation={})]) is None and loop.kept([]) is None
    assert loop.kept(found, sign=-1).number == 1, "lower is better"


def test_iterations_are_compared_on_the_seeds_of_both(found):
    first, second = (
        replace(iteration, validation=validation)
        for iteration, validation in zip(found, ({1: 20.0, 2: 30.0}, {1: 21.0}), strict=True)
    )
    assert loop.kept([first, second]).number == 2 and loop.kept([first, second], sign=-1).number == 1
    assert loop.kept([first, replace(second, validation={1: 19.0})]).number == 1
    assert loop.kept([first, replace(second, validation={3: 90.0})]).number == 1
    third = replace(second, number=3, validation={2: 31.0})
    assert loop.kept([first, third]).number == 3, "on the only seed of both"


def test_the_page_says_how_many_seeds_an_iteration_has(inputs):
    assert "1 of 2 seeds" not in section(page.render(inputs, NO_FIGURES))
    scores = [row for row in inputs.scores if (row["system"], row["seed"]) != ("em2", 2)]
    part = section(page.render(replace(inputs, scores=scores), NO_FIGURES))
    assert '<th scope="row">2<span class="range">1 of 2 seeds</span></th>' in part and part.count(" of 2 seeds") == 1


def test_the_reason_of_an_early_end_names_iteration_and_seed(inputs):
    (reason,) = loop.ended(inputs)
    assert reason.startswith("EM iteration 3 (seed 2): the loop ends here")
    assert "mean length in tokens is 5, below the bound of 9" in reason


def test_multi_modality_of_every_system_that_was_measured(inputs):
    modalities = loop.modalities(inputs)
    assert [(m.system, m.data, m.pairs, m.infeasible) for m in modalities] == [
        ("vanilla-raw", "raw", 200, 3),
        ("em1", "em", 200, 3),
        ("em2", "em", 200, 3),
    ]
    # 1100 tokens in 100 sentences, and 1200
    assert modalities[0].nats_per_sentence.mean == pytest.approx(2.5 * 11.5)


def test_a_model_that_no_pair_is_possible_for_has_no_ncm(inputs):
    nothing = {**inputs.multimodality[0], "sentences": 0, "tokens": 0, "nats": 0.0, "infeasible": 7}
    only = replace(inputs, multimodality=[nothing], scores=[], comparison=[])
    assert loop.modalities(only) == []
    (row,) = [row for row in csv.DictReader(results_csv(only).splitlines()) if row["metric"] == "NCM"]
    assert row["value"] == "" and "infeasible:7" in row["signature"]
    both = replace(inputs, multimodality=[nothing, inputs.multimodality[1]])
    assert loop.modalities(both)[0].ncm.mean == pytest.approx(2.5)


def test_results_hold_ncm_of_every_seed(inputs):
    rows = [row for row in csv.DictReader(results_csv(inputs).splitlines()) if row["metric"] == "NCM"]
    assert [(row["system"], row["data"], row["seed"]) for row in rows] == [
        (system, data, seed) for system, data in (("vanilla-raw", "raw"), ("em1", "em"), ("em2", "em")) for seed in "12"
    ]
    assert [float(row["value"]) for row in rows] == pytest.approx([2.5, 2.5, 2.3, 2.3, 2.2, 2.2])
    assert rows[1]["signature"].endswith("pairs:100|infeasible:2|tokens:1200")


@pytest.mark.slow
def test_the_page_shows_the_loop(arguments, found, tmp_path):
    build_report.main(argparse.Namespace(**arguments, output=tmp_path))
    part = section((tmp_path / "report.html").read_text())
    assert "Iteration <b>2</b> is kept" in part and "and the EM loop" in part
    assert "EM iteration 3 (seed 2): the loop ends here" in unescape(part)
    assert page.data_uri((tmp_path / "em_iterations.png").read_bytes()) in part
    for search in SEARCHES:
        assert f"<td>{page.signed(found[1].differences[search].mean)} " in part
    assert f'{page.number(11.5)} <span class="sd">({page.number(12)})' in part
    assert "<td>30.0</td>" in part, "the share of choices that changed"


def test_a_search_that_is_not_scored_yet_leaves_its_columns_empty(inputs):
    scores = [row for row in inputs.scores if (row["system"], row["search"]) != ("em2", "passes4")]
    part = section(page.render(replace(inputs, scores=scores), NO_FIGURES))
    table = part[: part.index("</table>")]
    cells = [len(re.findall("<t[hd]", row)) for row in re.split("<tr", table)[1:]]
    assert len(cells) == 3 and len(set(cells)) == 1
    row, score = re.split("<tr", table)[3], spread(list(bleu(inputs, "em2", "passes1").values()))
    assert row.index(f"<td>{page.MISSING}</td>") < row.index(f"<td>{page.spread_text(score)}</td>")


@pytest.mark.slow
def test_the_section_is_there_only_with_a_loop_or_a_measurement(inputs):
    bare = replace(inputs, config=inputs.config.model_copy(update={"em": Em()}), guards=[])
    measured = section(page.render(bare, NO_FIGURES))
    assert "<h2>Multi-modality</h2>" in measured and "is kept" not in measured
    assert section(page.render(replace(bare, multimodality=[]), NO_FIGURES)) == ""
    unmeasured = section(page.render(replace(inputs, multimodality=[]), NO_FIGURES))
    assert "is kept" in unmeasured and "NCM of all that was measured" not in unmeasured


def test_a_leading_metric_that_no_training_was_validated_by_is_named(inputs):
    figures = NO_FIGURES | {"training_curves": b"png"}
    html = page.render(inputs, figures)
    assert "Trainings are validated by" not in html and "<h3>At equal updates" in html
    logs = {run: [row for row in log if row["metric"] != "BLEU"] for run, log in inputs.logs.items()}
    checkpoints = {run: found.model_copy(update={"validation": {}}) for run, found in inputs.checkpoints.items()}
    html = page.render(replace(inputs, logs=logs, checkpoints=checkpoints), figures)
    assert "Which iteration is kept is left out: there is no validation BLEU. Trainings are validated by" in html
    names = "teacher, vanilla-raw, em1, em2-teacher, em2"
    assert f"equal time, without a validation BLEU: {names}. Trainings are validated by" in html
    assert "training.select_by</code>." in html and "<h3>At equal updates" not in html


def test_iterations_are_drawn_once_there_are_two(inputs):
    assert em_iterations(inputs, "flickr").startswith(b"\x89PNG")
    one = replace(inputs, scores=[row for row in inputs.scores if row["system"] != "em2"])
    assert em_iterations(one, "flickr") is None
    assert em_iterations(replace(inputs, multimodality=[]), "flickr").startswith(b"\x89PNG")
