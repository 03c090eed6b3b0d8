"""Exposure bias and quality by length: what is measured, and what the report shows of it."""

import csv
import io
import json
from dataclasses import replace

import pytest

from retort.config import METRICS as DECLARED
from retort.config import Beam, Exposure
from retort.config.load import load_config
from retort.data.parquet import read_provenance, read_table
from retort.data.references import corpus_table
from retort.data.tables import EXPOSURE, LENGTHS
from retort.errors import RetortError
from retort.evaluation import exposure as module
from retort.evaluation.exposure import exposure
from retort.evaluation.lengths import scores_by_length
from retort.evaluation.metrics import score
from retort.evaluation.quality import quality, read_pairs, read_tests
from retort.report.continuations import by_length, completions, length_buckets
from retort.report.figures import lengths
from retort.report.inputs import Paths, read_inputs
from retort.report.page import number, render
from retort.report.results import results_csv
from retort.search.base import Hypothesis
from tests.unit.fakes_evaluation import corpus, translations
from tests.unit.fakes_report import run_on_disk
from tests.unit.fakes_runs import STUDENT, TEACHER, call, changed, make_tables
from workflow_scripts import measure_exposure, score_by_length

METRICS = ["BLEU", "chrF"]
REFERENCES = ["a b", "a b c d e", "a b c", "a b c d e f g h i", "a b c d"]


class Letters:
    """A vocabulary of words of one letter, with ids from 6."""

    def encode_target(self, texts):
        return [[ord(word) - ord("a") + 6 for word in text.split()] for text in texts]

    def decode_target(self, tokens):
        return [" ".join(chr(token - 6 + ord("a")) for token in ids) for ids in tokens]


def complete(name, prefixes, texts, wrong):
    """The student goes wrong in the second half unless what it is given is the reference's; the teacher never does."""
    found = []
    for prefix, text in zip(prefixes, texts, strict=True):
        tokens = Letters().encode_target([text])[0]
        rest = tokens[len(prefix) :]
        if name == "student" and wrong(prefix, tokens):
            rest = rest[: -(len(tokens) // 2)] + [30] * (len(tokens) // 2)
        found.append([Hypothesis([*prefix, *rest], 0.0, False, 0)])
    return found


def is_no_reference(prefix, tokens):
    return not prefix or prefix != tokens[: len(prefix)]


def rows_of(monkeypatch, options, metrics=METRICS, wrong=is_no_reference):
    calls = []

    def translated(model, vocabulary, texts, search, batch_tokens, prefixes):
        calls.append((model, search.kind, prefixes))
        return complete(model, prefixes, REFERENCES, wrong)

    monkeypatch.setattr(module, "translate_texts", translated)
    table = corpus_table(range(5), ["x"] * 5, [[text] for text in REFERENCES])
    return list(exposure("student", "teacher", Letters(), table, options, 64, metrics)), calls


def test_every_prefix_is_completed_by_both_and_scored_as_a_whole(monkeypatch):
    options = Exposure(shares=[0.5, 0.75], search=Beam(kind="beam"))
    rows, calls = rows_of(monkeypatch, options)
    bleu = {(r["prefix"], r["share"], r["completed_by"]): r["value"] for r in rows if r["metric"] == "BLEU"}
    assert len(bleu) == len(rows) / 2 == 2 + 2 * 3 * 2
    right = pytest.approx(100)
    assert bleu["none", 0, "teacher"] == right and bleu["none", 0, "student"] < 90
    assert bleu["teacher", 0.75, "student"] == bleu["reference", 0.5, "student"] == right
    assert bleu["student", 0.5, "teacher"] == right and bleu["student", 0.75, "teacher"] < 90
    assert all("search:beam" in r["signature"] for r in rows) and {kind for _, kind, _ in calls} == {"beam"}
    own = [tokens for model, _, tokens in calls if model == "teacher"][1]
    assert [len(tokens) for tokens in own] == [1, 2, 1, 4, 2], "the student's outputs are halved"
    (given,) = {r["given"] for r in rows if (r["prefix"], r["share"]) == ("reference", 0.5) and r["given"]}
    assert given == 10 / 23


def test_every_declared_metric_scores_what_is_completed(monkeypatch):
    names = [metric.name for metric in DECLARED]
    rows, _ = rows_of(monkeypatch, Exposure(), metrics=names)
    assert [row["metric"] for row in rows] == names * 8
    worst = {row["metric"]: row["value"] for row in rows if (row["prefix"], row["completed_by"]) == ("none", "student")}
    best = {row["metric"]: row["value"] for row in rows if (row["prefix"], row["completed_by"]) == ("none", "teacher")}
    compared = [metric for metric in DECLARED if metric.resampled]
    assert all((worst[m.name] < best[m.name]) == m.higher_is_better for m in compared)


def test_unprompted_outputs_begin_with_nothing(monkeypatch):
    rows, calls = rows_of(monkeypatch, Exposure())
    assert [tokens for _, _, tokens in calls[:2]] == [[[]] * 5] * 2
    assert [r["given"] for r in rows if r["prefix"] == "none"] == [0.0] * 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    tables = make_tables(tmp_path_factory.mktemp("tables"))
    few = changed(TEACHER, "training", max_updates=60, validate_every=60)
    return tables, tables.train(few, tables.root / "teacher"), tables.train(few, tables.root / "student", seed=2)


def measured(tables, student, teacher, output, options):
    call(
        *(measure_exposure, "--student", student, "--teacher", teacher, "--system", "small", "--seed", 2),
        *("--tests", tables.test, "--exposure", json.dumps(options), "--metrics", *METRICS, "--output", output),
    )
    return read_table(output, EXPOSURE).to_pylist()


@pytest.mark.slow
def test_a_student_that_is_its_own_teacher_gains_nothing(trained, tmp_path):
    tables, teacher, _ = trained
    rows = measured(tables, teacher, teacher, tmp_path / "out.parquet", {"shares": [0.25, 0.5]})
    values = {}
    for row in rows:
        values.setdefault((row["prefix"], row["share"], row["metric"]), set()).add(row["value"])
    assert all(len(found) == 1 for found in values.values())
    for metric in ("BLEU", "chrF"):
        # greedy search goes on as it began
        assert values["none", 0, metric] == values["student", 0.5, metric] == values["teacher", 0.25, metric]
    assert max(values["reference", 0.5, "chrF"]) > max(values["none", 0, "chrF"])


@pytest.mark.slow
def test_the_script_measures_two_models(trained, tmp_path):
    tables, teacher, student = trained
    rows = measured(tables, student, teacher, tmp_path / "out.parquet", {"search": {"kind": "beam", "beam_size": 2}})
    assert {(r["system"], r["seed"], r["test_set"]) for r in rows} == {("small", 2, "test")} and len(rows) == 16
    assert read_provenance(tmp_path / "out.parquet")["exposure"]["shares"] == [0.5]


def test_a_parallel_model_completes_nothing(trained, tmp_path, capsys):
    tables, teacher, _ = trained
    few = changed({**STUDENT, "data": "raw"}, "training", max_updates=6, validate_every=3)
    other = tables.train(few, tmp_path / "vanilla")
    with pytest.raises(SystemExit):
        measured(tables, other, teacher, tmp_path / "out.parquet", {})
    assert "a parallel model cannot complete prefixes by greedy" in capsys.readouterr().err


# ---- length ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    test = corpus(tmp_path / "corpus" / "test.t.parquet", REFERENCES)
    path = tmp_path / "small" / "seed3" / "g.parquet"
    return test, translations(path, [text.replace("a", "z") for text in REFERENCES], test_set="t")


def test_each_bucket_has_the_corpus_scores_of_its_sentences(files):
    (pairs,) = read_pairs(files[1], read_tests([files[0]]))
    rows = list(scores_by_length(pairs, [3, 5, 7], METRICS))
    bounds = [(row["shortest"], row["longest"], row["sentences"]) for row in rows if row["metric"] == "BLEU"]
    assert bounds == [(0, 3, 2), (4, 5, 2), (8, None, 1)], "no reference has 6 or 7 words"
    for row in rows:
        chosen = [
            i for i, text in enumerate(REFERENCES) if row["shortest"] <= len(text.split()) <= (row["longest"] or 99)
        ]
        texts = ([pairs.hypotheses[i] for i in chosen], [pairs.references[i] for i in chosen])
        assert row["value"] == pytest.approx(score(row["metric"], *texts).value, rel=1e-12)


def test_one_bucket_has_the_score_of_all(files, tmp_path):
    out = tmp_path / "lengths.parquet"
    evaluation = json.dumps({"length_buckets": [50], "metrics": METRICS})
    call(score_by_length, "--translations", files[1], "--tests", files[0], "--evaluation", evaluation, "--output", out)
    (pairs,) = read_pairs(files[1], read_tests([files[0]]))
    expected = {score.metric: score.value for score in quality(pairs, METRICS)}
    rows = read_table(out, LENGTHS).to_pylist()
    assert {(row["system"], row["seed"], row["search"], row["test_set"]) for row in rows} == {("small", 3, "g", "t")}
    values = {row["metric"]: row["value"] for row in rows}
    assert values == pytest.approx({metric: expected[metric] for metric in ("BLEU", "chrF")}, rel=1e-12)


# ---- configuration --------------------------------------------------------------------------------------------------


def problems(students=("small", "ctc", "bang", "both"), **evaluation):
    objectives = {
        "small": {"name": "imitation"},
        "ctc": {"name": "ctc"},
        "bang": {"name": "bang"},
        "both": {"name": "bang", "nar_ratio": 0.5},
    }
    config = {
        "name": "n",
        "corpus": {"kind": "generated"},
        "teacher": {"objective": {"name": "autoregressive"}},
        "students": {name: {"objective": objectives[name]} for name in students},
        "evaluation": evaluation,
    }
    try:
        load_config(config)
    except RetortError as error:
        return str(error)
    return ""


def test_the_configuration_names_students_that_decode_left_to_right():
    assert not problems(exposure={"systems": ["small"]}, length_buckets=[10, 20])
    assert "no student that decodes left to right is 'ctc'; valid: small" in problems(exposure={"systems": ["ctc"]})
    # a mode that is not trained
    assert "is 'bang'; valid: small, both" in problems(exposure={"systems": ["bang", "both"]})
    assert "left to right is 'ctc'; there is none" in problems(students=("ctc",), exposure={"systems": ["ctc"]})
    assert "'smal'; did you mean small?" in problems(exposure={"systems": ["smal"]})
    assert "repeats a name" in problems(exposure={"systems": ["small", "small"]})
    assert "[20, 10] do not grow" in problems(length_buckets=[20, 10])
    assert "exposure.shares" in problems(exposure={"shares": [1.0]})


# ---- report ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    run = run_on_disk(tmp_path_factory.mktemp("run"), ["teacher", "shallow", "ctc"], seeds=(1, 2))
    return read_inputs(Paths(**{**run, "checkpoints": ()}))


@pytest.mark.slow
def test_gains_are_means_over_seeds(inputs):
    (row,) = completions(inputs, "flickr")
    assert (row.system, row.share) == ("shallow", 0.5)
    assert (row.alone.mean, row.teacher_alone.mean) == pytest.approx((30.15, 40))
    assert [round(gain.mean, 9) for _, _, gain in row.completed.values()] == [5, 3, 2]
    assert row.completed["student"][0].mean == pytest.approx(32.5)
    assert completions(inputs, "other") == []


@pytest.mark.slow
def test_the_report_shows_lengths_and_prefixes(inputs):
    buckets = length_buckets(inputs, "flickr")
    assert [bucket.name for bucket in buckets] == ["up to 7", "8 to 10", "from 11"]
    assert sum(bucket.sentences for bucket in buckets) == 40
    scores = by_length(inputs, "flickr", "BLEU")
    assert list(scores) == [("teacher", "beam5"), ("teacher", "greedy"), ("shallow", "beam5"), ("shallow", "greedy"),
                            ("ctc", "collapse")]  # fmt: skip
    figures = dict.fromkeys(("quality_latency", "training_curves", "em_iterations"))
    html = render(inputs, {**figures, "lengths": lengths(inputs, "flickr")})
    part = html[html.index('id="lengths"') : html.index('id="latency"')]
    assert number(scores["ctc", "collapse"][buckets[0]].mean, 1) in part and "data:image/png" in part
    assert "+5.00" in part and "+2.00" in part and "30.15" in part
    without = render(replace(inputs, lengths=[], exposure=[]), {**figures, "lengths": None})
    assert 'id="lengths"' not in without and 'id="exposure"' not in without


def test_the_table_of_all_numbers_has_them(inputs):
    rows = list(csv.DictReader(io.StringIO(results_csv(inputs))))
    names = {(row["system"], row["seed"], row["metric"]): float(row["value"]) for row in rows if row["value"]}
    assert names["shallow", "2", "BLEU, 0.5 of student completed by teacher"] == 38
    assert names["shallow", "1", "chrF, none completed by student"] == 30.1
    assert {metric for _, _, metric in names if "words" in metric} == {
        f"{metric}@{words} words" for metric in ("BLEU", "chrF", "TER") for words in ("0-7", "8-10", "11-")
    }


def test_the_figure_compares_with_the_teacher(inputs):
    assert lengths(inputs, "flickr").startswith(b"\x89PNG")
    alone = replace(inputs, lengths=[row for row in inputs.lengths if row["system"] != "teacher"])
    assert lengths(alone, "flickr") is None


def test_the_prefixes_of_references_are_of_the_first_ones(monkeypatch):
    calls = []

    def translated(model, vocabulary, texts, search, batch_tokens, prefixes):
        calls.append(prefixes)
        return [[Hypothesis([6], 0.0, False, 0)] for _ in texts]

    monkeypatch.setattr(module, "translate_texts", translated)
    table = corpus_table([0], ["x"], [["b c", "d e"]])
    options = Exposure(shares=[0.5], search=Beam(kind="beam"))
    list(exposure("student", "teacher", Letters(), table, options, 64, ["BLEU"]))
    assert calls[-1] == [[7]]
