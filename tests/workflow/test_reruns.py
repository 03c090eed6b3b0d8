"""One real run: what it shows on a terminal, what it wrote, and what runs again after a change: what depends on it, and
nothing else."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from retort.data.parquet import read_table
from retort.data.tables import ENCODING, SCORES
from tests.workflow.checkouts import TINY, Checkout, copy_checkout, training_rule

pytestmark = pytest.mark.workflow

REPORT = {"build_report"}
CONFIG = {"write_config", "draw_rules"}
TEACHER, VANILLA, CTC = "teacher/1", "vanilla-raw/1", "ctc-distilled/1"
SEARCH = {TEACHER: "greedy", VANILLA: "argmax", CTC: "collapse"}
MEASURED = (VANILLA,)  # for its multi-modality
TERMINAL = "terminal.txt"
"""What the finished run wrote on its terminal."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout where ``retort run`` has run the tiny configuration to its end, at a path that needs quoting."""
    result = copy_checkout(tmp_path_factory.mktemp("workflow") / "it's a $(run)")
    flags = ("--cores", "2", "--set-scatter", "distill=2")
    status, written = result.terminal("run", result.configure(TINY, "tiny.yaml"), *flags)
    assert status == 0, written
    (result.path / TERMINAL).write_text(written)
    return result


def from_training(*runs: str) -> set[str]:
    """The jobs that follow from training these runs again."""
    measures = {f"measure_multimodality {run}" for run in runs if run in MEASURED}
    return {f"{training_rule(run)} {run}" for run in runs} | from_translating(*runs) | {"measure_latency"} | measures


def from_translating(*runs: str) -> set[str]:
    jobs = {f"{rule} {run}/{SEARCH[run]}" for run in runs for rule in ("translate", "score")}
    return jobs | {"compare_systems"} | REPORT


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    config = copy.deepcopy(TINY)
    change(config)
    return config


def test_the_run_wrote_its_results_and_left_no_state(finished: Checkout) -> None:
    run = finished.path / "results/tiny"
    for name in ("report.html", "verdict.txt", "quality_latency.png", "training_curves.png", "results.csv"):
        assert (run / "report" / name).stat().st_size > 0
    assert json.loads((run / "config.json").read_text())["report"]["title"] == TINY["report"]["title"]
    assert (run / "logs/train_student/ctc-distilled/seed1.log").is_file()
    assert (run / "benchmarks/train_student/ctc-distilled/seed1.tsv").is_file()
    assert not [path for path in (run / "state").rglob("*") if path.is_file()]
    assert not list(finished.path.rglob("executed"))


def test_a_terminal_shows_the_run_and_then_its_verdict(finished: Checkout) -> None:
    written = (finished.path / TERMINAL).read_text()
    assert re.search(r"tiny \[[#-]+\] \d+ %, \d+ of \d+ jobs, about \d+ (s|min) left$", written, re.MULTILINE)
    assert re.search(r"^  Train teacher, seed 1: .*about \d+ (s|min) left$", written, re.MULTILINE)
    verdict = (finished.path / "results/tiny/report/verdict.txt").read_text()
    assert written.rstrip().endswith(verdict.rstrip()) and "report: results/tiny/report/report.html" in verdict


def test_status_says_that_the_run_is_finished(finished: Checkout) -> None:
    status, written = finished.terminal("status")
    assert status == 0 and "\nfinished; started " in written.replace("\r", "")


def test_the_command_of_the_verdict_translates(finished: Checkout) -> None:
    verdict = (finished.path / "results/tiny/report/verdict.txt").read_text().splitlines()
    _, *words = next(shlex.split(line) for line in verdict if " translate --model results/" in line)
    (finished.path / "in.txt").write_text("fal lomel\nder pikat podon\n")
    status, written = finished.terminal(*words[: words.index("--input")], "--input", "in.txt")
    assert status == 0 and written.count("\n") >= 2, written


def test_nothing_runs_twice(finished: Checkout) -> None:
    assert "Nothing to be done" in finished.snakemake("--dry-run", "--configfile", "tiny.yaml")


def test_results_that_moved_with_their_records_run_nothing_again(finished: Checkout, tmp_path: Path) -> None:
    moved = Checkout(tmp_path / "one/deeper")
    for name in (".snakemake", "results"):
        shutil.copytree(finished.path / name, moved.path / name)
    snakefile = os.path.relpath(finished.path / "Snakefile", moved.path)
    assert "Nothing to be done" in moved.snakemake(
        "--dry-run", "--snakefile", snakefile, "--configfile", moved.configure(TINY)
    )


def test_run_time_knobs_re_run_nothing(finished: Checkout) -> None:
    knobs = ("--set-threads", "train_student=2", "translate=2", "--set-resources", "train_student:gpu=1")
    assert finished.planned(TINY, *knobs) == set()


def test_the_written_configuration_repeats_the_run(finished: Checkout) -> None:
    output = finished.snakemake("--dry-run", "--configfile", "results/tiny/config.json")
    assert "Nothing to be done" in output


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], set[str]]] = {
    "latency": (lambda c: c["latency"].update(repeats=2), {"measure_latency"} | REPORT | CONFIG),
    "title": (lambda c: c["report"].update(title="New"), REPORT | CONFIG),
    "bootstrap": (lambda c: c["evaluation"].update(bootstrap_samples=30), {"compare_systems"} | REPORT | CONFIG),
    "one more metric": (
        lambda c: c["evaluation"].update(metrics=["BLEU", "chrF", "TER", "BLEU-lc"]),
        {f"score {run}/{search}" for run, search in SEARCH.items()} | {"compare_systems"} | REPORT | CONFIG,
    ),
    "minutes between saves of a training": (lambda c: c["training"].update(checkpoint_minutes=9), REPORT | CONFIG),
    "how much of a text may train nothing": (lambda c: c["training"].update(max_untrained=0.99), REPORT | CONFIG),
    "one student's training": (
        lambda c: c["students"]["vanilla-raw"].update(training={"learning_rate": 0.5}),
        from_training(VANILLA) | CONFIG,
    ),
    "one more search": (
        lambda c: c["teacher"]["searches"].update(beam2={"kind": "beam", "beam_size": 2}),
        {"translate teacher/1/beam2", "score teacher/1/beam2", "compare_systems", "measure_latency"} | REPORT | CONFIG,
    ),
    "one student less": (
        lambda c: c["students"].pop("vanilla-raw"),
        {"compare_systems", "measure_latency"} | REPORT | CONFIG,
    ),
    "one more seed": (
        lambda c: c.update(seeds=[1, 2]),
        {
            f"{rule} {run.replace('/1', '/2')}{end}"
            for run, search in SEARCH.items()
            for rule, end in ((training_rule(run), ""), ("translate", f"/{search}"), ("score", f"/{search}"))
        }
        | {"compare_systems", "measure_multimodality vanilla-raw/2"}
        | REPORT
        | CONFIG,
    ),
    "the distilling search": (
        lambda c: c["distillation"]["search"].update(max_ratio=1.5),
        {"decode_shard 1-of-2", "decode_shard 2-of-2", "gather_distilled"} | from_training(CTC) | CONFIG,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_key_re_runs_what_depends_on_it(finished: Checkout, name: str) -> None:
    change, expected = CHANGES[name]
    assert finished.planned(changed(change)) == expected


DISTILLED = {"decode_shard 1-of-2", "decode_shard 2-of-2", "gather_distilled"}
EDITS: dict[str, tuple[str, set[str]]] = {
    "retort/models/parallel.py": ("EDITED = 1", from_training(VANILLA, CTC)),
    "retort/models/autoregressive.py": ("EDITED = 1", DISTILLED | from_training(TEACHER, CTC)),
    "retort/models/bang.py": ("EDITED = 1", set()),
    "retort/corpus/language/grammar.py": (
        "EDITED = 1",
        {"prepare_corpus", "train_vocabulary", "encode_corpus"} | DISTILLED | from_training(TEACHER, VANILLA, CTC),
    ),
    "retort/objectives/ctc.py": ("EDITED = 1", from_training(CTC)),
    "retort/objectives/vanilla.py": ("EDITED = 1", from_training(VANILLA)),
    "retort/losses/ctc_alignments.py": ("EDITED = 1", from_training(CTC)),
    "retort/losses/axe_alignment.py": ("EDITED = 1", set()),
    "retort/search/ctc_collapse.py": ("EDITED = 1", from_training(CTC)),
    "retort/objectives/autoregressive.py": (
        "EDITED = 1",
        DISTILLED | from_training(TEACHER, CTC),
    ),
    "retort/search/mask_predict.py": ("EDITED = 1", set()),
    "retort/models/recurrent.py": ("EDITED = 1", set()),
    "retort/corpus/fairytaleqa.py": ("EDITED = 1", set()),
    "retort/report/page.py": ("EDITED = 1", REPORT),
    "workflow_scripts/score.py": (
        "EDITED = 1",
        {f"score {run}/{search}" for run, search in SEARCH.items()} | REPORT,
    ),
    "retort/objectives/vanilla.py, a comment": ("# A comment.", set()),
    "workflow_scripts/train_system.py, a comment": ("# A comment.", set()),
}


@contextmanager
def edited(checkout: Checkout, name: str, text: str = "EDITED = 1") -> Iterator[None]:
    """One more line in a file of the checkout."""
    path = checkout.path / name
    before = path.read_text()
    path.write_text(f"{before}\n{text}\n")
    try:
        yield
    finally:
        path.write_text(before)


@pytest.mark.parametrize("name", EDITS)
def test_edited_code_re_runs_what_uses_it(finished: Checkout, name: str) -> None:
    text, expected = EDITS[name]
    with edited(finished, name.partition(",")[0], text):
        assert finished.planned(TINY) == expected


SCORED = "results/tiny/scores/ctc-distilled/seed1/collapse.parquet"


def test_why_names_the_edited_module(finished: Checkout) -> None:
    assert finished.why(SCORED) == f"{SCORED}: up to date\n"
    with edited(finished, "retort/models/parallel.py"):
        answer = finished.why(SCORED)
        assert answer.startswith(f"{SCORED}: score would run again\n  inputs are made again: ")
        trained = "results/tiny/systems/ctc-distilled/seed1/model.safetensors"
        assert answer.endswith(f"  retort/models/parallel.py changed: {trained} and 1 more\n")
        assert (
            finished.why(trained) == f"{trained}: train_student would run again\n  retort/models/parallel.py changed\n"
        )
    with edited(finished, "retort/models/bang.py"):
        assert finished.why("results/tiny/report/report.html") == "results/tiny/report/report.html: up to date\n"


def test_why_names_the_changed_key(finished: Checkout) -> None:
    trained = "results/tiny/systems/ctc-distilled/seed1/model.json"

    def change(config: dict[str, Any]) -> None:
        config["students"]["ctc-distilled"]["training"] = {"learning_rate": 0.5}
        config["evaluation"]["batch_tokens"] = 999

    name = finished.configure(changed(change), "changed.yaml")
    answer = json.loads(finished.why(trained, "--json", "--configfile", name))
    assert answer["again"] and answer["job"]["rule"] == "train_student" and answer["causes"] == []
    assert [change["text"] for change in answer["job"]["changes"]] == [
        "students.ctc-distilled.training.learning_rate: 0.02 -> 0.5"
    ]
    lines = finished.why("results/tiny/report/report.html", "--configfile", name).splitlines()
    at = lines.index("what changed for its inputs, and what that makes again:")
    assert sorted(line.partition(": results")[0] for line in lines[at + 1 :]) == [
        "  evaluation.batch_tokens: 4096 -> 999",
        "  students.ctc-distilled.training.learning_rate: 0.02 -> 0.5",
    ]


def test_why_admits_what_it_cannot_know(finished: Checkout) -> None:
    run = finished.path / "results/tiny"
    (run / "code").rename(run / "code.away")
    (run / "call.json").rename(run / "call.away")
    try:
        with edited(finished, "retort/objectives/ctc.py"):
            answer = finished.why("results/tiny/systems/ctc-distilled/seed1/model.safetensors")
    finally:
        (run / "code.away").rename(run / "code")
        (run / "call.away").rename(run / "call.json")
    assert "in which file is not known" in answer and "name its configuration with --configfile" in answer


def test_results_without_records_of_their_making_say_so(finished: Checkout) -> None:
    said = "results/tiny: nothing is recorded here of how it was made"
    assert said not in finished.snakemake("--dry-run", "--configfile", "tiny.yaml")
    records = finished.path / ".snakemake/metadata"
    records.rename(finished.path / "away")
    try:
        assert said in finished.snakemake("--configfile", "tiny.yaml")
    finally:
        shutil.rmtree(records)
        (finished.path / "away").rename(records)


def test_progress_is_that_of_the_jobs_up_to_a_rule(checkout: Checkout) -> None:
    config = checkout.configure({**TINY, "name": "partial"}, "partial.yaml")
    checkout.snakemake("--until", "prepare_corpus", "--configfile", config)
    progress = json.loads((checkout.path / "results/partial/progress.json").read_text())
    assert [job["rule"] for job in progress["jobs"]] == ["prepare_corpus"]


def test_a_report_of_an_earlier_configuration_is_warned_of(finished: Checkout) -> None:
    name = finished.configure(changed(lambda c: c["report"].update(title="New")), "changed.yaml")
    report = ("--rerun-triggers", "mtime", "--forcerun", "build_report", "--configfile")
    assert "results/tiny/config.json is of an earlier configuration" in finished.snakemake(*report, name)
    assert "of an earlier configuration" not in finished.snakemake(*report, "tiny.yaml")


def test_a_finished_run_names_the_states_that_it_no_longer_needs(finished: Checkout) -> None:
    weights = finished.path / "results/tiny/state/train_system/old/weights"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"w" * 2_000_000)
    try:
        forced = ("--rerun-triggers", "mtime", "--forcerun", "build_report", "--configfile", "tiny.yaml")
        output = finished.snakemake(*forced)
        assert weights.exists()
    finally:
        shutil.rmtree(weights.parent)
    assert "results/tiny/state/train_system/old (2.0 MB)" in output and "rm -r results/tiny/state\n" in output


def test_texts_with_several_references_reach_the_report_and_re_run_what_comes_after_them(checkout: Checkout) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    lines = [f"{letters[i % 26]}{letters[i % 7]} {letters[i % 11 :]} {letters[: i % 13]}." for i in range(90)]
    for split in ("train", "valid", "test"):
        (checkout.path / f"{split}.source").write_text("".join(f"{split} {line}\n" for line in lines))
        targets = [f"{split[0]} {line.split()[0]}" for line in lines]
        (checkout.path / f"{split}.target").write_text("".join(f"{text}\n" for text in targets))
        (checkout.path / f"{split}.several").write_text("".join(f"{text}\tor {text[::-1]}\n" for text in targets))
    config = {
        **TINY,
        "name": "texts",
        "corpus": {
            "kind": "text",
            "train": {side: [{"location": f"train.{side}"}] for side in ("source", "target")},
            "valid": {"source": [{"location": "valid.source"}], "references": [{"location": "valid.several"}]},
            "tests": {"t": {"source": [{"location": "test.source"}], "references": [{"location": "test.several"}]}},
        },
        "cleaning": {"max_words": None, "max_ratio": None, "drop_leaks": False},
        "vocabulary": {"size": 50},
        "model": {**TINY["model"], "max_length": 24, "truncate_sources": True},
        "teacher": {**TINY["teacher"], "training": {"max_updates": 20}},
        "students": {},
        "evaluation": {"metrics": ["ROUGE-L", "BLEU", "distinct-1"], "bootstrap_samples": 20},
    }
    checkout.snakemake("--configfile", checkout.configure(config, "texts.yaml"))
    run = checkout.path / "results/texts"
    scores = {row["metric"]: row for row in read_table(run / "scores/teacher/seed1/greedy.parquet", SCORES).to_pylist()}
    assert list(scores)[:3] == ["ROUGE-L", "BLEU", "distinct-1"]
    assert scores["ROUGE-L"]["signature"].startswith("nrefs:2|refs:best") and "nrefs:2" in scores["BLEU"]["signature"]
    assert json.loads((run / "systems/teacher/seed1/model.json").read_text())["training"]["select_by"] == "ROUGE-L"
    lengths = read_table(run / "encoded/encoding.parquet", ENCODING).to_pylist()
    assert {row["split"] for row in lengths if row["over_length"]} == {"train", "valid", "t"}
    html = (run / "report/report.html").read_text()
    assert "<th>ROUGE-L</th><th>BLEU</th><th>distinct-1</th>" in html and "reference 2</th>" in html
    assert "model.truncate_sources)" in html
    assert checkout.planned(config) == set()
    for name in ("grammar", "generated"):
        with edited(checkout, f"retort/corpus/language/{name}.py"):
            assert checkout.planned(config) == set(), "real text does not depend on the made-up language"
    large = {**config, "vocabulary": {"size": 5000}}
    checkout.snakemake("--configfile", checkout.configure(large, "texts.yaml"), succeeds=False)
    for again in (large, config):
        planned = checkout.planned(again, "corpus")
        assert {"train_vocabulary", "encode_corpus"} <= planned, "a job that failed is not forgotten, nor what follows"
    (checkout.path / "test.several").write_text("".join(f"{i}\tx\n" for i in range(90)))
    os.utime(checkout.path / "test.several", (0, 0))
    assert "prepare_corpus" in checkout.planned(config, "corpus"), "a text with an older date counts, too"
    assert "test.several has other content" in checkout.why("results/texts/corpus/train.parquet")
    (checkout.path / "train.source").write_text("".join(f"{line}\n" for line in lines))
    assert checkout.planned(config, "corpus") == {"prepare_corpus", "train_vocabulary", "encode_corpus"}
    assert checkout.why("results/texts/corpus/train.parquet").count("train.source") == 1, "one fact is said once"


def test_a_failing_job_shows_its_message(checkout: Checkout) -> None:
    name = checkout.configure({**TINY, "name": "failing", "vocabulary": {"size": 5000}}, "failing.yaml")
    output = checkout.snakemake("corpus", "--configfile", name, succeeds=False)
    assert "error: train_vocabulary: " in output
    assert "vocabulary.size" in output
