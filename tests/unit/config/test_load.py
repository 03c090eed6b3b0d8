"""A configuration is complete or refused with every problem, its path and what would be right."""

from __future__ import annotations

import copy
import json
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from retort import cli
from retort.config import GeneratedCorpus, TextCorpus
from retort.config import reference as config_docs
from retort.config.files import local_files, merged, read_yaml
from retort.config.load import load_config, load_files, to_json
from retort.config.reference import main
from retort.errors import RetortError

ROOT = Path(__file__).resolve().parents[3]
BASE: dict[str, Any] = {
    "name": "run",
    "corpus": {"kind": "generated"},
    "teacher": {"objective": {"name": "autoregressive"}},
    "students": {"ctc": {"objective": {"name": "ctc"}, "data": "distilled"}, "v": {"objective": {"name": "vanilla"}}},
}
COUNTING = {"a": {"kind": "ctc_collapse"}, "b": {"kind": "ctc_beam", "ngrams": {"data": "distilled"}}}
STORED = {"name": "imitation", "labels": "stored", "beta": {"schedule": "constant", "share": 1}}
PAIR = {side: [{"location": side}] for side in ("source", "target")}


def problems(**changes: Any) -> list[str]:
    raw = {**copy.deepcopy(BASE), **changes}
    with pytest.raises(RetortError) as caught:
        load_config(raw)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("configuration: ")
    assert lines[0].endswith(f" {len(lines) - 2} problem{'s' if len(lines) > 3 else ''}:".lstrip())
    return [line.strip() for line in lines[1:-1]]


def text_corpus(**changes: Any) -> dict[str, Any]:
    """A corpus whose test set has several references; ``changes`` are of its training pair."""
    test = {"source": [{"location": "s"}], "references": [{"location": "r"}]}
    valid = {**test, "source": [{"location": "v"}]}
    return {"corpus": {"kind": "text", "train": {**PAIR, **changes}, "valid": valid, "tests": {"t": test}}}


def with_student(**keys: Any) -> dict[str, Any]:
    return {"students": {"ctc": {"objective": {"name": "ctc"}, **keys}}}


def test_systems_start_from_the_shared_sections() -> None:
    raw = {**copy.deepcopy(BASE), "training": {"max_updates": 77, "warmup": 7}, "model": {"d_model": 64}}
    raw["students"]["ctc"]["training"] = {"warmup": 5}
    config = load_config(raw)
    assert (config.students["ctc"].training.max_updates, config.students["ctc"].training.warmup) == (77, 5)
    assert config.teacher is not None
    assert (config.teacher.training.warmup, config.teacher.model.d_model) == (7, 64)
    assert list(config.students["ctc"].searches) == ["collapse"]


def test_the_resolved_configuration_loads_as_itself() -> None:
    config = load_config(BASE)
    assert load_config(json.loads(to_json(config))) == config


@pytest.mark.parametrize("search", ["beam", "greedy"])
def test_a_search_without_options_is_its_name(search: str) -> None:
    config = load_config({**BASE, "distillation": {"search": search}, "evaluation": {"exposure": {"search": search}}})
    assert config.distillation.search.kind == config.evaluation.exposure.search.kind == search


def test_empty_sections_are_as_if_left_out() -> None:
    assert load_config({**BASE, "training": None, "students": None}) == load_config({**BASE, "students": {}})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sedes": [1]}, "sedes: unknown key; did you mean seeds?"),
        (with_student(training={"learnin_rate": 1}), "students.ctc.training.learnin_rate: unknown key; did you mean"),
        (
            {"students": {"c": {"objective": {"name": "ctcc"}}}},
            "students.c.objective.name: unknown value 'ctcc'; did you mean ctc?",
        ),
        (with_student(objective={"name": "ctc", "upsample": 2}), "students.ctc.objective.upsample: unknown key; did"),
        (with_student(data="distilld"), "students.ctc.data: unknown value 'distilld'; did you mean distilled?"),
        (with_student(objective={}), "students.ctc.objective.name: missing"),
        ({"students": {"a b": {"objective": {"name": "ctc"}}}}, "students.a b: 'a b' is not allowed here; use letters"),
        ({"name": "../up"}, "name: '../up' is not allowed here; use letters"),
        ({"corpus": {"kind": "text"}}, "corpus.train: missing; it must be given: Training pairs."),
        ({"corpus": {"kind": "generated", "train_pairs": 0}}, "corpus.train_pairs: must be greater than or equal to 1"),
        ({"model": {"d_model": 30, "heads": 4}}, "model: heads (4) must divide d_model (30)"),
        ({"latency": {"batch_sizes": [1, "x"]}}, "latency.batch_sizes[1]: must be a valid integer"),
        ({"latency": {"batch_sizes": [1, 1]}}, "latency.batch_sizes: [1, 1] repeats"),
        ({"latency": {"engines": ["onnx", "onnx"]}}, "latency.engines: ['onnx', 'onnx'] repeats"),
        ({"latency": {"engines": []}}, "latency.engines: must have at least 1"),
        ({"evaluation": {"exposure": {"shares": [0.5, 0.5]}}}, "evaluation.exposure.shares: [0.5, 0.5] repeats"),
        ({"seeds": [3, 3]}, "seeds: [3, 3] repeats a seed"),
        ({"seeds": [-1]}, "seeds: [-1]: seeds are 0 or above"),
        ({"seeds": [2**63]}, "seeds: [9223372036854775808]: seeds are 0 or above, and below 2 to the 63"),
        ({"training": {"betas": [1.5, 0.9]}}, "training.betas[0]: must be less than 1"),
        ({"model": {"dropout": 1}}, "model.dropout: must be less than 1"),
        (with_student(model={"attention_dropout": 1}), "students.ctc.model.attention_dropout: must be less than 1"),
        ({"teacher": {"objective": {"name": "ctc"}}}, "teacher.objective.name: the teacher must be autoregressive"),
        ({"teacher": {"objective": {"name": "imitation"}}}, "teacher.objective.name: the teacher must be autoregress"),
        (
            {"teacher": {"objective": {"name": "autoregressive"}, "model": {"family": "gru"}}},
            "teacher.model.family: the teacher must be a Transformer",
        ),
        (
            with_student(data="interpolated") | {"distillation": {"search": {"kind": "greedy"}}},
            "students.ctc.data: interpolated needs distillation.search.kind beam, not greedy",
        ),
        (
            with_student(model={"family": "gru"}),
            "students.ctc: a recurrent model cannot be trained as ctc; use autoregressive or imitation",
        ),
        (
            {"teacher": {"objective": {"name": "autoregressive"}, "data": "distilled"}},
            "teacher.data: the teacher makes the distilled data",
        ),
        (
            {"students": {"teacher": {"objective": {"name": "ctc"}}}},
            "students.teacher: this name is the teacher's",
        ),
        ({"evaluation": {"baseline": "tacher"}}, "evaluation.baseline: no system is named 'tacher'; did you mean teac"),
        (
            {"evaluation": {"baselines": {"teacher": "tacher"}}},
            "evaluation.baselines.teacher: no system is named 'tach",
        ),
        ({"evaluation": {"baselines": {"teacher": ["teacher", "tacher"]}}}, "evaluation.baselines.teacher: no system"),
        (
            {"evaluation": {"baselines": {"teacher": "teacher/beam"}}},
            "evaluation.baselines.teacher: teacher has no search 'beam'",
        ),
        ({"evaluation": {"baselines": {"teacher": []}}}, "evaluation.baselines.teacher: names no system"),
        ({"evaluation": {"baselines": {"tacher": "teacher"}}}, "evaluation.baselines.tacher: no system is named 'tach"),
        (
            {"distillation": {"search": {"kind": "argmax"}}},
            "distillation.search.kind: an autoregressive teacher cannot",
        ),
        (
            {"distillation": {"engine": "ctranslate2", "search": {"kind": "beam", "beam_size": 1}}},
            "distillation: engine ctranslate2 has beams of two and more, found search.beam_size 1; set engine to auto",
        ),
        (
            with_student(objective={**STORED, "top_k": 201}) | {"vocabulary": {"size": 200}},
            "students.ctc.objective.top_k: 201 tokens per position are more than the vocabulary has (vocabulary.size",
        ),
        (
            with_student(searches=COUNTING) | {"vocabulary": {"size": 65_535}},
            "students.ctc.searches.b: n-grams have at most 65,534 different tokens, and vocabulary.size is 65,535",
        ),
        (
            with_student(searches={"x": {"kind": "beam"}}),
            "students.ctc: search 'x' is beam, which objective ctc cannot use; it can use ctc_collapse",
        ),
        (with_student(tune={"x": {}}), "students.ctc.tune.x: names no search of the system; it can be collapse"),
        (
            with_student(tune={"collapse": {"beta": [1]}}),
            "students.ctc.tune.collapse.beta: ctc_collapse has no number of this name; it has blank_penalty",
        ),
        (
            with_student(training={"warm_start": "teacher_encoder"}, model={"encoder_layers": 2}),
            "students.ctc.model.encoder_layers: warm_start teacher_encoder needs at least the teacher's 4, found 2",
        ),
        ({"evaluation": {"metrics": ["ROUGE"]}}, "evaluation.metrics[0]: unknown value 'ROUGE'; did you mean ROUGE-"),
        ({"evaluation": {"metrics": ["TER", "BLEU"]}}, "evaluation: metrics: TER cannot lead; put one of BLEU, chrF"),
        ({"evaluation": {"metrics": ["BLEU", "BLEU"]}}, "evaluation: metrics: BLEU, BLEU names one twice"),
        (
            {"evaluation": {"metrics": ["ROUGE-2"]}, "training": {"decode_sentences": 0}},
            "training: select_by ROUGE-2 needs decode_sentences above 0",
        ),
        (text_corpus(references=[{"location": "r"}]), "corpus.train: give target, or references instead of it"),
        (text_corpus(target=[{"location": "a"}] * 2), "corpus.train: 1 source and 2 target texts; give as many"),
        (text_corpus(target=[], references=[{"location": "r"}]), "corpus: train needs target, one for each source"),
        (text_corpus(target=[{"location": "a", "layout": "json"}]), "corpus.train.target[0]: field is the part that"),
        (text_corpus(target=[{"location": "a", "field": "x"}]), "corpus.train.target[0]: field is the part that"),
        (
            text_corpus(target=[{"location": "a", "field": "x", "layout": "json", "column": 1}]),
            "corpus.train.target[0]: column is for tab-separated lines",
        ),
        (
            text_corpus() | {"corpus": {**text_corpus()["corpus"], "tests": {"valid": PAIR}}},
            "corpus.tests.valid: this name is a split's; choose another one",
        ),
        (
            {"model": {"truncate_sources": True}, **with_student(model={"max_length": 64})},
            "students.ctc.model.max_length: sources are cut for all systems alike: needs model.max_length, which",
        ),
        (
            with_student(model={"truncate_sources": True}),
            "students.ctc.model.truncate_sources: sources are not cut: needs model.truncate_sources, which is False",
        ),
    ],
)
def test_one_problem(changes: dict[str, Any], expected: str) -> None:
    found = problems(**changes)
    assert len(found) == 1, found
    assert found[0].startswith(expected)


@pytest.mark.parametrize("size", [200, 65_534])
def test_labels_and_ngrams_of_a_whole_vocabulary_are_allowed(size: int) -> None:
    """So is anything of a vocabulary that is given, whose size is another one."""
    systems = [with_student(objective={**STORED, "top_k": 200}), with_student(searches=COUNTING)]
    for system in systems:
        load_config({**BASE, **system, "vocabulary": {"size": size}})
        load_config({**BASE, **system, "vocabulary": {"size": 100 if size == 200 else 100_000, "path": "given"}})


BANG = {"objective": {"name": "bang", "nar_ratio": 0}}


@pytest.mark.parametrize(
    ("changes", "decodes"),
    [
        ({}, True),
        ({"students": {"s": {"objective": {"name": "ctc"}, "data": "interpolated"}}}, True),
        ({"students": {"s": {"objective": {"name": "ctc"}, "searches": COUNTING}}}, True),
        ({"students": {"s": {"objective": {"name": "ctc"}}}}, False),
        ({"students": {"s": {"objective": {"name": "ctc"}, "data": "distilled", "checkpoint": "x"}}}, False),
        ({"distillation": {"engine": "ctranslate2", "corpus": "x"}}, False),
        ({"external_teacher": {"kind": "command", "arguments": ["cat"]}}, False),
        ({"distillation": {"engine": "auto"}}, False),
        ({"teacher": BASE["teacher"]}, False),
    ],
)
def test_ctranslate2_is_the_engine_of_teachers_that_it_has(changes: dict[str, Any], decodes: bool) -> None:
    raw = {"teacher": BANG, "distillation": {"engine": "ctranslate2"}, **changes}
    if not decodes:
        load_config({**BASE, **raw})
        return
    (found,) = problems(**raw)
    assert found.startswith("distillation.engine: CTranslate2 decodes autoregressive Transformers, and the teacher is")
    assert found.endswith("of the bang family; use auto or torch")


def test_the_first_metric_chooses_checkpoints_where_nothing_else_is_said() -> None:
    assert {s.training.select_by for s in load_config(BASE).systems.values()} == {"BLEU"}
    config = load_config(
        {**copy.deepcopy(BASE), "evaluation": {"metrics": ["ROUGE-L", "BLEU"]}, "em": {"iterations": 2}}
    )
    assert {system.training.select_by for system in config.systems.values()} == {"ROUGE-L"}
    assert load_config(json.loads(to_json(config))) == config
    raw = {**with_student(training={"select_by": "loss"}), "evaluation": {"metrics": ["ROUGE-L"]}}
    config = load_config({**BASE, **raw, "training": {"select_by": "chrF"}})
    assert [system.training.select_by for system in config.systems.values()][:2] == ["chrF", "loss"]


def test_references_are_texts_of_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETORT_MIRROR", raising=False)
    config = load_config({**BASE, **text_corpus()})
    assert local_files(config.corpus.texts, config) == ["source", "target", "v", "r", "s"]


def test_tied_embeddings_need_a_joint_vocabulary() -> None:
    found = problems(vocabulary={"joint": False})
    assert len(found) == 1
    assert "model.tied" in found[0]
    assert "vocabulary.joint" in found[0]
    load_config({**BASE, "vocabulary": {"joint": False}, "model": {"tied": "output"}})


def test_a_problem_of_a_shared_section_is_said_once_where_it_was_written() -> None:
    found = problems(training={"learnin_rate": 1, "warmup": -1})
    assert [line.partition(":")[0] for line in found] == ["training.warmup", "training.learnin_rate"]
    assert problems(training={"max_updates": 5, "warmup": 9}) == ["training: warmup (9) must be below max_updates (5)"]
    found = problems(training={"warmup": -1}, em={"iterations": 2}, pretraining={"block_tokens": 16})
    assert [line.partition(":")[0] for line in found] == ["training.warmup"]
    found = problems(training={"max_updates": 5, "warmup": 9}, em={"iterations": 2}, pretraining={})
    assert found == ["training: warmup (9) must be below max_updates (5)"]


def test_a_problem_of_numbers_without_a_point_is_said_once() -> None:
    found = problems(**with_student(self_paced={"warmup": 1, "full": 0}))
    assert found == ["students.ctc.self_paced: warmup (1.0) must be below full (0.0)"]


def test_sections_that_are_no_mappings_are_named() -> None:
    for section in ("training", "model", "em", "pretraining", "teacher"):
        found = problems(**{section: "text"}, **({} if section == "pretraining" else {"pretraining": {}}))
        assert any(line.startswith(f"{section}: must be a section of keys") for line in found), (section, found)


def test_a_system_that_breaks_a_shared_section_itself_is_named() -> None:
    found = problems(training={"max_updates": 50, "warmup": 9}, **with_student(training={"warmup": 60}))
    assert found == ["students.ctc.training: warmup (60) must be below max_updates (50)"]


def test_all_problems_come_at_once() -> None:
    found = problems(
        sedes=[1],
        corpus={"kind": "generated", "sead": 1},
        evaluation={"baseline": "nobody"},
        teacher={"objective": {"name": "vanilla"}},
        students={"teacher": {"objective": {"name": "ctc"}}, "x": {"objective": {"name": "cmlm"}, "daata": "raw"}},
    )
    assert {line.partition(":")[0] for line in found} == {
        *("sedes", "corpus.sead", "evaluation.baseline", "teacher.objective.name", "students.teacher"),
        "students.x.daata",
    }


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(RetortError, match="no such file"):
        load_config(path)
    for text, message in (
        ("- 1", "expected a mapping"),
        ("a: [", "not readable as YAML"),
        ("a: 1\na: 2", "appears twice"),
    ):
        path.write_text(text)
        with pytest.raises(RetortError, match=message):
            read_yaml(path)
    path.write_text(yaml.safe_dump({**BASE, "sedes": [1]}))
    with pytest.raises(RetortError, match=r"c\.yaml: 1 problem:"):
        load_config(path)


def write_files(folder: Path, **contents: Any) -> None:
    for name, content in contents.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))


def test_a_file_starts_from_those_it_includes(tmp_path: Path) -> None:
    model = {"d_model": 32, "ffn": 48, "heads": 2}
    write_files(
        tmp_path,
        run={**BASE, "include": ["shared/corpus.yaml", "shared/model.yaml"], "model": {"heads": 4}},
        shared__corpus={"include": ["../deep/seeds.yaml"], "corpus": {"train_pairs": 70, "synonyms": 0.1}},
        shared__model={"model": model, "seeds": [3]},
        deep__seeds={"seeds": [8], "evaluation": {"baseline": "v"}},
    )
    config = load_config(tmp_path / "run.yaml")
    assert config.corpus == GeneratedCorpus(kind="generated", train_pairs=70, synonyms=0.1)
    assert (config.model.d_model, config.model.ffn, config.model.heads) == (32, 48, 4)
    assert config.seeds == [3], "the later of two included files overrides the earlier one"
    assert config.evaluation.baseline == "v"
    assert "include" not in json.loads(to_json(config))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": {"include": ["b.yaml"]}}, r"a\.yaml: include: no file .*b\.yaml; expected a path relative to "),
        ({"a": {"include": "b.yaml"}, "b": {}}, r"a\.yaml: include must be a list of paths, found 'b.yaml'"),
        ({"a": {"include": [{}]}}, r"a\.yaml: include must be a list of paths"),
        ({"a": {"include": ["a.yaml"]}}, r"a\.yaml: includes itself: .*a\.yaml > .*a\.yaml"),
        (
            {"a": {"include": ["b.yaml"]}, "b": {"include": ["c__d.yaml"]}, "c__d": {"include": ["../a.yaml"]}},
            r"b\.yaml: include: no file .*c__d\.yaml",
        ),
        (
            {"a": {"include": ["b.yaml"]}, "b": {"include": ["c/d.yaml"]}, "c__d": {"include": ["../b.yaml"]}},
            r"a\.yaml: includes itself: .*a\.yaml > .*b\.yaml > .*d\.yaml > .*b\.yaml; remove one",
        ),
        (
            {"a": {"include": ["b.yaml"]}, "b": "x: 1\nx: 2"},
            r"b\.yaml: line 2, column 1: not readable as YAML: key 'x' appears twice",
        ),
    ],
)
def test_includes_that_cannot_be_followed(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    write_files(tmp_path, **files)
    with pytest.raises(RetortError, match=message):
        read_yaml(tmp_path / "a.yaml")


def test_two_files_may_include_the_same_one(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        a={"include": ["b.yaml", "c.yaml"]},
        b={"include": ["d.yaml"], "y": 1},
        c={"include": ["d.yaml"]},
        d={"x": 1},
    )
    assert read_yaml(tmp_path / "a.yaml") == {"x": 1, "y": 1}


def test_only_a_file_includes() -> None:
    assert problems(include=["a.yaml"]) == ["include: only a file can include others; give it with --configfile"]


def test_paths_that_are_not_there_are_all_named(tmp_path: Path) -> None:
    raw = copy.deepcopy(BASE)
    raw["teacher"]["checkpoint"] = str(tmp_path)
    raw["vocabulary"] = {"path": str(tmp_path / "v")}
    raw["distillation"] = {"corpus": str(tmp_path / "{d}.parquet")}
    with pytest.raises(RetortError) as caught:
        load_config(raw, texts=True)
    for part in ("teacher.checkpoint", "vocabulary.path", "distillation.corpus", "holds a brace"):
        assert part in str(caught.value)


def test_a_given_checkpoint_was_trained_as_the_configuration_says(tmp_path: Path) -> None:
    for name in ("model.safetensors", "source.model", "target.model"):
        (tmp_path / name).touch()
    raw = copy.deepcopy(BASE)
    raw["teacher"]["checkpoint"] = str(tmp_path)
    (tmp_path / "model.json").write_text('{"objective": {"name": "autoregressive"}, "model": {}}')
    load_config(raw, texts=True)
    (tmp_path / "model.json").write_text('{"objective": {"name": "janus"}, "model": {}}')
    with pytest.raises(RetortError, match="teacher.checkpoint: .* was trained as janus; .* objective autoregressive"):
        load_config(raw, texts=True)


def test_local_files_leave_out_downloads_and_what_a_mirror_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RETORT_MIRROR", raising=False)
    here = tmp_path / "here.txt"
    here.write_text("a\n")
    pair = {"source": [{"location": str(here)}], "target": [{"location": "away.txt"}]}
    far = {"source": [{"location": "https://example.org/a"}], "target": [{"location": "https://example.org/b"}]}
    raw = {**BASE, "corpus": {"kind": "text", "train": pair, "valid": far, "tests": {"t": pair}}}
    config = load_config(raw)
    assert local_files(config.corpus.texts, config) == [str(here), "away.txt"]
    raw["corpus"]["mirror"] = str(tmp_path)
    config = load_config(raw)
    assert local_files(config.corpus.texts, config) == [str(here)]


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_every_configuration_loads(path: Path) -> None:
    assert load_config(path).name == ("default" if path.stem == "config" else path.stem)


INCLUDED = ("corpora", "quality")
SECOND_FILES = [path for path in (ROOT / "configs").glob("*/*.yaml") if path.parent.name not in INCLUDED]


@pytest.mark.parametrize("path", sorted(SECOND_FILES), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_second_file_loads_over_its_first(path: Path) -> None:
    first = read_yaml(path.parent.with_suffix(".yaml"))
    assert load_config(merged(first, read_yaml(path))).name.startswith(f"{first['name']}-")


@pytest.mark.parametrize("path", sorted((ROOT / "configs/corpora").glob("*.yaml")), ids=lambda p: p.stem)
def test_what_is_in_corpora_is_shared(path: Path) -> None:
    including = [p for p in (ROOT / "configs").glob("*.yaml") if f"include: [corpora/{path.name}]" in p.read_text()]
    assert len(including) > 1, "a corpus of one run alone belongs in that run's file"
    assert set(read_yaml(path)) == {"corpus", "cleaning"}


def test_generated_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, name in (("--schema", "config.schema.json"), ("--table", "docs/configuration.md")):
        main([flag])
        assert capsys.readouterr().out == (ROOT / name).read_text(), f"{name} is out of date: make schema"
    with pytest.raises(SystemExit):
        main([])


def test_every_key_is_described() -> None:
    undescribed = [
        line for line in config_docs.table().splitlines() if line.startswith("| `") and line.endswith("|  |")
    ]
    assert {line.split("`")[1] for line in undescribed} <= {"kind", "name"}


def test_a_file_over_another_one_changes_adds_and_drops():
    raw = {"name": "n", "students": {"a": {"data": "raw", "model": {"heads": 2}}, "b": {}}, "evaluation": {"x": 1}}
    over = {"name": "m", "students": {"a": {"model": {"heads": None}}, "b": None, "c": {}}, "vocabulary": None}
    found = merged(raw, over)
    assert found == {
        "name": "m",
        "students": {"a": {"data": "raw", "model": {"heads": None}}, "c": {}},
        "evaluation": {"x": 1},
        "vocabulary": None,
    }
    assert raw["students"]["b"] == {} and raw["students"]["a"]["model"] == {"heads": 2}
    # nothing to drop: a mistake, which the checks name
    assert merged(raw, {"students": {"typo": None}})["students"]["typo"] is None
    baselines = {"evaluation": {"baselines": {"a": "b", "c": "d"}}}
    assert merged(baselines, {"evaluation": {"baselines": {"a": None}}}) == {"evaluation": {"baselines": {"c": "d"}}}


def test_a_section_of_another_kind_replaces_the_one_before() -> None:
    base = {**BASE, "teacher": None, "students": {}, "external_teacher": {"kind": "transformers", "model": "m/m"}}
    layer = {"external_teacher": {"kind": "command", "arguments": ["cat"], "lines": 5}}
    teacher = load_config(merged(base, layer)).external_teacher
    assert teacher is not None and (teacher.kind, teacher.model_dump()["lines"]) == ("command", 5)
    same = merged(layer, {"external_teacher": {"kind": "command", "lines": 6}})
    assert same == {"external_teacher": {"kind": "command", "arguments": ["cat"], "lines": 6}}
    # a test set of this name
    held_out = "external_teacher.held_out"
    sets = merged(nested(held_out, {"kind": "a.tsv", "x": "x.tsv"}), nested(held_out, {"kind": "b.tsv"}))
    assert sets == nested(held_out, {"kind": "b.tsv", "x": "x.tsv"})


@pytest.mark.parametrize(
    ("path", "below", "over", "expected"),
    [
        ("objective", {"name": "ctc", "upsampling": 3}, {"name": "dag", "end": 0}, {"name": "dag", "end": 0}),
        ("objective", {"name": "ctc", "upsampling": 3}, {"upsampling": 2}, {"name": "ctc", "upsampling": 2}),
        ("objective", "ctc", {"upsampling": 2}, {"name": "ctc", "upsampling": 2}),
        ("objective", "ctc", {"name": "dag"}, {"name": "dag"}),
        ("objective", {"name": "ctc", "upsampling": 3}, "ctc", "ctc"),
        ("searches.a", "ctc_beam", {"lm_weight": 1}, {"kind": "ctc_beam", "lm_weight": 1}),
        ("searches.a", {"kind": "ctc_beam", "lm_weight": 1}, {"kind": "ctc_collapse"}, {"kind": "ctc_collapse"}),
        # an option of one section
        ("objective.rollout", {"kind": "sample", "updates": 4}, {"kind": "greedy"}, {"kind": "greedy", "updates": 4}),
    ],
    ids=str,
)
@pytest.mark.parametrize("system", ["teacher", "students.kind", "em.student", "pretraining.system"])
def test_another_objective_or_search_replaces_the_one_before(
    system: str, path: str, below: Any, over: Any, expected: Any
) -> None:
    where = f"{system}.{path}"
    assert merged(nested(where, below), nested(where, over)) == nested(where, expected)


@pytest.mark.parametrize("kind", [{}, {"kind": "text"}], ids=["inferred", "written"])
def test_text_replaces_a_generated_corpus_and_the_other_way_round(kind: dict[str, str]) -> None:
    generated, text = {"kind": "generated", "train_pairs": 50}, {**kind, "train": PAIR, "carve": {"test_pairs": 5}}
    assert merged({"corpus": generated}, {"corpus": text}) == {"corpus": text}
    assert merged({"corpus": text}, {"corpus": generated}) == {"corpus": generated}
    more = merged({"corpus": text}, {"corpus": {"train_pairs": 7}})
    assert more == {"corpus": {**text, "train_pairs": 7}}
    load_config({**BASE, **merged({"corpus": generated}, {"corpus": text})})


def test_a_key_that_the_new_kind_lacks_is_missing_in_its_file(tmp_path: Path) -> None:
    files = [tmp_path / "base.yaml", tmp_path / "layer.yaml"]
    files[0].write_text(f"{json.dumps(BASE)[:-1]}, external_teacher: {{kind: transformers,\n model: m/m}}}}")
    files[1].write_text("external_teacher:\n  kind: openai\n  base_url: http://localhost\n  prompt: '{source}'\n")
    with pytest.raises(RetortError, match=r"external_teacher.model \(.*layer.yaml, line 1\): missing"):
        load_files(files, {})


def nested(path: str, value: dict[str, Any]) -> dict[str, Any]:
    return reduce(lambda inner, key: {key: inner}, reversed(path.split(".")), value)


@pytest.mark.parametrize(
    "path",
    [
        *("students", "corpus.tests", "external_teacher.held_out", "evaluation.learned", "evaluation.baselines"),
        *("teacher.searches", "students.a.tune", "students.tests.searches", "em.student.searches", "em.teacher.tune"),
    ],
)
def test_a_null_drops_what_has_a_name(path: str) -> None:
    below = {"x": {"k": 1}, "y": {}}
    assert merged(nested(path, below), nested(path, {"x": None})) == nested(path, {"y": {}})


@pytest.mark.parametrize("path", ["students.tests", "students.a.searches.tune", "em.guards.tests", "cleaning"])
def test_a_null_is_a_value_of_what_has_no_name(path: str) -> None:
    """A student and a search may be called as a mapping is whose entries a null drops."""
    assert merged(nested(path, {"x": 5}), nested(path, {"x": None})) == nested(path, {"x": None})


def test_a_layer_carves_instead_of_given_splits() -> None:
    pair = {"source": "a", "target": "b"}
    base = {**BASE, "corpus": {"train": pair, "valid": pair, "tests": {"t": pair}}}
    layer: dict[str, Any] = {"corpus": {"valid": None, "tests": {"t": None}, "carve": {}}}
    corpus = load_config(merged(base, layer)).corpus
    assert isinstance(corpus, TextCorpus) and corpus.carve and corpus.test_names == ("test",)
    with pytest.raises(RetortError, match="tests: {<name>: null}"):
        load_config(merged(base, {"corpus": {**layer["corpus"], "tests": {}}}))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": ["1"]}, "seeds[0]: must be a valid integer, found '1'"),
        ({"seeds": [True]}, "seeds[0]: must be a valid integer, found True"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate: must be a finite number, found inf"),
        ({"training": {"epsilon": float("nan")}}, "training.epsilon: must be a finite number, found nan"),
        ({"cleaning": {"max_ratio": float("inf")}}, "cleaning.max_ratio: must be a finite number, found inf"),
        ({"model": {"encoder_layers": 10**9}}, "model.encoder_layers: must be less than or equal to 1000"),
        ({"vocabulary": {"size": 10**12}}, "vocabulary.size: must be less than or equal to 10000000"),
        ({"name": "x" * 300}, "name: has 300 characters; use at most 100"),
        ({"report": {"title": False}}, 'report.title: must be text, found False; quote it: "..."'),
        ({"training": 5, "pretraining": {}}, "training: must be a section of keys, found 5"),
        ({"report": {"title": [[["x"] * 9] * 9] * 9}}, "report.title: must be a valid string, found [["),
    ],
)
def test_values_that_no_run_can_have(changes: dict[str, Any], expected: str) -> None:
    assert any(line.startswith(expected) for line in problems(**changes)), problems(**changes)


@pytest.mark.parametrize("name", ["em" + "9" * 5000, "x" * 300])
def test_names_of_students_that_are_too_long(name: str) -> None:
    found = problems(students={name: {"objective": {"name": "ctc"}}})
    assert any("characters; use at most 100" in line for line in found), found


def test_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("name: x\nseeds: [true]\n")
    monkeypatch.setattr("sys.argv", ["retort", "check", str(path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert f"seeds[0] ({path}, line 2): must be a valid integer, found True\n" in error
    assert "teacher: missing; give teacher or external_teacher, or at least one student" in error
    monkeypatch.setattr("sys.argv", ["retort", "check", str(ROOT / "config.yaml")])
    cli.main()
    assert "no problem" in capsys.readouterr().out


def test_pre_training_that_nothing_starts_from_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["retort", "check", "c.yaml"])
    start = "name: x\ncorpus: {kind: generated}\nteacher: {objective: autoregressive"
    Path("c.yaml").write_text(f"{start}}}\npretraining: {{}}\n")
    cli.main()
    assert capsys.readouterr().out == (
        "note: pretraining (c.yaml, line 4): no system starts from it, so that the target pretraining alone makes it; "
        "set training.warm_start: pretrained\nc.yaml: no problem; results/x would have the systems teacher\n"
    )
    Path("c.yaml").write_text(f"{start}, training: {{warm_start: pretrained}}}}\npretraining: {{}}\n")
    cli.main()
    assert capsys.readouterr().out == "c.yaml: no problem; results/x would have the systems pretrained, teacher\n"
