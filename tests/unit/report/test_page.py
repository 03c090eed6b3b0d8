import argparse
import csv
import io
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import escape
from pathlib import Path

import pyarrow as pa
import pytest
from matplotlib.axes import Axes

from retort.config import EXTERNAL
from retort.config.load import to_json
from retort.data.parquet import write_table
from retort.data.runs import Run
from retort.data.tables import ENCODED, ENCODING
from retort.errors import RetortError
from retort.evaluation.runs import counterparts, data_pairs, named_directory
from retort.report import budgets, dag, figures, page, summary, timing
from retort.report.inputs import Checkpoint, Inputs, Paths, Sample, best_outputs, read_inputs, read_stages, sample_ids
from retort.report.results import COLUMNS, differences_csv, results_csv
from retort.report.verdict import doubt, lines, verdict
from tests.unit.fakes_evaluation import corpus, translations
from tests.unit.fakes_report import EVIL, RULES, config, run_on_disk
from workflow_scripts import build_report

NAMES = ["teacher", "ctc-raw", "ctc", "vanilla-raw", "vanilla"]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> dict:
    return run_on_disk(tmp_path_factory.mktemp("run"), NAMES, seeds=(1, 2))


@pytest.fixture(scope="module")
def inputs(arguments) -> Inputs:
    return read_inputs(paths(arguments))


@pytest.fixture(scope="module")
def report(arguments, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("report")
    build_report.main(argparse.Namespace(**arguments, output=output))
    return output


def paths(arguments: dict) -> Paths:
    return Paths(**{**arguments, "checkpoints": [named_directory(text) for text in arguments["checkpoints"]]})


def arguments_of(config: Path, **parts) -> dict:
    empty: dict[str, list] = {"scores": [], "logs": [], "checkpoints": [], "translations": []}
    nothing = dict.fromkeys(("corpus", "comparison", "latency", "benchmarks", "dag"))
    return {"config": config, **empty, **nothing, **parts}


@pytest.mark.slow
def test_all_files_are_written(report):
    assert sorted(path.name for path in report.iterdir()) == [
        "differences.csv",
        "em_iterations.png",
        "lengths.png",
        "mixed_training.png",
        "quality_latency.png",
        "report.html",
        "results.csv",
        "training_curves.png",
        "verdict.txt",
    ]
    for name in ("quality_latency", "training_curves", "lengths"):
        png = (report / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert page.data_uri(png) in (report / "report.html").read_text()


def test_the_page_shows_the_numbers(report, inputs):
    html = (report / "report.html").read_text()
    (entry,) = [entry for entry in summary.entries(inputs, "flickr") if entry.system == "ctc"]
    assert f'{page.number(entry.scores["BLEU"].mean)} <span class="sd">±{page.number(entry.scores["BLEU"].sd)}' in html
    assert f"<td>{page.signed(entry.differences[0][1].mean)}" in html
    assert f"{page.number(entry.speedup.ratio)}\N{MULTIPLICATION SIGN} <span" in html
    assert page.number(entry.best.throughput, 1) in html
    assert "4.32" in html
    (gap,) = [gap for gap in summary.gaps(inputs, "flickr") if gap.distilled == "ctc"]
    assert page.signed(gap.gap) in html
    readings = {pair.system: pair for pair in budgets.readings(inputs)}
    assert "At equal updates, and at equal time" in html and readings["ctc"].by_clock
    assert f"<td>{page.signed(readings['ctc'].seconds.difference.mean)}</td>" in html
    assert '<th scope="row">ctc collapse</th><td class="text">teacher beam5</td>' in html
    assert gap.difference is not None
    for text in (
        "28\N{THIN SPACE}765",
        "3.643",
        "21 min 40 s",
        "prepare_corpus",
        "What killed and failed attempts took is not counted",
        "leave out 0 without a star",
        "The rival, teacher greedy, is the fastest that decodes from left to right.",
        '<span class="range">the rival</span>',
        "than the rival</span></th>",
        "tok:13a",
        "0.1.0 (abc)",
        "Made-up CPU",
        "training on cpu, Made-up",
    ):
        assert text in html
    assert 'class="missing"' not in html


def test_the_page_needs_nothing_from_outside(report):
    html = (report / "report.html").read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "<script" not in html and "<link" not in html and "@import" not in html and "url(" not in html
    assert all(address.startswith("data:image/png;base64,") for address in re.findall(r'src="([^"]*)"', html))
    links = re.findall(r'href="([^"]*)"', html)
    sections = re.findall(r'<section id="([^"]*)"', html)
    assert set(links) == {f"#{section}" for section in sections}


def test_every_name_and_text_is_escaped(report):
    html = (report / "report.html").read_text()
    assert EVIL not in html
    assert '<b>&"' not in html
    assert html.count(escape(EVIL).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")) >= 5


def test_missing_parts_are_left_out_with_a_line(tmp_path, arguments):
    build_report.main(argparse.Namespace(**arguments_of(arguments["config"]), output=tmp_path))
    html = (tmp_path / "report.html").read_text()
    assert html.count("eft out: ") + html.count("eft out: ".replace(":", "")) >= 7
    for section in (
        "quality-latency",
        "comparison",
        "distillation",
        "latency",
        "training",
        "samples",
        "corpus",
        "stages",
    ):
        part = html[html.index(f'<section id="{section}">') :]
        assert "eft out" in part[: part.index("</section>")], section
    assert (tmp_path / "quality_latency.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "results.csv").read_text().splitlines() == [",".join(COLUMNS)]


def test_scores_without_latency_still_make_a_table(tmp_path, arguments):
    parts = arguments_of(arguments["config"], scores=arguments["scores"])
    build_report.main(argparse.Namespace(**parts, output=tmp_path))
    html = (tmp_path / "report.html").read_text()
    assert '<table class="wide">' in html
    assert "it needs both scores and latency" in html


@pytest.mark.slow
def test_one_system_one_seed_is_enough(tmp_path):
    arguments = run_on_disk(tmp_path, ["teacher"], sentences=6)
    build_report.main(argparse.Namespace(**arguments, output=tmp_path / "report"))
    html = (tmp_path / "report" / "report.html").read_text()
    assert "no two scored systems differ in their training data only" in html


@pytest.mark.slow
@pytest.mark.parametrize(("leading", "signature"), [("ROUGE-L", "stem:porter"), ("chrF++", "nc:6|nw:2")])
def test_another_leading_metric_is_followed_everywhere(tmp_path, leading, signature):
    metrics = (leading, "BLEU", "distinct-1")
    arguments = run_on_disk(tmp_path, ["teacher", "ctc-raw", "ctc", "em1", "em2"], sentences=12, metrics=metrics)
    build_report.main(argparse.Namespace(**arguments, output=tmp_path / "report"))
    html = (tmp_path / "report" / "report.html").read_text()
    inputs = read_inputs(paths(arguments))
    (entry,) = [entry for entry in summary.entries(inputs, "flickr") if entry.system == "ctc"]
    wanted = ("ctc", leading, "teacher/seed1/beam5")
    (row,) = [r for r in inputs.comparison if (r["system"], r["metric"], r["baseline"]) == wanted]
    assert [(None, row["difference"])] == [(baseline, d.mean) for baseline, d in entry.differences]
    (gap,) = summary.gaps(inputs, "flickr")
    assert gap.gap == gap.scores_distilled[leading].mean - gap.scores_raw[leading].mean
    assert f"<th>{leading}</th><th>BLEU</th><th>distinct-1</th>" in html and signature in html
    assert f"best validation {leading}" in html and "<th>TER" not in html and "<th>chrF<" not in html
    assert 'class="unit">BLEU<' not in html and "BLEU minus" not in html and f'class="unit">{leading}<' in html


def test_the_cleaning_of_text_to_pre_train_on_is_shown_beside_the_corpus_s(tmp_path):
    path, lines = tmp_path / "train.parquet", {"read": 1000, "too_long": 950, "kept": 50, "cut": 3}
    write_table(path, ENCODED, ENCODED.of_rows([]), provenance={"lines": lines})
    (tmp_path / "config.json").write_text(to_json(config(["teacher"])))
    inputs = read_inputs(Paths(config=tmp_path / "config.json", pretraining=[path]))
    assert summary.warnings(inputs) == [
        ("corpus", "pretraining: cleaning takes 95 % of the lines, most as too_long; see docs/corpus.md")
    ]
    html = page.render(inputs, NO_FIGURES)
    assert "<th>pretraining</th>" in html and '<th scope="row">too_long</th><td>950</td>' in html
    assert "Pretraining: lines of the text" in html


@pytest.mark.slow
def test_lengths_and_references_are_shown(tmp_path):
    arguments = run_on_disk(tmp_path, ["teacher"], sentences=6)
    corpus(tmp_path / "corpus" / "test.flickr.parquet", [["one way", "another way"], *["same"] * 5])
    numbers = {"texts": 1000, "tokens": 25500, "unknown": 51, "longest": 400, "over_length": 23}
    rows = [{"split": split, "side": side, **numbers} for split, side in (("train", "source"), ("distilled", "target"))]
    write_table(tmp_path / "encoding.parquet", ENCODING, pa.Table.from_pylist(rows, schema=ENCODING.schema))
    arguments["encoding"] = [tmp_path / "encoding.parquet"]
    build_report.main(argparse.Namespace(**arguments, output=tmp_path / "report"))
    html = (tmp_path / "report" / "report.html").read_text()
    warned = "<li><code>corpus</code>: distilled: 0.2 % of the target tokens are unknown"
    assert html.count(warned) == html.count("of the target tokens are unknown") == 1
    assert "<td>25.5</td><td>400</td>\n<td>0.200</td><td>23</td><td>2.3</td>" in html
    assert re.search("reference 1</th>.*one way.*reference 2</th>.*another way", html, re.DOTALL)


def test_entries_follow_the_config_and_hold_the_baseline(inputs):
    entries = summary.entries(inputs, "flickr")
    assert [(entry.system, entry.search) for entry in entries] == [
        ("teacher", "beam5"),
        ("teacher", "greedy"),
        *((name, "collapse" if "ctc" in name else "argmax") for name in NAMES[1:]),
    ]
    assert [entry.is_baseline for entry in entries] == [True, *[False] * 5]
    teacher, ctc = entries[0], entries[3]
    assert (teacher.speedup.ratio, teacher.speedup.low, teacher.speedup.high) == (1, 1, 1)
    assert ctc.speedup.low <= ctc.speedup.ratio <= ctc.speedup.high
    assert ctc.speedup.ratio == pytest.approx(0.120 / 0.0112, rel=0.1)
    assert ctc.differences[0][1].seeds == 2 and ctc.data == "distilled" and ctc.objective == "ctc"
    assert ctc.parameters == 4_321_000 and ctc.updates.mean == 6000
    assert ctc.minutes.mean == pytest.approx(21 + 1.5 / 60)


@pytest.mark.slow
def test_a_system_with_baselines_of_its_own_is_compared_with_each(inputs):
    baselines = {"ctc": ["ctc-raw", "teacher/beam5"]}
    special = replace(inputs, config=config(NAMES, (1, 2), evaluation={"baselines": baselines}))
    entries = {entry.system: entry for entry in summary.entries(special, "flickr")}
    shown = {name: [baseline for baseline, _ in entry.differences] for name, entry in entries.items()}
    assert shown["ctc"] == [None, ("ctc-raw", "collapse")], "the common one is first"
    assert shown["vanilla"] == [None]
    html = page.render(special, NO_FIGURES)
    assert html.count(">to ctc-raw collapse</span>") == 1 and ">to teacher beam5</span>" not in html
    rows = [
        row["difference"]
        for row in inputs.comparison
        if (row["system"], row["metric"]) == ("ctc", "BLEU") and row["baseline"].startswith("ctc-raw/")
    ]
    assert len(rows) == 2 and entries["ctc"].differences[1][1].mean == pytest.approx(sum(rows) / 2)
    assert entries["vanilla"].differences == summary.entries(inputs, "flickr")[-1].differences


def test_what_an_objective_counts_is_a_mean_over_its_training(inputs, report):
    means = [seed * 3050 / 1e6 for seed in (1, 2)]
    shares = summary.logged_means(inputs, "train", summary.SHARES)
    assert list(shares) == ["ctc-raw", "ctc"] and list(shares["ctc"]) == ["infeasible"]
    assert shares["ctc"]["infeasible"].mean == pytest.approx(sum(means) / 2)
    rows = list(csv.DictReader((report / "results.csv").open()))
    found = {
        row["seed"]: float(row["value"]) for row in rows if (row["system"], row["metric"]) == ("ctc", "infeasible")
    }
    assert found == pytest.approx({"1": means[0], "2": means[1]})
    html = (report / "report.html").read_text()
    assert "Infeasible: pairs whose target does not fit" in html and "<td>0.46</td>" in html
    assert "Blanks: slots aligned with a blank" not in html, "nothing counted them"


def test_latency_by_hand():
    rows = [
        {"system": "teacher", "seed": 1, "search": "beam", "engine": "torch", "precision": "float32",
         "batch_size": size, "batch": batch, "sentences": size, "source_characters": 100 * size,
         "source_tokens": 15 * size, "target_tokens": 12 * size, "model_seconds": seconds / 2,
         "total_seconds": seconds, "processor_seconds": seconds / 4}
        for size, batch, seconds in [(1, 0, 1.0), (1, 1, 2.0), (1, 2, 4.0), (4, 0, 2.0), (4, 0, 4.0)]
    ]  # fmt: skip
    rows += [{**row, "engine": "onnx", "precision": "int8", "total_seconds": row["total_seconds"] / 2} for row in rows]
    rows += [{**row, "system": "fast", "total_seconds": row["total_seconds"] / 4} for row in rows]
    searches = {"greedy": {"kind": "greedy"}, "beam": {"kind": "beam"}}
    teacher = {"objective": {"name": "autoregressive"}, "searches": searches}
    inputs = Inputs(config(teacher=teacher), latency=rows)
    assert inputs.config.reference == ("teacher", "beam")
    assert timing.rival_key(inputs) == ("teacher", "beam"), "students that the configuration does not name are none"
    slow = timing.engine_latencies(inputs)["teacher", "beam", "torch"]
    assert (slow[1].median, slow[1].batches, slow[1].model_share) == (2.0, 3, pytest.approx(0.5))
    assert (slow[1].repeats, slow[4].batches, slow[4].repeats) == (1, 1, 2)
    assert slow[1].low == pytest.approx(1.1) and slow[1].high == pytest.approx(3.8)
    assert slow[1].highest == pytest.approx(3.96) and slow[1].processor == 0.5
    assert slow[4].throughput == pytest.approx(8 / 6) and slow[4].processor_throughput == pytest.approx(8 / 1.5)
    assert slow[1].output_tokens == slow[4].output_tokens == 12
    assert slow[1].processor_per_million == pytest.approx(1.75 / 300 * 1e6)
    best = timing.latencies(inputs)["teacher", "beam"]
    assert (best[1].engine, best[1].precision, best[1].median) == ("onnx", "int8", 1.0)
    faster = timing.speedups(inputs, ("teacher", "beam"))
    assert faster["fast", "beam", "onnx", 1].ratio == 4, "over the reference's fastest engine"
    assert faster["fast", "beam", "torch", 1].ratio == 2 and faster["teacher", "beam", "torch", 1].ratio == 0.5
    assert faster["fast", "beam", "onnx", 4].batches == 1
    assert timing.best_speedups(inputs, ("teacher", "beam"))["fast", "beam"].ratio == 4
    assert timing.by_length(inputs)["fast", "beam", "torch"] == [None, 0.5, None, None]
    short = replace(inputs, latency=[rows[0] | {"source_tokens": timing.LENGTHS[0]}])
    assert timing.by_length(short)["teacher", "beam", "torch"] == [1, None, None, None], "bounds are longest sources"
    greedy = replace(inputs, latency=[*rows, rows[0] | {"search": "greedy", "total_seconds": 0.1}])
    assert timing.rival_key(greedy) == ("teacher", "greedy"), "the fastest"
    assert timing.speedups(inputs, ("absent", "beam")) == timing.speedups(inputs, None) == {}
    listed = [row | {"engine": row["engine"] + ", shortlist", "total_seconds": row["total_seconds"] / 3}
              for row in rows if row["engine"] == "onnx"]  # fmt: skip
    inputs = Inputs(config(teacher=teacher), latency=rows + listed)
    assert timing.latencies(inputs)["teacher", "beam"][1].engine == "onnx", "its scores are those of the vocabulary"
    faster = timing.speedups(inputs, ("teacher", "beam"))
    assert faster["fast", "beam", "onnx, shortlist", 1].ratio == 4, "over the reference with a shortlist"
    assert faster["fast", "beam", "onnx", 1].ratio == 4
    slow = [row | {"total_seconds": 100.0} for row in rows if (row["system"], row["engine"]) == ("teacher", "onnx")]
    others = [row for row in rows if (row["system"], row["engine"]) != ("teacher", "onnx")]
    faster = timing.speedups(Inputs(config(teacher=teacher), latency=[
        *others, *(row if row["batch_size"] == 4 else row | {"total_seconds": 0.1} for row in slow)
    ]), ("teacher", "beam"))  # fmt: skip
    assert faster["fast", "beam", "onnx", 4].ratio == 8, "over the engine that is fastest at this size: torch"


def test_a_busy_machine_is_known_by_its_clock():
    row = {"system": "teacher", "total_seconds": 3.0, "processor_seconds": 2.0}
    cpu = {"device": {"type": "cpu", "threads": 1}}
    assert timing.busy_ratio(Inputs(config(), latency=[row, row], latency_provenance=cpu)) == 1.5
    for facts in ({}, {"device": {"type": "cuda", "threads": 1}}, {"device": {"type": "cpu", "threads": 4}}):
        assert timing.busy_ratio(Inputs(config(), latency=[row], latency_provenance=facts)) is None
    assert timing.busy_ratio(Inputs(config(), latency_provenance=cpu)) is None


def test_on_a_busy_machine_systems_are_compared_by_the_processor_s_time():
    row = {"system": "teacher", "seed": 1, "search": "beam5", "engine": "torch", "precision": "float32",
           "batch_size": 1, "batch": 0, "sentences": 1, "source_characters": 9, "source_tokens": 3, "target_tokens": 3,
           "model_seconds": 1.0, "total_seconds": 4.0, "processor_seconds": 2.0}  # fmt: skip
    waiting = row | {"engine": "ctranslate2", "total_seconds": 9.0, "processor_seconds": 1.0}
    for threads, engine, median in ((1, "ctranslate2", 1.0), (2, "torch", 4.0)):
        facts = {"device": {"type": "cpu", "threads": threads}}
        inputs = Inputs(config(), latency=[row, waiting], latency_provenance=facts)
        best = timing.latencies(inputs)["teacher", "beam5"][1]
        assert (best.engine, best.median) == (engine, median)
        ratio = timing.speedups(inputs, ("teacher", "beam5"))["teacher", "beam5", "torch", 1].ratio
        assert ratio == (0.5 if threads == 1 else 1)
        assert f"time:{'processor' if threads == 1 else 'clock'}|" in results_csv(inputs)


def test_results_are_by_the_time_and_engine_that_the_page_has():
    """The machine was loaded while all systems took turns, which the times of one seed alone do not show."""
    row = {"batch_size": 1, "batch": 0, "sentences": 1, "source_characters": 9, "source_tokens": 3, "target_tokens": 3,
           "model_seconds": 0.1, "precision": "float32"}  # fmt: skip
    student = row | {"system": "ctc", "seed": 2, "search": "collapse"}
    rows = [
        row | {"system": "teacher", "seed": 1, "search": "beam5", "engine": "torch"}
        | {"total_seconds": 4.0, "processor_seconds": 2.0},
        student | {"engine": "onnx", "total_seconds": 2.1, "processor_seconds": 1.8},
        student | {"engine": "torch", "total_seconds": 2.0, "processor_seconds": 1.95},
    ]  # fmt: skip
    facts = {"device": {"type": "cpu", "threads": 1}}
    inputs = Inputs(config(["teacher", "ctc"]), latency=rows, latency_provenance=facts)
    assert timing.latencies(inputs)["ctc", "collapse"][1].engine == "onnx"
    found = [row for row in csv.DictReader(results_csv(inputs).splitlines()) if row["metric"] == "latency_ms@1"]
    assert [(row["system"], float(row["value"])) for row in found] == [("teacher", 2000.0), ("ctc", 1800.0)]
    assert all("|time:processor|" in row["signature"] for row in found)


def test_an_external_teacher_that_waits_makes_no_machine_busy_and_is_timed_by_the_clock():
    """Its helper may wait for a device or a server, so it has little time on processors."""
    row = {"seed": 1, "batch_size": 1, "batch": 0, "sentences": 1, "source_characters": 9, "source_tokens": 3,
           "target_tokens": 3, "model_seconds": 1.0, "precision": "float32"}  # fmt: skip
    teacher = row | {"system": EXTERNAL, "search": "command", "engine": "command"}
    student = row | {"system": "ctc", "search": "collapse", "engine": "onnx"}
    facts = {"device": {"type": "cpu", "threads": 1}}
    for clock in (1.0, 2.0):
        rows = [
            teacher | {"total_seconds": 50.0, "processor_seconds": 0.5},
            student | {"total_seconds": clock, "processor_seconds": 1.0},
        ]
        inputs = Inputs(config(), latency=rows, latency_provenance=facts)
        assert timing.busy_ratio(inputs) == clock
        faster = timing.speedups(inputs, (EXTERNAL, "command"))
        # on a busy machine the student's time is the processor's
        assert faster["ctc", "collapse", "onnx", 1].ratio == 50 if clock == 1 else len(faster) == 1
        assert timing.latencies(inputs)[EXTERNAL, "command"][1].median == 50
        assert timing.by_length(inputs)[EXTERNAL, "command", "command"][0] == 50
    assert timing.busy_ratio(Inputs(config(), latency=rows[:1], latency_provenance=facts)) is None


@pytest.mark.parametrize(("device", "ratio"), [("cpu", 4), ("auto", 4), ("cuda", None)])
def test_an_external_teacher_of_this_process_is_compared_by_the_processor_s_time(device, ratio):
    section = {"kind": "ctranslate2", "path": "model", "device": device}
    students = {"ctc": {"objective": {"name": "ctc"}, "data": "distilled"}}
    resolved = config(teacher=None, students=students, external_teacher=section)
    row = {"seed": 1, "batch_size": 1, "batch": 0, "sentences": 1, "source_characters": 9, "source_tokens": 3,
           "target_tokens": 3, "model_seconds": 1.0, "precision": "float32"}  # fmt: skip
    times = {"total_seconds": 60.0, "processor_seconds": 4.0}
    rows = [
        row | {"system": EXTERNAL, "search": "ctranslate2", "engine": "ctranslate2"} | times,
        row | {"system": "ctc", "search": "collapse", "engine": "onnx", "total_seconds": 3.0, "processor_seconds": 1.0},
    ]
    facts = {"device": {"type": "cpu", "threads": 1}}
    inputs = Inputs(resolved, latency=rows, latency_provenance=facts)
    found = timing.best_speedups(inputs, resolved.reference).get(("ctc", "collapse"))
    assert (found and found.ratio) == ratio
    assert ("but the clock's of external, which has no speed-ups" in str(doubt(inputs))) == (ratio is None)
    scores = [
        {"system": system, "seed": 1, "search": search, "test_set": "flickr", "metric": "BLEU", "value": 9.0}
        for system, search in ((EXTERNAL, "ctranslate2"), ("ctc", "collapse"))
    ]
    judged = verdict(replace(inputs, scores=scores))
    assert judged and judged.winner and judged.winner.key == ("ctc", "collapse")
    text = "\n".join(lines(judged, "report.html"))
    assert ("4.0x faster: ctc" in text) == (ratio == 4) and "no system is faster" not in text


def test_the_figure_calls_an_external_teacher_so(monkeypatch):
    """It has no objective, and was trained on nothing that is known."""
    labels = []
    monkeypatch.setattr(Axes, "legend", lambda _, handles, **__: labels.extend(each.get_label() for each in handles))
    row = {"seed": 1, "engine": "e", "precision": "p", "batch_size": 1, "batch": 0, "sentences": 1, "target_tokens": 3,
           "source_characters": 9, "source_tokens": 3, "model_seconds": 1.0, "total_seconds": 1.0,
           "processor_seconds": 1.0, "test_set": "t", "metric": "BLEU", "value": 9.0}  # fmt: skip
    rows = [
        row | {"system": EXTERNAL, "search": "command", "data": EXTERNAL},
        row | {"system": "ctc", "search": "collapse", "data": "raw"},
    ]
    figures.quality_latency(Inputs(config(["teacher", "ctc"]), latency=rows, scores=rows), "t")
    assert labels == ["external teacher", "ctc", "raw data", "Pareto front"]


def test_the_figure_of_a_loaded_machine_is_of_processor_times(inputs, monkeypatch):
    labels = []
    monkeypatch.setattr(Axes, "set_xlabel", lambda _, label: labels.append(label))
    busy = [row | {"total_seconds": 3 * row["processor_seconds"]} for row in inputs.latency]
    loaded = replace(inputs, latency=busy, latency_provenance={"device": {"type": "cpu", "threads": 1}})
    for each in (inputs, loaded):
        figures.quality_latency(each, "flickr")
    rest = "at batch size 1, text to text (ms, log scale)"
    assert labels == [f"median latency {rest}", f"median processor time {rest}"]


def test_the_comparison_of_a_loaded_machine_is_by_one_time_and_says_so(inputs):
    timed = [row for row in inputs.latency if row["seed"] == 1]
    busy = [row | {"total_seconds": 3 * row["processor_seconds"]} for row in timed]
    loaded = replace(inputs, latency=busy, latency_provenance={"device": {"type": "cpu", "threads": 1}})
    said = "Latencies and throughputs are by the processor's time"
    assert [said in page.render(each, NO_FIGURES) for each in (inputs, loaded)] == [False, True]
    entry = summary.entries(loaded, "flickr")[0]
    best = entry.best
    assert best.throughput == best.processor_throughput == pytest.approx(3 * best.clock_throughput)
    rows = {(r["system"], r["search"], r["metric"]): r for r in csv.DictReader(results_csv(loaded).splitlines())}
    row = rows[entry.system, entry.search, f"sentences_per_second@{best.batch_size}"]
    assert float(row["value"]) == best.throughput and "|time:processor|" in row["signature"]


def test_what_a_system_takes_besides_the_time_of_its_lines():
    row = {"system": "a", "search": "x", "engine": "onnx", "total_seconds": 1.0, "processor_seconds": 1.0}
    loaded = {"system": "a", "seed": 1, "engine": "onnx", "bytes": 7_500_000, "cold_start_seconds": 0.25,
              "cold_start_processor_seconds": 0.125, "peak_bytes": 70_000_000}  # fmt: skip
    facts = {"device": {"type": "cpu", "threads": 1}, "loaded": [loaded]}
    inputs = Inputs(config(), latency=[row, row | {"engine": "torch"}], latency_provenance=facts)
    nothing = timing.Footprint(None, None, None)
    both = {("a", "x", "onnx"): timing.Footprint(7.5, 250, 70), ("a", "x", "torch"): nothing}
    assert timing.engine_footprints(inputs) == both
    busy = Inputs(config(), latency=[row | {"processor_seconds": 0.5}], latency_provenance=facts)
    assert timing.engine_footprints(busy) == {("a", "x", "onnx"): timing.Footprint(7.5, 125, 70)}


def test_a_search_with_a_table_of_n_grams_has_a_size_of_its_own(inputs):
    shared = {"system": "teacher", "engine": "ctranslate2", "bytes": 3_000_000}
    facts = [shared | {"search": "greedy", "bytes": 9_500_000}, shared | {"search": None}]
    both = replace(inputs, latency_provenance={**inputs.latency_provenance, "loaded": facts})
    shown = {e.search: e.footprint.megabytes for e in summary.entries(both, "flickr") if e.system == "teacher"}
    assert shown == {"beam5": 3.0, "greedy": 9.5}
    swept = re.findall(r'<td rowspan="3">(\d.*?)<span', page.render(both, NO_FIGURES))
    assert swept == ["3.0", "9.5"]


def test_the_speedups_interval_spans_its_spread():
    found = timing.speedup([1.0, 2.0, 3.0, 3.0, 4.0, 5.0], [1.0] * 6)
    assert found.ratio == 3
    assert 1 <= found.low < 3 < found.high <= 5
    assert page.speedup_text(found).startswith('3.00\N{MULTIPLICATION SIGN} <span class="range">')
    # the median of nine draws is at most the second of nine with a probability of 3.1 %
    ninth = timing.speedup([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], [1.0] * 9)
    assert (ninth.low, ninth.high) == (2, 8), "95 %"


def test_the_page_says_which_seed_was_timed(inputs):
    assert page.render(inputs, NO_FIGURES).count(", of the first seed") == 3


def test_what_an_engine_cannot_run_is_below_the_sweep_with_its_reason(inputs):
    facts = [
        {"system": system, "seed": 1, "search": "x", "engine": "ctranslate2", "reason": "it <cannot>"}
        for system in ("ctc", "dag")
    ]
    omitted = replace(inputs, latency_provenance={**inputs.latency_provenance, "omitted": facts})
    line = "<li>in ctranslate2, since it &lt;cannot&gt;: ctc x, dag x</li>"
    assert line in page.render(omitted, NO_FIGURES)
    assert "Not timed" not in page.render(inputs, NO_FIGURES)


def test_systems_with_the_same_output_share_a_line(inputs):
    outputs = {"teacher": "same", "ctc": "other", "dag": "same", "silent": ""}
    sample = Sample(id=1, source="s", references=["r"], outputs=outputs)
    groups = [(["teacher", "dag"], "same"), (["ctc"], "other"), (["silent"], ""), (["late"], None)]
    assert sample.alike([*outputs, "late"]) == groups
    runs = dict.fromkeys([*outputs, "late"], next(iter(inputs.sampled.values())))
    html = page.render(replace(inputs, samples=[sample], sampled=runs), NO_FIGURES)
    assert '<th scope="row">teacher, dag</th><td class="prose">same</td>' in html
    assert '<th scope="row">silent</th><td class="prose"><span class="missing">(empty)' in html


def test_few_batches_give_no_interval(inputs):
    """That of five lies within their extremes, which enclose the true median 15 times of 16."""
    found = timing.speedup([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    assert (found.ratio, found.batches, str(found.low), str(found.high)) == (3, 5, "nan", "nan")
    assert page.speedup_text(found) == "3.00\N{MULTIPLICATION SIGN}"
    html = page.render(inputs, NO_FIGURES)
    assert '<td>1<span class="range">60 \N{MULTIPLICATION SIGN} 1</span></td>' in html and "\N{EN DASH} to" not in html


def test_the_best_batch_size_has_the_most_sentences_per_second(inputs):
    slow = [
        row | {"total_seconds": row["total_seconds"] * (9 if row["batch_size"] == 64 else 1)} for row in inputs.latency
    ]
    assert {entry.best.batch_size for entry in summary.entries(replace(inputs, latency=slow), "flickr")} == {8}


def test_processor_times_of_the_results_are_the_processor_s(inputs):
    rows = [row for row in csv.DictReader(io.StringIO(results_csv(inputs))) if row["metric"] == "processor_ms@1"]
    (row,) = [row for row in rows if (row["system"], row["seed"]) == ("ctc", "1")]
    latency = timing.engine_latencies(inputs, 1)["ctc", "collapse", "onnx"][1]
    assert float(row["value"]) == latency.processor * 1000 != latency.clock * 1000


def test_outputs_are_short_that_lose_more_than_three_hundredths_of_their_bleu():
    names = {"system": "teacher", "seed": 1, "test_set": "flickr", "metric": summary.BREVITY}
    scores = [names | {"search": "beam5", "value": 0.98}, names | {"search": "greedy", "value": 0.96}]
    assert summary.short_outputs(Inputs(config(), scores=scores)) == ["teacher greedy 0.960"]


def test_the_sampled_test_set_comes_first():
    scores = [{"test_set": "flickr"}, {"test_set": "coco"}]
    assert summary.test_sets(Inputs(config(), scores=scores, samples_of="coco")) == ["coco", "flickr"]


def test_a_mean_over_a_log_is_of_one_split():
    log = [{"split": split, "metric": "loss", "value": value} for split, value in (("train", 1.0), ("valid", 3.0))]
    assert (
        summary.logged_means(Inputs(config(), logs={Run("teacher", 1): log}), "train", ["loss"])["teacher"]["loss"].mean
        == 1
    )


def test_a_difference_is_significant_below_five_hundredths():
    row = {"system": "ctc", "seed": 1, "search": "collapse", "test_set": "flickr", "baseline": "teacher/seed1/beam5",
           "metric": "BLEU", "difference": -1.0, "difference_low": -2.0, "difference_high": 0.0}  # fmt: skip
    for p_value, count in ((0.05, 0), (0.049, 1)):
        inputs = Inputs(config(), comparison=[row | {"p_value": p_value}])
        assert summary.difference(inputs, ("ctc", "collapse"), "flickr", [row["baseline"]]).lower == count


def test_the_pareto_front_has_no_beaten_point():
    points = [(10, 20.0), (5, 15.0), (5, 16.0), (20, 20.0), (7, 14.0), (30, 25.0)]
    assert summary.pareto(points) == [2, 0, 5]
    assert summary.pareto([(1, 1.0)]) == [0]
    assert summary.pareto(points, sign=-1) == [1, 4], "lower is better"


def compared(seed, baseline, value, p_value):
    """A row of the comparison table."""
    row = {"system": "a", "seed": seed, "search": "s", "test_set": "t", "metric": "BLEU", "baseline": baseline}
    return row | {"difference": value, "difference_low": value - 1, "difference_high": value + 1, "p_value": p_value}


def test_differences_over_seeds_cover_every_interval():
    rows = [compared(1, "b/seed1/s", 1.0, 0.2), compared(2, "b/seed1/s", 2.0, 0.01), compared(1, "c/seed1/s", 9.0, 0.0)]
    found = summary.difference(Inputs(config(), comparison=rows), ("a", "s"), "t", ["b/seed1/s"])
    assert found == summary.Difference(1.5, 0.0, 3.0, lower=0, higher=1, seeds=2)
    assert summary.difference(Inputs(config(), comparison=rows), ("a", "s"), "t", ["none"]) is None


def test_each_seed_is_compared_with_the_same_one_where_that_is_there():
    """The common baseline is one seed of a system, and all seeds are compared with it, too."""
    rows = [
        *(compared(1, "b/seed1/s", 1.0, 0.01), compared(2, "b/seed1/s", 9.0, 0.01)),
        *(compared(2, "b/seed2/s", -3.0, 0.01), compared(3, "b/seed1/s", 5.0, 0.2)),
    ]
    found = summary.difference(Inputs(config(), comparison=rows), ("a", "s"), "t", ["b/seed1/s", "b/seed2/s"])
    assert found == summary.Difference(1.0, -4.0, 6.0, lower=1, higher=1, seeds=3)
    assert found.significant == 1, "one seed in either direction"


def test_pairs_differ_in_their_data_only():
    ctc = {"objective": {"name": "ctc"}, "data": "raw", "model": {"d_model": 8}}
    students = {
        "ctc-raw": ctc,
        "ctc": {**ctc, "data": "distilled", "seeds": [1]},
        "wide": {**ctc, "data": "distilled", "model": {"d_model": 16}},
    }
    assert data_pairs(config(students=students).systems) == [("ctc-raw", "ctc")]


def test_a_gap_of_distilled_data_and_its_interval_are_of_the_same_seeds(inputs):
    (before,) = [gap for gap in summary.gaps(inputs, "flickr") if gap.distilled == "ctc"]
    # a raw system that failed with a seed that the distilled one does not have
    raw = [row for row in inputs.scores if (row["system"], row["seed"]) == ("ctc-raw", 1)]
    failed = [{**row, "seed": 3, "value": 0.0} for row in raw]
    more = replace(inputs, scores=[*inputs.scores, *failed])
    (gap,) = [gap for gap in summary.gaps(more, "flickr") if gap.distilled == "ctc"]
    assert gap.scores_raw["BLEU"].mean < before.scores_raw["BLEU"].mean
    assert gap.gap == gap.difference.mean == pytest.approx(before.gap)
    assert gap.difference.low <= gap.gap <= gap.difference.high
    (untested,) = [gap for gap in summary.gaps(replace(more, comparison=[]), "flickr") if gap.distilled == "ctc"]
    assert untested.gap == untested.scores_distilled["BLEU"].mean - untested.scores_raw["BLEU"].mean


def test_a_seed_is_compared_with_the_same_seed_of_the_baseline_where_that_was_done(inputs):
    (common,) = [row for row in inputs.comparison if (row["system"], row["seed"], row["metric"]) == ("ctc", 2, "BLEU")
                 and row["baseline"] == inputs.baseline]  # fmt: skip
    same = {**common, "baseline": "teacher/seed2/beam5", "difference": common["difference"] + 10}
    after = replace(inputs, comparison=[*inputs.comparison, same])
    means = [
        [entry.differences[0][1].mean for entry in summary.entries(each, "flickr") if entry.system == "ctc"]
        for each in (inputs, after)
    ]
    assert means[1] == pytest.approx([means[0][0] + 5])


def test_each_search_is_compared_with_the_same_search_of_the_baselines_that_have_it():
    searches = {"ar": ["greedy", "beam5"], "cmlm": ["passes1"], "joint": ["beam5", "passes1"]}.get
    several = ["ar", "cmlm", "joint"]
    assert counterparts("beam5", several, searches) == [("ar", "beam5"), ("joint", "beam5")]
    assert counterparts("passes1", several, searches) == [("cmlm", "passes1"), ("joint", "passes1")]
    assert counterparts("argmax", several, searches) == counterparts("argmax", "ar", searches) == [("ar", "greedy")]
    assert counterparts("passes1", ["ar", "cmlm", "ar/beam5"], searches) == [("cmlm", "passes1"), ("ar", "beam5")]
    assert counterparts("greedy", "joint/passes1", searches) == [("joint", "passes1")]


def test_results_hold_every_number_once(inputs):
    rows = list(csv.DictReader(results_csv(inputs).splitlines()))
    keys = [tuple(row[column] for column in COLUMNS[:6]) for row in rows]
    assert len(set(keys)) == len(keys)
    by_key = dict(zip(keys, rows, strict=True))
    score = next(row for row in inputs.scores if row["system"] == "ctc" and row["metric"] == "BLEU")
    found = by_key["ctc", "distilled", str(score["seed"]), "flickr", "collapse", "BLEU"]
    assert float(found["value"]) == score["value"] and found["signature"] == score["signature"]
    assert ("ctc", "distilled", "1", "flickr", "collapse", "latency_ms@1") in by_key
    assert ("ctc", "distilled", "2", "flickr", "collapse", "sentences_per_second@64") in by_key
    assert by_key["ctc", "distilled", "2", "", "", "parameters"]["value"] == "4321000"


def test_every_comparison_is_in_the_table_of_differences(inputs):
    rows = list(csv.DictReader(differences_csv(inputs).splitlines()))
    assert len(rows) == len(inputs.comparison) and {row["metric"] for row in rows} == {"BLEU", "chrF", "TER"}
    (wanted,) = [row for row in inputs.comparison if (row["system"], row["seed"], row["metric"]) == ("ctc", 2, "chrF")
                 and row["baseline"] == "ctc-raw/seed2/collapse"]  # fmt: skip
    assert {column: str(value) for column, value in wanted.items()} in rows


def test_samples_take_the_first_search_and_seed(inputs):
    assert [sample.id for sample in inputs.samples] == [0, 8, 16, 24, 32]
    assert inputs.samples[0].references == [EVIL]
    assert inputs.sampled["teacher"] == Run("teacher", 1, "beam5")
    assert set(inputs.samples[0].outputs) == set(NAMES)


def test_samples_are_of_the_first_configured_test_set(tmp_path, arguments):
    shutil.copytree(arguments["corpus"], tmp_path / "corpus")
    corpus(tmp_path / "corpus" / "test.coco.parquet", ["a b"])
    assert read_inputs(replace(paths(arguments), corpus=tmp_path / "corpus", translations=())).samples_of == "flickr"


def test_only_the_best_outputs_are_shown(tmp_path):
    table = translations(tmp_path / "ctc/seed1/collapse.parquet", ["best", "second"], ids=[3, 3], ranks=[0, 1])
    assert best_outputs(table, "test")["text"].to_pylist() == ["best"]


def test_sample_ids_are_spread_evenly():
    assert sample_ids([5, 6, 7, 8, 9, 10], 3) == [5, 7, 9]
    assert sample_ids([5, 6], 9) == [5, 6]


def test_stages_sum_benchmark_files(tmp_path, arguments):
    stages = read_stages(arguments["benchmarks"])
    assert [(stage.rule, stage.jobs, stage.seconds) for stage in stages] == [
        ("train_student", 2, 2550.5),
        ("translate", 2, 18.0),
        ("prepare_corpus", 1, 3.25),
    ]
    assert stages[0].longest_seconds == 1300 and stages[0].largest_megabytes == 901.5
    (tmp_path / "score").mkdir()
    (tmp_path / "score" / "x.tsv").write_text("what\n1\n")
    with pytest.raises(RetortError, match=r"x.tsv: not a Snakemake benchmark file"):
        read_stages(tmp_path)


def test_checkpoints_are_named_by_their_place_or_by_hand():
    assert named_directory("results/systems/ctc/seed3") == (Run("ctc", 3), Path("results/systems/ctc/seed3"))
    assert named_directory("ctc/seed3=/models/a=b") == (Run("ctc", 3), Path("/models/a=b"))
    with pytest.raises(RetortError, match="cannot tell which system"):
        named_directory("/models/ctc")


def test_broken_inputs_are_named(tmp_path, arguments):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RetortError, match=r"config.json: not valid JSON"):
        read_inputs(Paths(config=tmp_path / "config.json"))
    with pytest.raises(RetortError, match=r"missing.json: cannot be read"):
        read_inputs(Paths(config=tmp_path / "missing.json"))
    with pytest.raises(RetortError, match="expected scores version"):
        read_inputs(Paths(config=arguments["config"], scores=[arguments["latency"]]))


def test_numbers_are_set_for_reading():
    assert page.number(-1234.567) == "\N{MINUS SIGN}1\N{THIN SPACE}234.57"
    assert page.number(None) == page.number(float("nan")) == "\N{EN DASH}"
    assert (page.signed(0.5), page.signed(-0.5), page.signed(0.0)) == ("+0.50", "\N{MINUS SIGN}0.50", "0.00")
    assert page.signed(-0.001) == "0.00"
    assert (page.duration(3.21), page.duration(75), page.duration(7320)) == ("3.2 s", "1 min 15 s", "2 h 02 min")
    assert page.flatten({"a": {"b": 1.23456789, "c": [1, 2]}, "d": "x"}) == [
        ("a / b", "1.23457"),
        ("a / c", "[1, 2]"),
        ("d", "x"),
    ]


def test_repeated_words_are_marked_and_escaped():
    assert page.repeated_words("a a <b> <b>") == "a <mark>a</mark> &lt;b&gt; <mark>&lt;b&gt;</mark>"


DOT = """digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
    node[shape=box, style=rounded, fontname=sans,                 fontsize=10, penwidth=2];
    edge[penwidth=2, color=grey];
\t0[label = "all", color = "0.17 0.6 0.85", style="rounded"];
\t1[label = "score", color = "0.50 0.6 0.85", style="rounded"];
\t2[label = "corpus", color = "0.00 0.6 0.85", style="rounded"];
\t1 -> 0
\t2 -> 1
\t2 -> 0
%s}"""


def test_the_rule_graph_is_read():
    graph = dag.parse(DOT % "")
    assert graph == {"all": ["score", "corpus"], "score": ["corpus"], "corpus": []}
    assert dag.reduced(graph) == {"all": ["score"], "score": ["corpus"], "corpus": []}
    # a training that starts from another one
    assert dag.parse(DOT % "\t1 -> 1\n") == graph


@pytest.mark.parametrize(("text", "message"), [("", "holds no rule"), (DOT % "\t0 -> 2\n", "a circle among")])
def test_bad_rule_graphs_are_refused(text, message):
    with pytest.raises(RetortError, match=message):
        dag.svg(dag.parse(text))


def test_the_drawing_holds_every_rule_without_overlaps():
    graph = RULES | {"<evil>&": []}
    drawing = ElementTree.fromstring(dag.svg(graph))
    name = "{http://www.w3.org/2000/svg}"
    assert {text.text for text in drawing.iter(f"{name}text")} == set(graph)
    boxes = [{key: float(box.get(key)) for key in ("x", "y", "width")} for box in drawing.iter(f"{name}rect")]
    for index, one in enumerate(boxes):
        assert one["x"] >= 0 and one["x"] + one["width"] <= float(drawing.get("width"))
        for two in boxes[index + 1 :]:
            beside = one["x"] + one["width"] <= two["x"] or two["x"] + two["width"] <= one["x"]
            assert one["y"] != two["y"] or beside


NO_FIGURES = dict.fromkeys(("quality_latency", "training_curves", "em_iterations", "lengths"))


def test_the_report_begins_with_warnings_of_cleaning_trainings_and_ncm():
    checkpoint = Checkpoint(description={}, warnings=["12 % are <pairs>"])
    inputs = Inputs(config(["teacher", "ctc"]), checkpoints={Run("ctc", 1): checkpoint})
    inputs.cleaning = [
        {"split": "train", "reason": reason, "pairs": pairs}
        for reason, pairs in (("read", 100), ("kept", 80), ("ratio", 15), ("empty", 5))
    ]
    inputs.multimodality = [
        {"system": "ctc", "data": "raw", "seed": 1, "sentences": 0, "infeasible": 7, "tokens": 0, "nats": 0.0}
    ]
    inputs.gathered = {"distilled/encoded.parquet": {"pairs": 1000, "truncated": 90, "empty": 10, "kept": 900}}
    html = page.render(inputs, NO_FIGURES)
    for text in (
        "12 % are &lt;pairs&gt;",
        "train: cleaning takes 20 % of the pairs, most as ratio",
        "no NCM: none of 7",
        "distilled/encoded.parquet: 10 % of 1,000 outputs train nothing (90 cut, 10 empty); train",
    ):
        assert html.index(text) < html.index("<section")
    row = '<th scope="row">distilled/encoded.parquet</th><td>1\N{THIN SPACE}000</td><td>90</td><td>10</td><td>0</td>'
    assert f"{row}<td>900</td>" in html[html.index('id="corpus"') :]
    assert 'id="warnings"' not in page.render(Inputs(config(["teacher", "ctc"])), NO_FIGURES)
