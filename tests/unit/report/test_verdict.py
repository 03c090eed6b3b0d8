import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from retort.config.load import load_config
from retort.data.runs import Run
from retort.evaluation.runs import named_directory
from retort.report import page, timing, verdict
from retort.report.inputs import Checkpoint, Inputs, Paths, read_inputs
from retort.report.summary import Difference
from retort.report.timing import Footprint, Latency
from retort.report.verdict import Ranked
from tests.unit.fakes_report import NO_FIGURES, config, run_on_disk


def ranked(name: str, milliseconds: float, gap: float, significant: int = 0) -> Ranked:
    unused = {"repeats": 1, "clock": 0, "processor": 0, "model_share": 1, "throughput": 1}
    unused |= {"clock_throughput": 1, "processor_throughput": 1}
    latency = Latency(
        engine="onnx", precision="int8", batch_size=1, batches=9, median=milliseconds / 1000, low=0, high=1, highest=1,
        processor_per_million=1, output_tokens=5, **unused,
    )  # fmt: skip
    difference = Difference(mean=gap, low=gap - 1, high=gap + 1, lower=significant, higher=0, seeds=1)
    footprint = Footprint(megabytes=1.25, cold_start=None, peak_megabytes=60.4)
    return Ranked(
        (name, "argmax"), 50 + gap, difference, gap, [], None, None, latency, footprint, f"systems/{name}", None
    )


def names(systems: list[Ranked]) -> list[str]:
    return [system.key[0] for system in systems]


BATCH = {
    "precision": "float32", "batch_size": 1, "batch": 0, "sentences": 1, "source_characters": 9, "source_tokens": 3,
    "target_tokens": 3, "model_seconds": 0.1, "total_seconds": 0.1, "processor_seconds": 0.1,
}  # fmt: skip
"""A timed batch."""
SLOW, DEEP, MIDDLE, NEAR, FAST = (
    ranked("slow", 9.0, 0.5),
    ranked("deep", 5.0, 0.1),
    ranked("middle", 2.5, -0.6),
    ranked("near", 1.05, -1.0, significant=1),
    ranked("fast", 1.0, -1.4, significant=1),
)


def test_systems_that_others_beat_in_both_are_left_out() -> None:
    beaten = ranked("beaten", 5.5, 0.0)
    assert names(verdict.at_speedups([FAST, beaten, DEEP], 1)) == ["deep", "fast"]
    assert names(verdict.at_speedups([], 1)) == []


def test_of_systems_about_as_fast_the_best_is_named_and_of_many_three() -> None:
    assert names(verdict.at_speedups([DEEP, NEAR, FAST], 1)) == ["deep", "near"]
    # 2.5 ms is nearer to sqrt(9 x 1.05) ms than 5 ms is
    assert names(verdict.at_speedups([SLOW, DEEP, MIDDLE, NEAR, FAST], 1)) == ["slow", "middle", "near"]


def test_the_chosen_system_is_named_whatever_is_left_out() -> None:
    slower = ranked("slower", 2.7, -0.4)
    assert names(verdict.at_speedups([SLOW, slower, MIDDLE, FAST], 1)) == ["slow", "slower", "fast"]
    assert names(verdict.at_speedups([SLOW, slower, MIDDLE, FAST], 1, MIDDLE)) == ["slow", "middle", "fast"]
    nearest = ranked("nearest", 3.0, -0.5)
    assert names(verdict.at_speedups([SLOW, DEEP, nearest, FAST], 1)) == ["slow", "nearest", "fast"]
    assert names(verdict.at_speedups([SLOW, DEEP, nearest, FAST], 1, DEEP)) == ["slow", "deep", "fast"]
    assert names(verdict.at_speedups([SLOW, slower, MIDDLE], 1, MIDDLE)) == ["slow", "middle"], "not both of one speed"


def test_what_is_better_on_average_is_not_worse() -> None:
    assert not verdict.is_worse(ranked("one seed is lower", 1.0, 0.1, significant=1), 1)
    assert verdict.is_worse(ranked("all are", 1.0, -0.1, significant=2), 1)


def test_the_commands_are_of_the_checkpoint_that_was_timed() -> None:
    trained = {Run("teacher", seed): Checkpoint(description={}, directory=f"seed{seed}") for seed in (1, 2)}
    inputs = Inputs(config(), latency=[{"system": "teacher", "seed": 2}], checkpoints=trained)
    assert verdict._directory(inputs, "teacher") == "seed2"


def test_lower_is_better_in_some_metrics() -> None:
    worse, better = replace(DEEP, value=60), replace(FAST, value=40)
    assert names(verdict.at_speedups([worse, better], -1)) == ["fast"]
    assert names(verdict.at_speedups([worse, better], 1)) == ["deep", "fast"]


def test_a_seed_that_is_significantly_better_makes_no_system_worse() -> None:
    mixed = replace(MIDDLE, difference=Difference(mean=-0.1, low=-2.0, high=4.0, lower=0, higher=1, seeds=2))
    assert not verdict.is_worse(mixed, 1)
    lower_is_better = Difference(mean=0.1, low=-2.0, high=4.0, lower=0, higher=1, seeds=2)
    assert verdict.is_worse(replace(mixed, difference=lower_is_better), -1)


def test_the_winner_is_the_fastest_that_is_not_significantly_worse() -> None:
    assert verdict.winner([DEEP, MIDDLE, NEAR], 1) is MIDDLE
    assert verdict.winner([FAST, NEAR], 1) is NEAR
    untested = replace(MIDDLE, difference=None)
    assert verdict.winner([DEEP, untested], 1) is DEEP
    assert verdict.winner([], 1) is None


def test_of_systems_about_as_fast_the_winner_is_the_best() -> None:
    worse, better, slow = ranked("worse", 1.0, -2.0), ranked("better", 1.05, 3.0), ranked("slow", 1.2, 5.0)
    assert verdict.winner([worse, better, slow], 1) is better
    assert verdict.winner([worse, replace(better, value=worse.value), slow], 1) is worse
    assert verdict.winner([worse, better], -1) is worse, "lower is better"
    assert names(verdict.at_speedups([worse, better], 1, better)) == ["better"]


def test_the_winner_is_not_significantly_worse_on_any_test_set() -> None:
    assert verdict.winner([DEEP, replace(MIDDLE, worse_on=["coco"])], 1) is DEEP


@pytest.mark.parametrize(
    ("is_worse", "begins"), [(False, "The fastest that is not"), (True, "All that are faster are significantly worse;")]
)
def test_the_winner_is_introduced_as_what_it_is(inputs: Inputs, is_worse: bool, begins: str) -> None:
    found = verdict.verdict(inputs)
    assert found and found.winner
    shown = verdict.lines(replace(found, best=[found.winner], is_worse=is_worse), "report.html")
    assert [line for line in shown if line.startswith(begins) and line.endswith(f"{verdict.name(found.winner.key)}:")]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("run")
    arguments = run_on_disk(root, ["teacher", "ctc", "cmlm"], sentences=8)
    return read_inputs(
        Paths(**{**arguments, "checkpoints": [named_directory(text) for text in arguments["checkpoints"]]})
    )


def test_a_run_has_a_verdict_of_its_engines_with_commands(inputs: Inputs) -> None:
    found = verdict.verdict(inputs)
    assert found and found.reference.key == ("teacher", "beam5")
    # a tenth of torch's time, so that no system is compared in torch
    assert {system.latency.engine for system in [found.reference, *found.best]} == {"ctranslate2", "onnx"}
    fastest = found.best[-1]
    assert fastest.key == ("ctc", "collapse") and fastest.speedup and fastest.speedup.ratio == pytest.approx(10.7, 0.1)
    text = verdict.lines(found, Path("results/run/report/report.html"))
    assert text[0].startswith("teacher beam5: ") and "ctranslate2 int8" in text[0]
    (line,) = [line for line in text if "faster: ctc collapse, " in line]
    assert line.startswith(f"{fastest.speedup.ratio:.1f}x faster") and line.endswith("7.0 MB, 71 MB of memory")
    assert "report: results/run/report/report.html" in text
    chosen = found.winner
    assert chosen and chosen.directory and all(chosen.directory in command for command in verdict.commands(found)[:2])


def test_a_worse_score_on_another_test_set_is_named(inputs: Inputs) -> None:
    """Students are better on coco, but for one seed of CTC."""
    scores = [*inputs.scores, *(row | {"test_set": "coco"} for row in inputs.scores)]
    better = {"test_set": "coco", "difference": 1.0, "difference_low": 0.5, "difference_high": 1.5, "p_value": 0.0}
    rows = [row | better for row in inputs.comparison]
    rows += [row | better | {"seed": 2, "difference": -4.0} for row in rows if row["system"] == "ctc"]
    found = verdict.verdict(replace(inputs, scores=scores, comparison=[*inputs.comparison, *rows]))
    worse_on = {system.key[0]: system.worse_on for system in found.best} if found else {}
    assert found and worse_on == {"teacher": [], "cmlm": [], "ctc": ["coco"]}
    worse = [line for line in verdict.lines(found, "report.html") if "), significantly worse on coco" in line]
    assert len(worse) == 1 and "faster: ctc collapse" in worse[0]


def test_the_rival_has_a_line_and_what_is_faster_its_speed_over_it(inputs: Inputs) -> None:
    """It is no answer to be faster than the teacher's beam alone; here its greedy search is beaten in both."""
    scores = [row | {"value": 1.0} if row["search"] == "greedy" else row for row in inputs.scores]
    found = verdict.verdict(replace(inputs, scores=scores, comparison=[]))
    assert found and found.rival and found.rival.key == ("teacher", "greedy") and found.rival not in found.best
    assert names(found.shown) == ["teacher", *names(found.best)], "the slowest first"
    rival, *_, fastest = verdict.lines(found, "report.html")[1 : len(found.best) + 2]
    assert "x faster: teacher greedy, " in rival and ", the autoregressive rival; " in rival
    over = found.best[-1].over_rival
    assert over and over.ratio == pytest.approx(10.7 * 0.6, 0.1)
    assert "x faster: ctc collapse, " in fastest and f", {over.ratio:.1f}x the rival's speed; " in fastest
    slower = replace(found.best[-1], over_rival=replace(over, ratio=1.05))
    assert "rival" not in verdict.advantage(slower, found)
    assert ", +0.0 BLEU" in verdict.advantage(replace(slower, gap=-0.04), found)


def without_search(inputs: Inputs, search: str) -> Inputs:
    """A run whose teacher lacks a search."""
    config = inputs.config.model_dump()
    config["teacher"]["searches"].pop(search)
    return replace(
        inputs,
        config=load_config(config),
        latency=[row for row in inputs.latency if row["search"] != search],
        scores=[row for row in inputs.scores if row["search"] != search],
    )


@pytest.mark.parametrize("searches", [("beam5", "greedy"), ("beam5",)])
def test_a_run_without_a_shallow_rival_says_so_and_what_to_add(inputs: Inputs, searches: tuple[str, ...]) -> None:
    """The teacher's greedy search at full depth is none, and where it has but a beam no rival is shown at all."""
    run = inputs if "greedy" in searches else without_search(inputs, "greedy")
    found = verdict.verdict(run)
    assert found and found.no_rival and (found.rival is None) == ("greedy" not in searches)
    layers = inputs.systems["teacher"].model.decoder_layers
    assert f"fewer decoder layers than teacher ({layers}): add one with objective: autoregressive" in found.no_rival
    text = verdict.lines(found, "report.html")
    assert f"{found.no_rival}." in text and any("x faster: ctc" in line for line in text)
    assert f"<strong>{found.no_rival}.</strong>" in page.render(run, NO_FIGURES)


@pytest.mark.parametrize("deepest", [1, 6])
def test_what_decodes_from_left_to_right_with_fewer_layers_is_the_rival(inputs: Inputs, deepest: int) -> None:
    """A given checkpoint has the layers of its own description."""
    config = inputs.config.model_dump()
    config["students"]["shallow"] = config["teacher"]
    rows = [{**row, "system": "shallow"} for row in inputs.latency if row["system"] == "teacher"]
    description = {"model": {"encoder_layers": 6, "decoder_layers": deepest}}
    checkpoints = {**inputs.checkpoints, Run("shallow", 1): Checkpoint(description=description)}
    run = replace(inputs, config=load_config(config), latency=[*inputs.latency, *rows], checkpoints=checkpoints)
    assert (verdict.no_rival(run) is None) == (deepest == 1)
    teacher = Checkpoint(description={"model": {"encoder_layers": 12, "decoder_layers": 1}})
    assert verdict.no_rival(replace(inputs, checkpoints={Run("teacher", 1): teacher})) is None, "nothing is shallower"


def test_beside_an_external_teacher_a_rival_has_fewer_layers_in_its_decoder_than_in_its_encoder() -> None:
    external = {"kind": "command", "arguments": ["cat"], "streams": True}
    student: dict[str, object] = {"objective": "autoregressive", "data": "distilled"}
    for layers, missing in ((3, True), (2, False)):
        student["model"] = {"encoder_layers": 3, "decoder_layers": layers}
        resolved = config(["teacher"]).model_dump() | {"teacher": None, "students": {"ar": student}}
        run = Inputs(load_config(resolved | {"external_teacher": external}), latency=[])
        (search, *_) = run.systems["ar"].searches
        timed = [{"system": "ar", "seed": 1, "search": search, "engine": "torch", **BATCH}]
        run = replace(run, latency=timed)
        assert run.config.reference == ("external", "command")
        assert ("fewer decoder layers than encoder layers" in str(verdict.no_rival(run))) == missing


def test_quality_is_judged_by_an_external_teacher_that_is_not_timed(inputs: Inputs) -> None:
    """Its copy, which speed-ups are over, may be far worse than itself, and a student as good as the copy is not."""
    resolved = inputs.config.model_dump() | {"external_teacher": {"kind": "command", "arguments": ["cat"]}}
    own = {"system": "external", "search": "command", "seed": 0, "value": 99.0}
    beam = [row for row in inputs.scores if (row["system"], row["search"]) == ("teacher", "beam5")]
    scores = [*inputs.scores, *({**row, **own} for row in beam)]
    compared = [
        {**row, "baseline": "external/seed0/command", "difference": -60.0, "difference_low": -70.0,
         "difference_high": -50.0, "p_value": 0.001}
        for row in inputs.comparison
    ]  # fmt: skip
    run = replace(inputs, config=load_config(resolved), scores=scores, comparison=compared)
    found = verdict.verdict(run)
    assert found and found.is_worse and found.reference.key == ("teacher", "beam5")
    first, second, *rest = verdict.lines(found, "report.html")
    assert first == "external command: 99.0 BLEU on flickr; not timed, so speed-ups are over teacher beam5"
    assert second.startswith("teacher beam5, -") and " ms in ctranslate2" in second
    assert any("x faster: ctc collapse, -60.0 BLEU (-70.0 to -50.0)" in line for line in rest)
    assert any(line.startswith("All that are faster are significantly worse") for line in rest)
    html = page.render(run, NO_FIGURES)
    assert "since external was not timed" in html and "<td>not timed</td>" in html


def test_outputs_that_the_engine_changes_are_in_the_line_and_many_are_doubted(inputs: Inputs) -> None:
    """Scores are of torch's outputs."""
    found = verdict.verdict(inputs)
    assert found and found.best[-1].changed == (2, 30) and found.changed is None
    (line,) = [line for line in verdict.lines(found, "report.html") if "x faster: ctc collapse" in line]
    assert " ms in onnx int8 (7% of outputs changed), 7.0 MB" in line
    for changed, doubted in ((6, False), (7, True)):
        fact = {"system": "ctc", "seed": 1, "search": "collapse", "engine": "onnx", "sentences": 30, "changed": changed}
        facts = {**inputs.latency_provenance, "changed_outputs": [fact]}
        run = replace(inputs, latency_provenance=facts)
        again = verdict.verdict(run)
        assert again and bool(again.changed) == doubted
        text = "\n".join(verdict.lines(again, "report.html"))
        assert ("the engine changes many (23% of ctc collapse in onnx); retort export measures" in text) == doubted
        assert ("changes many (23% of ctc collapse in onnx)" in page.render(run, NO_FIGURES)) == doubted
    assert f"{100 * 2 / 30:.0f} % of outputs changed" in page.render(inputs, NO_FIGURES)


def test_the_rival_is_named_once(inputs: Inputs) -> None:
    beam = [row for row in inputs.latency if (row["system"], row["search"]) == ("teacher", "beam5")]
    greedy = [row | {"search": "greedy", "total_seconds": row["total_seconds"] / 1.05} for row in beam]
    found = verdict.verdict(replace(inputs, latency=[*beam, *greedy]))
    assert found and found.rival and found.rival == found.winner and not found.best
    assert "\n".join(verdict.lines(found, "report.html")).count("teacher greedy") == 1
    assert "than the rival" not in page.render(replace(inputs, latency=[*beam, *greedy]), NO_FIGURES), "no row has it"
    alone = verdict.verdict(replace(inputs, latency=beam))
    assert alone and alone.rival is None and alone.reference.over_rival is None, "it is the reference"


@pytest.mark.parametrize(("factor", "is_faster"), [(1.05, False), (1.15, True)])
def test_a_system_about_as_fast_as_the_reference_is_not_faster(inputs: Inputs, factor: float, is_faster: bool) -> None:
    rows = [row for row in inputs.latency if (row["system"], row["search"]) == ("teacher", "beam5")]
    as_fast = [
        row | {"system": "ctc", "search": "collapse", "total_seconds": row["total_seconds"] / factor} for row in rows
    ]
    found = verdict.verdict(replace(inputs, latency=[*rows, *as_fast]))
    assert found and found.winner and found.winner.key == ("ctc", "collapse")
    text = "\n".join(verdict.lines(found, "report.html"))
    assert bool(found.best) == ("x faster: ctc" in text) == is_faster
    assert ("no system is faster; the best is ctc collapse, " in text) != is_faster


def test_a_gap_and_its_interval_are_of_the_same_seeds(inputs: Inputs) -> None:
    found = verdict.verdict(inputs)
    assert found and found.winner and found.winner.difference
    # a second teacher, which the students of the first one were not compared with
    second = [{**row, "seed": 2, "value": row["value"] + 9} for row in inputs.scores if row["system"] == "teacher"]
    again = verdict.verdict(replace(inputs, scores=[*inputs.scores, *second]))
    assert again and again.reference.value == pytest.approx(found.reference.value + 4.5)
    gaps = {system.key: (system.gap, system.difference) for system in found.best}
    assert gaps == {system.key: (system.gap, system.difference) for system in again.best}
    assert all(gap == of.mean and of.low <= gap <= of.high for gap, of in gaps.values() if of)


def test_a_search_with_a_table_has_its_own_size(inputs: Inputs) -> None:
    shared = {"system": "ctc", "engine": "onnx", "bytes": 3_000_000, "search": None}
    facts = [shared, shared | {"search": "ngrams", "bytes": 9_500_000}]
    rows = [row | {"search": "ngrams"} for row in inputs.latency if row["system"] == "ctc"]
    timed = replace(
        inputs,
        scores=[row | {"search": "ngrams"} if row["system"] == "ctc" else row for row in inputs.scores],
        latency=[*inputs.latency, *rows],
        latency_provenance={**inputs.latency_provenance, "loaded": facts},
    )
    found = verdict.verdict(timed)
    assert found and found.best[-1].key == ("ctc", "ngrams") and found.best[-1].footprint.megabytes == 9.5


def test_a_search_that_is_not_the_first_is_in_the_commands(inputs: Inputs) -> None:
    found = verdict.verdict(inputs)
    assert found
    assert verdict.chosen_search(inputs, ("ctc", "collapse")) is None
    other = replace(found.best[-1], search=verdict.chosen_search(inputs, ("teacher", "greedy")))
    commands = verdict.commands(replace(found, winner=other))
    assert """ --search '{"kind": "greedy"}' """ in commands[0] and """ --search '{"kind": "greedy"}' """ in commands[1]
    assert "--search" not in commands[2] and commands[3] == f"{verdict.program()} serve ctc-int8"
    tuned = {"kind": "greedy", "max_ratio": 3.5}
    timed = replace(inputs, latency_provenance={**inputs.latency_provenance, "searches": {"teacher/greedy": tuned}})
    assert verdict.chosen_search(timed, ("teacher", "greedy")) == '{"kind": "greedy", "max_ratio": 3.5}'


def test_a_search_that_the_checkpoint_does_not_decode_by_is_in_the_commands(tmp_path: Path) -> None:
    """What was tuned, or written, also where it is the first search; a timed value that is the default is left out."""
    penalized = {"kind": "ctc_collapse", "blank_penalty": 2}
    student: dict[str, object] = {"objective": "ctc", "searches": {"collapse": {"kind": "ctc_collapse"}}}
    written = student | {"searches": {"collapse": penalized}}
    resolved = config(["teacher"]).model_dump() | {"students": {"tuned": student, "written": written}}
    inputs = Inputs(load_config(resolved))
    assert verdict.chosen_search(inputs, ("tuned", "collapse")) is None
    assert json.loads(str(verdict.chosen_search(inputs, ("written", "collapse")))) == penalized
    searches = {"tuned/collapse": penalized, "written/collapse": {"kind": "ctc_collapse"}}
    timed = replace(inputs, latency_provenance={"searches": searches})
    assert json.loads(str(verdict.chosen_search(timed, ("tuned", "collapse")))) == penalized
    assert verdict.chosen_search(timed, ("written", "collapse")) is None
    assert verdict.chosen_search(timed, ("teacher", "beam5")) is None
    assert verdict.chosen_search(timed, ("gone", "beam5")) is None


def test_a_loaded_machine_is_named(inputs: Inputs) -> None:
    busy = [{**row, "total_seconds": 3 * row["processor_seconds"]} for row in inputs.latency]
    device = {"type": "cpu", "threads": 1}
    loaded = replace(inputs, latency=busy, latency_provenance={**inputs.latency_provenance, "device": device})
    found = verdict.verdict(loaded)
    assert found and found.loaded and "loaded machine (by the clock all took 3.0 times" in found.loaded
    assert "load 1.0 before" in found.loaded and f"{found.loaded}." in verdict.lines(found, "report.html")
    assert verdict.doubt(inputs) is None


def test_whether_a_machine_was_loaded_is_not_asked_once_per_row(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratio = Mock(return_value=3.0)
    monkeypatch.setattr(timing, "busy_ratio", ratio)
    verdict.doubt(replace(inputs, latency_provenance={"device": {"type": "cpu", "threads": 1}}))
    assert 1 < ratio.call_count <= 1 + len({row["system"] for row in inputs.latency})


@pytest.mark.parametrize(
    ("warnings", "said"),
    [(0, ""), (1, ", which begins with 1 warning"), (2, ", which begins with 2 warnings")],
)
def test_the_text_says_that_the_report_begins_with_warnings(inputs: Inputs, warnings: int, said: str) -> None:
    for found in (verdict.verdict(inputs), None):
        assert f"report: report.html{said}" in verdict.lines(found, "report.html", warnings=warnings)


def test_without_times_at_batch_size_1_there_is_none(inputs: Inputs) -> None:
    assert verdict.verdict(replace(inputs, latency=[])) is None
    batches = [row for row in inputs.latency if row["batch_size"] != 1]
    found = verdict.verdict(replace(inputs, latency=batches))
    assert found is None
    text = verdict.lines(found, Path("results/run/report/report.html"))
    assert "no times at batch size 1" in text[0] and text[1:] == ["report: results/run/report/report.html"]


def test_a_search_that_asks_a_teacher_is_given_it_and_is_not_served(inputs: Inputs) -> None:
    found = verdict.verdict(inputs)
    assert found
    torch = replace(found.best[-1].latency, engine="torch", precision="bfloat16")
    asking = replace(found.best[-1], latency=torch, teacher="results/t/systems/teacher/seed1")
    (translate,) = verdict.commands(replace(found, winner=asking))
    assert " --teacher results/t/systems/teacher/seed1 --precision bfloat16 --input " in translate


def test_where_none_is_faster_the_best_is_named_and_not_the_fastest(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "best_speedups", lambda inputs, reference: {})
    monkeypatch.setattr(verdict, "is_worse", lambda system, sign: False)
    scored = verdict.score_spreads(inputs, verdict.test_sets(inputs)[0])
    best = max(
        (key for key in scored if key != inputs.config.reference), key=lambda key: scored[key][inputs.leading].mean
    )
    # and make it slower than all others
    slow = [
        {**row, "total_seconds": 99.0, "processor_seconds": 99.0} if (row["system"], row["search"]) == best else row
        for row in inputs.latency
    ]
    found = verdict.verdict(replace(inputs, latency=slow))
    assert found and found.winner and not found.best and found.winner.key == best
