"""What runs, which files rules read, what jobs are given and which modules they import, for small configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from retort.config import GeneratedCorpus, Grid, resolve
from retort.data.runs import Run
from retort.engines import ENGINES, EXPORT_ENGINES
from retort.workflow.layout import Layout
from retort.workflow.modules import Modules
from retort.workflow.ngram_tables import NgramTables
from retort.workflow.options import Options
from retort.workflow.plan import Plan

R = "results/small"
TEACHER = {
    "objective": {"name": "autoregressive"},
    "searches": {"beam": {"kind": "beam"}, "greedy": {"kind": "greedy"}},
}
CTC = {"objective": {"name": "ctc"}, "data": "distilled"}
VANILLA = {"objective": {"name": "vanilla"}, "searches": {"argmax": {"kind": "argmax"}}}
EM: dict[str, Any] = {
    "seeds": [1, 2],
    "teacher": {**TEACHER, "seeds": [3]},
    "em": {"iterations": 3, "student": {"searches": {"argmax": {"kind": "argmax"}}}},
}
VALID = {"source": [{"location": "v"}], "target": [{"location": "w"}]}
STORED = {"name": "imitation", "labels": "stored", "top_k": 8, "beta": {"schedule": "constant", "share": 1}}
RESCORED = {"own": {"kind": "argmax"}, "rescored": {"kind": "length_parallel"}}
SELECTIVE = {**CTC, "data": "mixed", "mixture": {"kind": "selective", "evaluator": "ctc"}}
PARALLEL, AUTOREGRESSIVE = "retort.models.parallel", "retort.models.autoregressive"


def unknown(iteration: int) -> Mapping[int, str]:
    raise LookupError(f"guards of iteration {iteration}")


def planned(changes: Mapping[str, Any] = {}, verdicts: Any = unknown) -> Plan:
    raw = {"name": "small", "corpus": {"kind": "generated"}, "teacher": TEACHER, **changes}
    return Plan(resolve(raw), R, verdicts)


def ended(end: int, *seeds: int) -> Any:
    """Guards that end the loop before iteration ``end`` for these seeds; they know what has run, and no more."""

    def verdicts(iteration: int) -> Mapping[int, str]:
        reached = [seed for seed in (1, 2) if iteration <= end or seed not in seeds]
        return {seed: "too poor" if iteration == end and seed in seeds else "" for seed in reached}

    return verdicts


def checkpoint(directory: str) -> list[str]:
    return [f"{directory}/{name}" for name in ("model.safetensors", "model.json", "source.model", "target.model")]


# ---- layout ---------------------------------------------------------------------------------------------------------


def test_what_is_made_is_below_the_root_and_what_is_given_where_it_is() -> None:
    layout = planned({"students": {"ctc": CTC}}).layout
    assert layout.tests() == [f"{R}/corpus/test.test.parquet"]
    assert list(layout.vocabulary().values()) == [
        f"{R}/vocabulary/{name}" for name in ("source.model", "target.model", "vocabulary.json")
    ]
    assert list(layout.checkpoint("ctc", 2).values()) == checkpoint(f"{R}/systems/ctc/seed2")
    given = planned({"students": {"ctc": {**CTC, "checkpoint": "a/../b/"}}, "vocabulary": {"path": "v/"}}).layout
    assert given.checkpoint_directory("ctc", 2) == "b"
    assert list(given.checkpoint("ctc", 2).values()) == checkpoint("b")
    assert set(given.vocabulary().values()) == {"v/source.model", "v/target.model"}


def test_every_measure_has_a_place_of_its_own() -> None:
    layout, run, training = Layout(planned().config, "root"), Run("a", 1, "s"), Run("a", 1)
    assert layout.translations(run) == "root/translations/a/seed1/s.parquet"
    assert layout.scores(run) == "root/scores/a/seed1/s.parquet"
    assert layout.multimodality(training) == "root/multimodality/a/seed1.parquet"
    assert layout.exposure(training) == "root/exposure/a/seed1.parquet"
    assert layout.agreement(training) == "root/agreement/a/seed1.parquet"
    assert layout.training_log(training) == "root/systems/a/seed1/training.parquet"
    assert layout.labels("raw", 8) == "root/labels/raw/top8.parquet"
    assert layout.text("raw") == "root/encoded/train.parquet"
    assert list(layout.texts()) == ["raw", "distilled", "interpolated"]
    directories = ["root/em/iteration0", "root/em/iteration1", "root/em/iteration3/seed2"]
    assert [layout.iteration(t, 2) for t in (0, 1, 3)] == directories


def test_the_test_sets_of_a_text_corpus_have_a_table_each() -> None:
    pair = {"source": [{"location": "a"}], "target": [{"location": "b"}]}
    corpus = {"kind": "text", "train": pair, "valid": VALID, "tests": {"one": pair, "two": pair}}
    assert planned({"corpus": corpus}).layout.tests() == [f"{R}/corpus/test.{name}.parquet" for name in ("one", "two")]


# ---- what runs ------------------------------------------------------------------------------------------------------


def test_systems_run_with_their_seeds_and_searches() -> None:
    plan = planned({"seeds": [1, 2], "students": {"ctc": CTC, "given": {**VANILLA, "checkpoint": "x"}}})
    assert plan.runs() == [Run("teacher", 1), Run("teacher", 2), Run("ctc", 1), Run("ctc", 2), Run("given", 1)]
    assert plan.runs(["ctc"]) == [Run("ctc", 1), Run("ctc", 2)]
    assert plan.decodings(["given", "ctc"]) == [
        *(Run("given", 1, "argmax"), Run("ctc", 1, "collapse"), Run("ctc", 2, "collapse"))
    ]
    assert [str(run) for run in plan.decodings(["teacher"])] == [
        f"teacher/seed{seed}/{search}" for seed in (1, 2) for search in ("beam", "greedy")
    ]
    assert plan.first_run("ctc") == Run("ctc", 1) and plan.first_search("teacher") == "beam"
    assert [plan.run_of("given", 2), plan.run_of("ctc", 2)] == [Run("given", 1), Run("ctc", 2)]


def test_there_is_distilled_text_where_a_teacher_makes_it_or_it_is_given() -> None:
    encoded = [f"{R}/distilled/encoded.parquet"]
    assert planned().distilled() == encoded
    students = {"ctc": {"objective": {"name": "ctc"}, "data": "raw"}}
    assert planned({"teacher": None, "students": students}).distilled() == []
    given = {"teacher": None, "students": {"ctc": CTC}, "distillation": {"corpus": "distilled.parquet"}}
    assert planned(given).distilled() == encoded


def test_texts_made_of_outputs_are_those_that_are_trained_on_here() -> None:
    students = {"raw": VANILLA, "ctc": CTC, "mixed": SELECTIVE, "given": {**CTC, "checkpoint": "x"}}
    assert planned().gathered() == planned({"students": {"raw": VANILLA, "given": students["given"]}}).gathered() == []
    assert planned({"students": students}).gathered() == [f"{R}/distilled/encoded.parquet", f"{R}/mixed/train.parquet"]
    assert planned(EM, ended(3, 2)).gathered() == [
        f"{R}/em/iteration1/train.parquet",
        *(f"{R}/em/iteration2/seed{seed}/{name}.parquet" for name in ("selected", "train") for seed in (1, 2)),
        *(f"{R}/em/iteration3/seed1/{name}.parquet" for name in ("selected", "train")),
    ]


def test_the_text_to_pre_train_on_is_one_that_a_system_starts_from() -> None:
    student = {"objective": {"name": "bang"}, "training": {"warm_start": "pretrained"}}
    pretraining = {"vocabulary": {"joint": True}, "pretraining": {}}
    text = [f"{R}/pretraining/train.parquet"]
    assert (
        planned({**pretraining, "students": {"a": student, "b": student}, "seeds": [1, 2]}).pretraining_text() == text
    )
    assert planned({**pretraining, "students": {"a": {**student, "checkpoint": "x"}}}).pretraining_text() == []
    assert planned(pretraining).pretraining_text() == planned().pretraining_text() == []


def test_the_loop_goes_as_far_as_the_guards_let_it() -> None:
    plan = planned(EM, ended(2, 1))
    assert [plan.loop_reaches(t, 1) for t in range(4)] == [True, True, False, False]
    assert [plan.loop_reaches(t, 2) for t in range(4)] == [True] * 4
    names = ("teacher", "em1", "em2-teacher", "em2", "em3-teacher", "em3")
    assert plan.runs() == [
        Run("teacher", 3), Run("em1", 1), Run("em1", 2), *(Run(name, 2) for name in names[2:])
    ]  # fmt: skip
    assert plan.guards_of(2) == [f"{R}/em/iteration2/seed{seed}/guards.parquet" for seed in (1, 2)]
    assert plan.guards_of(3) == [f"{R}/em/iteration3/seed2/guards.parquet"]
    assert plan.guards() == [f"{R}/em/iteration{t}/guards.parquet" for t in (2, 3)]
    assert planned(EM, ended(2, 1, 2)).guards() == [f"{R}/em/iteration2/guards.parquet"]
    assert planned().guards() == []


def test_nobody_asks_for_guards_before_they_matter() -> None:
    plan = planned(EM)
    assert plan.runs(["teacher", "em1"]) == [Run("teacher", 3), Run("em1", 1), Run("em1", 2)]
    assert len(plan.guards_of(2)) == 2
    with pytest.raises(LookupError, match="iteration 2"):
        plan.runs()


def test_the_models_of_an_iteration() -> None:
    plan = planned(EM, ended(9))
    assert plan.corpus_run(1, 2) == plan.candidate_run(2, 2) == Run("teacher", 3)
    assert plan.corpus_run(2, 2) == plan.candidate_run(3, 2) == Run("em2-teacher", 2)
    assert list(plan.corpus_checkpoint(2, 1).values()) == checkpoint(f"{R}/systems/em2-teacher/seed1")
    assert list(plan.candidate_checkpoint(2, 1).values()) == checkpoint(f"{R}/systems/teacher/seed3")
    assert plan.candidates(2, 2, "1-of-4") == f"{R}/em/iteration2/seed1/candidates/1-of-4.parquet"
    assert plan.candidates(3, 2, "1-of-4") == f"{R}/em/iteration3/seed2/candidates/1-of-4.parquet"
    assert plan.scorers(3, 2) == {
        "student": Run("em2", 2), "teacher": Run("em2-teacher", 2), "first": Run("teacher", 3)
    }  # fmt: skip
    assert plan.scoring_files(3, 2) == {
        f"{name}_{kind}": f"{R}/systems/{system}/{file}"
        for name, system in (("student", "em2/seed2"), ("teacher", "em2-teacher/seed2"), ("first", "teacher/seed3"))
        for kind, file in (("weights", "model.safetensors"), ("model", "model.json"))
    }
    assert plan.candidate_search().beam_size == 20 and plan.candidate_search().length_penalty == 1
    greedy = planned({**EM, "distillation": {"search": {"kind": "greedy"}}}).candidate_search()
    assert (greedy.kind, greedy.beam_size) == ("beam", 20)
    assert plan.iterations(1) == [
        *checkpoint(f"{R}/systems/em1/seed1"),
        *checkpoint(f"{R}/systems/em1/seed2"),
        *(f"{R}/scores/em1/seed{seed}/argmax.parquet" for seed in (1, 2)),
        *(f"{R}/multimodality/em1/seed{seed}.parquet" for seed in (1, 2)),
    ]
    assert set(plan.iterations()) == {path for t in (1, 2, 3) for path in plan.iterations(t)}
    assert planned().iterations() == []


@pytest.mark.parametrize(
    ("system", "seed", "start"),
    [
        ("teacher", 1, None),
        ("warm", 2, Run("teacher", 3)),
        ("after", 1, Run("warm", 2)),
        ("after", 2, Run("warm", 2)),
        ("pre", 1, Run("pretrained", 1)),
        ("em1", 1, None),
        ("em2-teacher", 2, Run("teacher", 3)),
        ("em3-teacher", 2, Run("em2-teacher", 2)),
        ("em2", 2, Run("em1", 2)),
        ("em3", 2, Run("em2", 2)),
    ],
)
def test_where_a_training_starts(system: str, seed: int, start: Run | None) -> None:
    students = {
        "warm": {**VANILLA, "seeds": [2], "training": {"warm_start": "teacher_encoder"}},
        "after": {**VANILLA, "training": {"warm_start": "warm"}},
        "pre": {**VANILLA, "training": {"warm_start": "pretrained"}},
    }
    plan = planned({**EM, "em": {**EM["em"], "student_start": "warm"}, "students": students, "pretraining": {}})
    assert plan.starting_run(system, seed) == start
    files = plan.training_files(system, seed)
    options = Options(plan).start(system, seed)
    if start is None:
        assert "start" not in files and options == []
    else:
        directory = f"{R}/systems/{start.system}/seed{start.seed}"
        assert (files["start"], files["start_model"]) == tuple(checkpoint(directory)[:2])
        assert options == ["--start", directory]


# ---- what the rules read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "text"),
    [
        ("teacher", "encoded/train.parquet"),
        ("ctc", "distilled/encoded.parquet"),
        ("near", "interpolated/encoded.parquet"),
        ("mixed", "mixed/train.parquet"),
        ("em1", "em/iteration1/train.parquet"),
        ("em2", "em/iteration2/seed1/train.parquet"),
        ("em2-teacher", "em/iteration2/seed1/selected.parquet"),
        ("pretrained", "pretraining/train.parquet"),
    ],
)
def test_what_a_training_reads(system: str, text: str) -> None:
    students = {"ctc": CTC, "near": {**CTC, "data": "interpolated"}, "mixed": {**CTC, "data": "mixed"}}
    plan = planned({**EM, "students": students, "pretraining": {}})
    files = plan.training_files(system, 1)
    assert files["train"] == plan.training_text(system, 1) == f"{R}/{text}"
    assert files["valid"] == f"{R}/{'pretraining' if system == 'pretrained' else 'encoded'}/valid.parquet"
    assert plan.layout.vocabulary().items() <= files.items()
    assert not {"agreement", "labels", "teacher_weights"} & set(files)


def test_what_a_training_asks_of_other_models() -> None:
    students = {
        "ctc": {**CTC, "seeds": [4]},
        "chosen": SELECTIVE,
        "imitation": {"objective": {"name": "imitation"}},
        "stored": {"objective": STORED, "data": "distilled"},
    }
    plan = planned({"seeds": [1, 2], "students": students})
    options = Options(plan)
    assert plan.selective() == ["chosen"]
    assert plan.evaluating_run("chosen", 2) == Run("ctc", 4) and plan.evaluating_run("ctc", 4) is None
    agreement = f"{R}/agreement/ctc/seed4.parquet"
    assert plan.training_files("chosen", 2)["agreement"] == agreement
    assert options.agreement("chosen", 2) == ["--agreement", agreement] and options.agreement("ctc", 4) == []
    teacher = f"{R}/systems/teacher/seed1"
    assert plan.training_files("imitation", 2)["teacher_weights"] == f"{teacher}/model.safetensors"
    assert options.teacher("imitation") == ["--teacher", teacher] and options.teacher("stored") == []
    labels = f"{R}/labels/distilled/top8.parquet"
    assert plan.training_files("stored", 1)["labels"] == plan.stored_labels("stored") == labels
    assert options.labels("stored") == ["--labels", labels] and options.labels("imitation") == []
    assert plan.stored_labels("imitation") is None
    assert plan.labelled_files("distilled") == {
        **{f"teacher_{name}": path for name, path in plan.teacher_checkpoint().items()},
        **plan.layout.vocabulary(),
        "train": f"{R}/distilled/encoded.parquet",
    }


def test_a_search_may_ask_the_teacher() -> None:
    plan = planned({"students": {"v": {**VANILLA, "searches": RESCORED}}})
    assert plan.rescoring_files("v", "own") == [] == Options(plan).rescoring("v", "own")
    assert plan.rescoring_files("v", "rescored") == plan.teacher_files() == checkpoint(f"{R}/systems/teacher/seed1")
    assert Options(plan).rescoring("v", "rescored") == ["--teacher", f"{R}/systems/teacher/seed1"]


def test_a_search_whose_tuned_forms_ask_the_teacher_gets_one() -> None:
    alone = {"own": {"kind": "argmax"}, "tuned": {"kind": "length_parallel", "candidates": 1}}
    plan = planned({"students": {"v": {**VANILLA, "searches": alone, "tune": {"tuned": {"candidates": [3]}}}}})
    assert plan.rescoring_files("v", "tuned") == plan.teacher_files()
    assert "retort.models.autoregressive" in Modules(plan).tuning("v", "tuned")
    timed = {entry["search_name"]: entry for entry in json.loads(Options(plan).timed_systems())}
    assert timed["tuned"]["teacher"] == f"{R}/systems/teacher/seed1" and timed["own"]["teacher"] is None


def tried(plan: Plan, system: str, search: str) -> list[Any]:
    """The forms of a search that the job which tunes it tries."""
    return Grid.model_validate_json(Options(plan).tried_searches(system, search)).forms()


def test_a_grid_of_any_size_is_a_short_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the values and not their combinations, and changes with each; the table is looked up once."""
    student = {"objective": {"name": "ctc"}, "searches": {"c": {"kind": "ctc_collapse"}, "own": {"kind": "ctc_beam"}}}
    values = [number / 10 for number in range(60)]
    asked: list[str] = []

    def files_of(_: NgramTables, *run: str) -> list[str]:
        asked.extend(run)
        return ["a.ngrams"]

    monkeypatch.setattr(NgramTables, "files_of", files_of)
    texts = []
    for last in (5.9, 6.0):
        tune = {"own": {"lm_weight": [*values[:-1], last], "token_bonus": values}}
        plan = planned({"students": {"c": {**student, "tune": tune}}})
        texts.append(Options(plan).tried_searches("c", "own"))
    assert len(texts[0]) < 2000 and texts[0] != texts[1] and asked == ["c", "own"] * 2


def test_a_search_may_be_tuned() -> None:
    changes = {"students": {"v": {**VANILLA, "searches": RESCORED, "tune": {"own": {"length_beam": [1, 3, 3]}}}}}
    plan, plain = planned(changes), planned({"students": {"v": {**VANILLA, "searches": RESCORED}}})
    assert plan.tuned_files("v", 2, "own") == [f"{R}/tuning/v/seed2/own.json"]
    assert plan.tuned_files("v", 2, "rescored") == []
    assert Options(plan).decoding_search("v", 2, "own") == f"@{R}/tuning/v/seed2/own.json"
    assert Options(plan).decoding_search("v", 2, "rescored") == Options(plan).search("v", "rescored")
    assert [search.length_beam for search in tried(plan, "v", "own")] == [1, 3]
    assert Options(plan).system("v") == Options(plain).system("v")
    assert "retort.evaluation.metrics.bleu" in Modules(plan).tuning("v", "own")


def test_a_search_may_need_a_table_of_n_grams() -> None:
    """One table for all that count the same; a search whose weight is tuned from 0 on needs it too."""
    beam: dict[str, object] = {"kind": "ctc_beam"}
    searches = {
        "collapse": {"kind": "ctc_collapse"},
        "own": beam,
        "raw": {**beam, "ngrams": {"data": "raw", "order": 2}},
        "given": {**beam, "table": "some.ngrams"},
        "texts": {**beam, "ngrams": {"texts": ["more.de", "https://x.org/y"]}},
        "tuned": {**beam, "lm_weight": 0},
    }
    student = {"objective": {"name": "ctc"}, "data": "distilled", "searches": searches}
    plan = planned({"students": {"c": {**student, "tune": {"tuned": {"lm_weight": [0.1, 0.3]}}}}})
    own, raw = f"{R}/ngrams/distilled.order4.most20000000.ngrams", f"{R}/ngrams/raw.order2.most20000000.ngrams"
    assert plan.ngrams.files_of("c", "own") == plan.ngrams.files_of("c", "tuned") == [own]
    assert plan.ngrams.files_of("c", "raw") == [raw]
    assert plan.ngrams.files_of("c", "collapse") == [] and plan.ngrams.files_of("c", "given") == ["some.ngrams"]
    assert [json.loads(Options(plan).search("c", name))["table"] for name in ("own", "raw", "given")] == [
        own,
        raw,
        "some.ngrams",
    ]
    forms = [(form.lm_weight, form.table) for form in tried(plan, "c", "tuned")]
    assert forms == [(0, None), (0.1, own), (0.3, own)]
    tables = plan.ngrams.counted()
    assert plan.ngrams.files() == [
        own,
        raw,
        "some.ngrams",
        *(R + f"/ngrams/{name}.ngrams" for name in tables if "-" in name),
    ]
    assert "ngrams" not in plan.training_files("c", 1)
    given = planned({"students": {"c": {**student, "searches": {"given": searches["given"]}}}})
    assert given.training_files("c", 1)["ngrams"] == "some.ngrams" and not given.ngrams.counted()
    assert plan.ngrams.texts("distilled.order4.most20000000") == [f"{R}/distilled/encoded.parquet"]
    (texts,) = (name for name in tables if name.startswith("texts"))
    assert plan.ngrams.texts(texts) == ["more.de"]
    assert Options(plan).counting("raw.order2.most20000000")[:3] == ["--train", f"{R}/encoded/train.parquet", "--order"]
    held_out = [f"{R}/corpus/valid.parquet", f"{R}/corpus/test.test.parquet"]
    assert plan.ngrams.held_out(texts) == held_out and not plan.ngrams.held_out("raw.order2.most20000000")
    counting = Options(plan).counting(texts)
    assert counting[0] == "--texts" and counting[2:5] == ["--held-out", *held_out]
    unclean = planned({"students": {"c": student}, "cleaning": {"drop_leaks": False}})
    assert unclean.ngrams.held_out(texts) == []


def test_a_training_reads_no_table_that_only_tuned_forms_of_its_first_search_use() -> None:
    beam = {"kind": "ctc_beam", "lm_weight": 0, "ngrams": {"data": "distilled"}}
    student = {"objective": {"name": "ctc"}, "searches": {"beam": beam}, "tune": {"beam": {"lm_weight": [0.2, 0.4]}}}
    plan = planned({"students": {"c": student}})
    assert "ngrams" not in plan.training_files("c", 1)
    assert plan.ngrams.files_of("c", "beam") == [f"{R}/ngrams/distilled.order4.most20000000.ngrams"]


def test_texts_are_files_where_they_are_local(tmp_path: Path) -> None:
    pair = {"source": [{"location": "a"}], "target": [{"location": "https://x.org/b"}]}
    corpus = {"kind": "text", "train": pair, "valid": VALID, "tests": {"one": pair}, "mirror": None}
    plan = planned({"corpus": corpus, "pretraining": {"texts": [{"location": "m"}]}})
    assert plan.corpus_texts() == ["a", "v", "w"] and plan.monolingual_texts() == ["m"]
    assert Options(plan).monolingual_corpus() == [] == Options(plan).mirror()
    own = planned({"pretraining": {}})
    assert own.corpus_texts() == [] and own.monolingual_texts() == [f"{R}/corpus/train.parquet"]
    assert Options(own).monolingual_corpus() == ["--corpus", f"{R}/corpus/train.parquet"]
    mirrored = planned({"corpus": {**corpus, "mirror": str(tmp_path)}})
    assert Options(mirrored).mirror() == ["--mirror", str(tmp_path)]


def test_multimodality_is_measured_on_unseen_pairs() -> None:
    references = {**VANILLA, "data": "references"}
    students = {"raw": VANILLA, "same": references, "ctc": CTC, "gru": {**TEACHER, "data": "raw"}}
    plan = planned({**EM, "students": students}, ended(2, 2))
    assert plan.training_text("same", 2) == f"{R}/em/iteration0/train.parquet"
    held_out = {name: plan.multimodality_files(name, 1)["held_out"] for name in ("raw", "same", "em1", "em2")}
    assert held_out == {
        "raw": f"{R}/encoded/valid.parquet",
        "same": f"{R}/em/iteration0/held_out.parquet",
        "em1": f"{R}/em/iteration1/held_out.parquet",
        "em2": f"{R}/em/iteration2/seed1/held_out.parquet",
    }
    assert plan.layout.checkpoint("raw", 1).items() <= plan.multimodality_files("raw", 1).items()
    measured = [f"{name}/seed{seed}" for name in ("raw", "same", "em1") for seed in (1, 2)]
    measured += ["em2/seed1", "em3/seed1"]
    assert plan.multimodality() == [f"{R}/multimodality/{run}.parquet" for run in measured]
    assert plan.multimodality(["em1"]) == [f"{R}/multimodality/em1/seed{seed}.parquet" for seed in (1, 2)]


def test_of_a_given_checkpoint_no_pairs_are_known_to_be_unseen() -> None:
    plan = planned({"students": {"raw": VANILLA, "given": {**VANILLA, "checkpoint": "somewhere"}}})
    assert {path.split("/")[-2] for path in plan.multimodality()} == {"raw"}


# ---- what a run leaves ----------------------------------------------------------------------------------------------


def test_results_of_every_run() -> None:
    changes = {
        "seeds": [1, 2],
        "students": {"ctc": CTC, "given": {**VANILLA, "checkpoint": "x"}, "same": {**VANILLA, "checkpoint": "x"}},
        "pretraining": {},
        "evaluation": {"length_buckets": [5], "exposure": {"systems": ["ctc"]}},
    }
    plan = planned(changes)
    trained = [f"{R}/systems/{run}" for run in ("teacher/seed1", "teacher/seed2", "ctc/seed1", "ctc/seed2")]
    assert plan.checkpoints() == [path for directory in (*trained, "x") for path in checkpoint(directory)]
    assert plan.timed_checkpoints() == [path for d in (trained[0], trained[2], "x") for path in checkpoint(d)]
    assert plan.training_logs() == [f"{directory}/training.parquet" for directory in trained]
    assert plan.named_checkpoints() == [
        *(f"{'/'.join(directory.split('/')[-2:])}={directory}" for directory in trained),
        *("given/seed1=x", "same/seed1=x"),
    ]
    decoded = [f"teacher/seed{seed}/{search}" for seed in (1, 2) for search in ("beam", "greedy")]
    decoded += ["ctc/seed1/collapse", "ctc/seed2/collapse", "given/seed1/argmax", "same/seed1/argmax"]
    assert plan.translations() == [f"{R}/translations/{run}.parquet" for run in decoded]
    assert plan.scores() == [f"{R}/scores/{run}.parquet" for run in decoded]
    assert plan.scores(["given"]) == [f"{R}/scores/given/seed1/argmax.parquet"]
    assert plan.lengths() == [f"{R}/scores/lengths.parquet"]
    assert plan.exposure() == [f"{R}/exposure/ctc/seed{seed}.parquet" for seed in (1, 2)]
    assert plan.pretraining() == checkpoint(f"{R}/systems/pretrained/seed1")
    assert plan.baseline() == f"{R}/translations/teacher/seed1/beam.parquet"
    nothing = planned()
    assert nothing.lengths() == nothing.exposure() == nothing.pretraining() == []
    named = planned({"students": {"ctc": {**CTC, "seeds": [7]}}, "evaluation": {"baseline": "ctc"}})
    assert named.baseline() == f"{R}/translations/ctc/seed7/collapse.parquet"


# ---- options --------------------------------------------------------------------------------------------------------


def test_systems_that_differ_in_their_text_are_compared_seed_by_seed() -> None:
    students = {"raw": {**CTC, "data": "raw", "seeds": [1, 2]}, "distilled": {**CTC, "seeds": [2, 3]}}
    plan = planned({"students": students})
    assert Options(plan).compared() == [(Run("distilled", 2, "collapse"), Run("raw", 2, "collapse"))]
    assert Options(plan).pairs() == [
        *("--pair", f"{R}/translations/distilled/seed2/collapse.parquet"),
        f"{R}/translations/raw/seed2/collapse.parquet",
    ]


def test_iterations_are_compared_with_the_first_one_and_systems_with_named_baselines() -> None:
    loop = Options(planned(EM, ended(3, 1)))
    assert loop.compared() == [
        (Run("em2", 1, "argmax"), Run("em1", 1, "argmax")),
        (Run("em2", 2, "argmax"), Run("em1", 2, "argmax")),
        (Run("em3", 2, "argmax"), Run("em1", 2, "argmax")),
    ]
    students = {"v": {**VANILLA, "searches": RESCORED}, "w": {**VANILLA, "searches": {"own": {"kind": "argmax"}}}}
    evaluation = {"baselines": {"v": ["w", "teacher"]}}
    named = Options(planned({"students": students, "evaluation": evaluation}))
    assert named.compared() == [
        (Run("v", 1, "own"), Run("w", 1, "own")),
        (Run("v", 1, "rescored"), Run("w", 1, "own")),
    ]
    within = Options(planned({"students": students, "evaluation": {"baselines": {"v": "v/own"}}}))
    assert within.compared() == [(Run("v", 1, "rescored"), Run("v", 1, "own"))], "not with itself"


def test_all_are_compared_with_what_speed_ups_are_over() -> None:
    greedy_first = {**TEACHER, "searches": {"greedy": {"kind": "greedy"}, "beam": {"kind": "beam"}}, "seeds": [1, 2]}
    options = Options(planned({"teacher": greedy_first, "students": {"ctc": {**CTC, "seeds": [1, 2, 3]}}}))
    assert options.plan.baseline() == f"{R}/translations/teacher/seed1/greedy.parquet"
    assert options.compared() == [
        (Run("teacher", 1, "greedy"), Run("teacher", 1, "beam")),
        (Run("teacher", 2, "greedy"), Run("teacher", 2, "beam")),
        *(
            (Run("ctc", seed, "collapse"), Run("teacher", teacher, "beam"))
            for seed, teacher in ((1, 1), (2, 2), (3, 1))
        ),
    ]
    beam_first = Options(planned({"teacher": {**TEACHER, "seeds": [1, 2]}, "students": {"ctc": {**CTC, "seeds": [2]}}}))
    assert beam_first.compared() == [
        (Run("teacher", 2, "greedy"), Run("teacher", 2, "beam")),
        (Run("ctc", 2, "collapse"), Run("teacher", 2, "beam")),
    ], "not what the common baseline is compared with already"


def test_all_are_compared_with_an_external_teacher_that_is_not_timed() -> None:
    external = {"kind": "command", "arguments": ["cat"]}
    sections = {"teacher": {**TEACHER, "data": "distilled"}, "students": {"ctc": CTC}, "external_teacher": external}
    options = Options(planned({**sections, "evaluation": {"baseline": "ctc"}}))
    others = {str(other) for run, other in options.compared() if run == Run("ctc", 1, "collapse")}
    assert others == {"external/seed0/command", "teacher/seed1/beam"}


def test_translations_are_told_which_run_they_are_of() -> None:
    options = Options(planned(EM))
    first = ["--system", "teacher", "--seed", "3", "--search-name"]
    assert options.decoder() == [*first, "distillation"]
    assert options.candidate_decoder(2, 1) == [*first, "candidates"]
    second = ["--system", "em2-teacher", "--seed", "1", "--search-name"]
    assert options.candidate_decoder(3, 1) == [*second, "candidates"]
    assert options.iteration_decoder(2, 1) == [*second, "distillation"]


def test_options_of_the_text() -> None:
    options = Options(planned({"model": {"max_length": 50, "truncate_sources": True}, "em": {"held_out": 9}}))
    assert options.lengths() == ["--max-length", "50", "--truncate-sources"]
    assert Options(planned()).lengths()[0::2] == ["--max-length"]
    assert options.held_out("x") == ["--held-out", "9", "--output-held-out", "x"]
    assert options.shard("2-of-4") == ["--shard", "1", "--shards", "4"]
    assert options.language() == ["--language", options.section("corpus")]
    pair = {"source": [{"location": "a"}], "target": [{"location": "b"}]}
    text = {"corpus": {"kind": "text", "train": pair, "valid": VALID, "tests": {"one": pair}}}
    assert Options(planned(text)).language() == []
    assert options.beam_size() == 5
    assert Options(planned({"distillation": {"search": {"kind": "greedy"}}})).beam_size() == 1
    assert options.data("teacher") == "raw"


class Elsewhere(GeneratedCorpus):
    """A kind with a key of its own about where this machine has the text."""

    local_keys = frozenset({"place"})
    place: str | None = None


def test_keys_of_this_machine_decide_nothing_of_the_corpus() -> None:
    pair = {"source": [{"location": "a"}], "target": [{"location": "b"}]}
    text = {"kind": "text", "train": pair, "carve": {}}
    here, there = (Options(planned({"corpus": {**text, "mirror": mirror}})) for mirror in ("here", "there"))
    assert here.corpus() == there.corpus() and "here" not in here.corpus() and "here" in here.section("corpus")
    plans = [planned() for _ in range(2)]
    for plan, place in zip(plans, ("here", "there"), strict=True):
        plan.config = plan.config.model_copy(update={"corpus": Elsewhere(kind="generated", place=place)})
    one, other = map(Options, plans)
    assert one.corpus() == other.corpus() and json.loads(one.corpus())["train_pairs"] == 8000
    assert one.language() == ["--language", one.corpus()]
    assert json.loads(one.section("corpus"))["place"] == "here"


def test_a_section_has_only_what_is_asked_for_and_no_null_that_is_the_default() -> None:
    options = Options(planned({"cleaning": {"max_words": None}, "em": {"guards": {"length": 0.5}}}))
    assert json.loads(options.section("cleaning"))["max_words"] is None
    assert json.loads(options.section("em.guards", "length", "quality")) == {"length": 0.5, "quality": 0.8}
    assert "corpus" not in json.loads(options.section("distillation", without={"corpus"}))
    assert json.loads(options.section("em", "choose_by", "likelihood_floor")) == {"choose_by": "parallel"}
    assert options.pretraining("texts") == "null"
    assert json.loads(Options(planned({"pretraining": {"valid_blocks": 7}})).pretraining("valid_blocks")) == 7
    candidates = json.loads(options.candidates())
    assert (
        list(candidates) == ["search", "batch_tokens", "precision", "engine"]
        and candidates["search"]["beam_size"] == 20
    )


def test_a_training_depends_on_no_name_and_on_the_first_search_alone() -> None:
    def section(name: str, searches: Mapping[str, Any]) -> str:
        return Options(planned({"students": {name: {**VANILLA, "searches": searches}}})).system(name)

    one = section("a", {"x": {"kind": "argmax"}})
    assert one == section("b", {"y": {"kind": "argmax"}, **RESCORED})
    assert one != section("a", {"x": {"kind": "argmax", "length_beam": 2}})
    assert not {"seeds", "checkpoint"} & set(json.loads(one))
    assert list(json.loads(one)["searches"]) == ["validation"]


def test_shortlists_are_made_from_the_training_text() -> None:
    assert planned({}).shortlist_text() == [f"{R}/encoded/train.parquet"]
    assert planned({"latency": {"shortlist_size": 0}}).shortlist_text() == []
    corpus = {"kind": "text", "train": {"source": "a"}, "valid": {"source": "b", "target": "c"}}
    corpus["tests"] = {"t": {"source": "d", "target": "e"}}
    external = {"kind": "command", "arguments": ["cat"]}
    unreferenced = planned({"corpus": corpus, "external_teacher": external, "teacher": None, "students": {"ctc": CTC}})
    assert unreferenced.shortlist_text() == [f"{R}/distilled/encoded.parquet"]
    given = planned({"corpus": corpus, "teacher": None, "students": {"ctc": {**CTC, "checkpoint": "x"}}})
    assert given.shortlist_text() == []


def test_every_search_of_a_first_seed_is_timed() -> None:
    options = Options(planned({"seeds": [1, 2], "students": {"v": {**VANILLA, "searches": RESCORED}}}))
    timed = json.loads(options.timed_systems())
    assert [(t["system"], t["seed"], t["search_name"], t["teacher"]) for t in timed] == [
        ("teacher", 1, "beam", None),
        ("teacher", 1, "greedy", None),
        ("v", 1, "own", None),
        ("v", 1, "rescored", f"{R}/systems/teacher/seed1"),
    ]
    assert timed[2]["checkpoint"] == f"{R}/systems/v/seed1"
    assert timed[2]["search"] == json.loads(options.search("v", "own"))


def test_an_iteration_that_only_a_later_seed_reaches_is_timed_with_that_seed() -> None:
    plan = planned(EM, ended(2, 1))
    timed = {run.system: run.seed for run in plan.timed_runs()}
    assert timed == {"teacher": 3, "em1": 1, "em2-teacher": 2, "em2": 2, "em3-teacher": 2, "em3": 2}
    assert set(checkpoint(f"{R}/systems/em2/seed2")) < set(plan.timed_checkpoints())


def test_a_tuned_search_is_timed_with_what_was_chosen_for_the_seed_that_is_timed() -> None:
    student = {**VANILLA, "searches": RESCORED, "tune": {"own": {"length_beam": [1, 3]}}, "seeds": [4, 5]}
    plan = planned({"students": {"v": student}})
    chosen = f"{R}/tuning/v/seed4/own.json"
    assert plan.timed_tuned_files() == [chosen]
    timed = {entry["search_name"]: entry["search"] for entry in json.loads(Options(plan).timed_systems())}
    assert timed["own"] == f"@{chosen}"
    assert timed["rescored"] == json.loads(Options(plan).search("v", "rescored"))


# ---- modules --------------------------------------------------------------------------------------------------------


def modules_of(changes: Mapping[str, Any] = {}) -> Modules:
    return Modules(planned(changes))


def of_package(modules: set[str], *parts: str) -> set[str]:
    """The modules of these parts of the package."""
    return {module for module in modules if module.split(".")[1] in parts}


def named(modules: set[str]) -> set[str]:
    """All but the metrics' modules."""
    return of_package(modules, "models", "objectives", "search")


def test_a_training_imports_its_model_its_objective_its_first_search_and_its_teacher() -> None:
    students = {"v": {**VANILLA, "searches": RESCORED}, "own": {"objective": {"name": "imitation"}}}
    gru = {"objective": {"name": "imitation"}, "model": {"family": "gru"}}
    modules = modules_of({"students": {**students, "gru": gru}, "pretraining": {}})
    vanilla = "retort.objectives.vanilla"
    assert named(modules.training("v")) == {PARALLEL, vanilla, "retort.search.argmax"}
    imitation = {AUTOREGRESSIVE, "retort.objectives.imitation", "retort.search.beam"}
    assert named(modules.training("own")) == imitation
    assert named(modules.training("gru")) == imitation | {"retort.models.recurrent"}
    assert {"retort.models.janus", "retort.objectives.bart_janus"} <= modules.training("pretrained")
    assert of_package(modules.training("v"), "evaluation")


def test_jobs_of_the_teacher() -> None:
    modules = modules_of(
        {"teacher": {"objective": {"name": "bang"}}, "distillation": {"search": {"kind": "greedy"}, "engine": "torch"}}
    )
    assert modules.distillation() == {"retort.models.bang", "retort.search.greedy"}
    assert modules.labels() == {"retort.models.bang"}
    assert named(modules.guards()) == {"retort.models.bang", "retort.objectives.bang"}
    assert of_package(modules.guards(), "evaluation")


def test_jobs_of_the_loop() -> None:
    modules = modules_of({**EM, "teacher": {"objective": {"name": "bang"}, "seeds": [3]}})
    engine = "retort.export.exact_search"
    bang, beam, vanilla = "retort.models.bang", "retort.search.beam", "retort.objectives.vanilla"
    assert modules.candidates(2, 1) == {bang, beam, engine}
    assert modules.candidates(3, 1) == {AUTOREGRESSIVE, beam, engine}
    assert modules.iteration(2, 1) == {AUTOREGRESSIVE, beam, engine}
    first = {bang, "retort.objectives.bang", PARALLEL, vanilla}
    assert modules.choice(2, 1) == first
    assert modules.choice(3, 1) == first | {AUTOREGRESSIVE, "retort.objectives.autoregressive"}


def test_jobs_of_a_system_and_of_all() -> None:
    changes = {
        "students": {"v": {**VANILLA, "searches": RESCORED}, "ctc": CTC, "dag": {"objective": {"name": "dag"}}},
        "evaluation": {"metrics": ["ROUGE-L", "BLEU"]},
    }
    modules = modules_of(changes)
    search = "retort.search"
    assert modules.scoring("ctc") == {PARALLEL, "retort.objectives.ctc"}
    assert modules.translation("v", "own") == {PARALLEL, f"{search}.argmax"}
    assert modules.translation("v", "rescored") == {PARALLEL, f"{search}.length_parallel", AUTOREGRESSIVE}
    assert named(modules.exposure("teacher")) == {AUTOREGRESSIVE, f"{search}.greedy"}
    kinds = ("beam", "greedy", "argmax", "length_parallel", "ctc_collapse", "dag_path", "joint_viterbi")
    exported = {f"retort.export.{engine}" for engine in EXPORT_ENGINES}
    exported |= {f"retort.export.onnx.{family}" for family in ("parallel", "dag")}
    engines = {f"retort.runtime.{engine}_engine" for engine in ENGINES}
    models = {PARALLEL, AUTOREGRESSIVE, "retort.models.dag"}
    in_numpy = {f"retort.runtime.search.{kind}" for kind in kinds if kind not in ("beam", "greedy")}
    assert modules.latency() == models | {f"{search}.{kind}" for kind in kinds} | exported | engines | in_numpy
    assert len(modules.metrics()) == 2 and modules.metrics() <= modules.exposure("teacher")
    assert modules.corpus() == {"retort.corpus.language.generated"}
    assert modules.scores() == modules.metrics() | {"retort.corpus.language.grammar"}


def test_the_longest_training_starts_first() -> None:
    graph = {"objective": {"name": "dag", "upsampling": 4}}
    short = {**CTC, "training": {"max_updates": 5000}}
    plan = planned({"training": {"max_updates": 10_000}, "students": {"v": VANILLA, "c": CTC, "d": graph, "s": short}})
    assert sorted("vcds", key=plan.training_cost) == ["s", "v", "c", "d"] and plan.training_cost("s") > 1


@pytest.mark.parametrize("key", ["checkpoint_minutes", "max_untrained"])
def test_what_changes_no_weight_is_given_to_a_training_and_decides_nothing(key: str) -> None:
    low, high = (Options(planned({"training": {key: value}})) for value in (0.1, 0.9))
    assert low.system("teacher") != high.system("teacher")
    assert low.deciding("teacher") == high.deciding("teacher")
    assert low.deciding("teacher") != Options(planned({"training": {"warmup": 7}})).deciding("teacher")


def test_the_least_encoder_gap_is_given_to_a_pretraining_and_decides_nothing() -> None:
    objectives = ({"name": "bart_janus", "least_encoder_gap": gap} for gap in (0.2, 0))
    sections = ({"system": {"objective": objective}} for objective in objectives)
    low, none = (Options(planned({"vocabulary": {"joint": True}, "pretraining": section})) for section in sections)
    assert low.system("pretrained") != none.system("pretrained")
    assert low.deciding("pretrained") == none.deciding("pretrained")


def test_the_files_of_a_learned_metric_are_those_of_its_command(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("print()")
    command = ["python", str(tmp_path / "worker.py"), "--model", "comet"]
    plan = planned({"evaluation": {"learned": {"COMET": {"command": command}}}})
    assert plan.learned_files("COMET") == [str(tmp_path / "worker.py")]
