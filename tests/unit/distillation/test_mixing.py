"""Both targets of a source in one table, by id, what an evaluator says of the references, and training on them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from retort.data.batches import EncodedCorpus
from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.provenance import file_digest
from retort.data.tables import AGREEMENT, CORPUS, ENCODED, MIXED, TRAINING_LOG, TRANSLATIONS
from retort.data.vocabulary import Vocabulary
from retort.distillation import gathering
from retort.distillation.mixing import mix, similarities
from retort.models.checkpoint import load_checkpoint
from retort.objectives import vanilla
from tests.unit.fakes_runs import DECODED, STUDENT, TEACHER, Tables, call, changed, make_tables
from workflow_scripts import gather_mixed, measure_agreement

FEW = changed(STUDENT, "training", max_updates=6, validate_every=3, warmup=2)
COLLAPSE = {"kind": "ctc_collapse"}
MIXED_STUDENT = {**FEW, "data": "mixed"}


def encoded(rows: dict[int, list[int]]) -> pa.Table:
    data = [{"id": number, "source": [number], "target": target} for number, target in rows.items()]
    return pa.Table.from_pylist(data, schema=ENCODED.schema)


def test_targets_stand_side_by_side_and_the_reference_is_first():
    raw, distilled = encoded({9: [1], 2: [2], 5: [3]}), encoded({5: [4], 9: [5]})
    found = mix(raw, distilled, {5: 60.0, 9: 12.5})
    assert found.select(MIXED.names).to_pylist() == [
        {"id": 2, "source": [2], "target": [2], "distilled": False, "similarity": None},
        {"id": 5, "source": [5], "target": [3], "distilled": False, "similarity": 60.0},
        {"id": 5, "source": [5], "target": [4], "distilled": True, "similarity": 60.0},
        {"id": 9, "source": [9], "target": [1], "distilled": False, "similarity": 12.5},
        {"id": 9, "source": [9], "target": [5], "distilled": True, "similarity": 12.5},
    ]


def test_similarity_is_100_for_the_same_text_and_falls():
    found = similarities(["a dog runs", "a dog runs", "xyz"], ["a dog runs", "the dog ran", "a dog runs"])
    assert found[0] == pytest.approx(100) and 100 > found[1] > found[2] == 0
    assert np.isnan(similarities(["a dog runs"], [""])).all(), "there is nothing to compare with"
    partial = similarities(["abcdef gh", "the cat"], ["abc", "the cat sat on the mat"])
    assert partial == pytest.approx([65.5660, 27.2533], abs=1e-3), "what the second text has counts more"


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Tables:
    return make_tables(tmp_path_factory.mktemp("tables"))


def translated(tables: Tables, path: Path, changes: dict[int, dict[str, Any]]) -> list[Any]:
    """Arguments of gather_mixed, with translations that are the references but for ``changes`` by row."""
    vocabulary = Vocabulary.load(tables.vocabulary)
    rows = []
    for number, pair in enumerate(read_table(tables.corpus / "train.parquet", CORPUS).to_pylist()):
        row = {"id": pair["id"], "test_set": "train", "rank": 0, "text": pair["target"], "score": 0.0, "passes": 1}
        row |= {**DECODED, "truncated": False, "empty": False, **changes.get(number, {})}
        tokens = vocabulary.encode_target([row["text"]])
        rows.append({**row, "tokens": tokens[0], "text": vocabulary.decode_target(tokens)[0]})
    rows = [row for row in reversed(rows) if row["id"] >= 0]
    write_table(path, TRANSLATIONS, pa.Table.from_pylist(rows, schema=TRANSLATIONS.schema), {"best": 1})
    arguments = {
        "translations": path,
        "corpus": tables.corpus / "train.parquet",
        "train": tables.encoded / "train.parquet",
        "vocabulary": tables.vocabulary,
        "output": path.parent / "mixed.parquet",
    }
    return [part for name, value in arguments.items() for part in (f"--{name}", value)]


@pytest.fixture(scope="module")
def table(tables) -> Path:
    """Of the first source the translation is another one, the second's is cut, the third's empty."""
    changes: dict[int, dict[str, Any]] = {
        0: {"text": "quite another"},
        1: {"truncated": True},
        2: {"text": "", "empty": True},
    }
    arguments = translated(tables, tables.root / "translations.parquet", changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "PART_ROWS", 7)
        call(gather_mixed, *arguments)
    return tables.root / "mixed.parquet"


def test_both_targets_of_each_source_are_gathered_by_id(tables, table):
    found = read_table(table, MIXED)
    raw, distilled = (found.filter(pc.equal(found["distilled"], flag)) for flag in (False, True))
    pairs = read_table(tables.encoded / "train.parquet", ENCODED).sort_by("id")
    assert raw.select(ENCODED.names).equals(pairs)
    ids = pairs["id"].to_pylist()
    assert distilled["id"].to_pylist() == [ids[0], *ids[3:]]
    assert distilled.slice(1).select(ENCODED.names).equals(pairs.slice(3))
    assert distilled["target"][0] != pairs["target"][0]
    similarity = raw["similarity"].to_pylist()
    assert similarity[0] < 50 and similarity[1:3] == [None, None] and min(similarity[3:]) == pytest.approx(100)
    facts = read_provenance(table)
    assert (facts["kept"], facts["truncated"], facts["empty"]) == (len(ids) - 2, 1, 1)
    assert facts["decoding"] == {"best": 1} and 90 < facts["similarity"] < 100
    corpus = EncodedCorpus.read(table, 256, MIXED)
    batch = corpus.batch(np.array([0, 1, 2]))
    assert batch.distilled_b.tolist() == [False, True, False] and batch.ids.tolist() == [ids[0], ids[0], ids[1]]
    assert corpus.select(np.array([1])).distilled.tolist() == [True]


def test_a_source_without_a_reference_has_no_similarity(tables, table, tmp_path):
    """The translations are the same, and of the first five sources there is no reference."""
    arguments = translated(tables, tmp_path / "t.parquet", {0: {"text": "quite another"}})
    corpus = read_table(tables.corpus / "train.parquet", CORPUS).to_pylist()
    ids = [row["id"] for row in corpus[:5]]
    alone = [{**row, "target": "", "references": []} if row["id"] in ids else row for row in corpus]
    write_table(tmp_path / "corpus.parquet", CORPUS, pa.Table.from_pylist(alone, schema=CORPUS.schema))
    pairs = read_table(tables.encoded / "train.parquet", ENCODED).to_pylist()
    alone = [{**row, "target": []} if row["id"] in ids else row for row in pairs]
    write_table(tmp_path / "train.parquet", ENCODED, pa.Table.from_pylist(alone, schema=ENCODED.schema))
    replaced = {"--corpus": tmp_path / "corpus.parquet", "--train": tmp_path / "train.parquet"}
    call(gather_mixed, *arguments, *(part for option in replaced.items() for part in option))
    found = read_table(tmp_path / "mixed.parquet", MIXED).to_pylist()
    assert {row["id"] for row in found if row["similarity"] is None} == set(ids)
    assert read_provenance(tmp_path / "mixed.parquet")["similarity"] == pytest.approx(100)


def test_a_missing_id_is_named(tables, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call(gather_mixed, *translated(tables, tmp_path / "t.parquet", {4: {"id": -1}}))
    assert "1 missing [4]" in capsys.readouterr().err
    arguments = translated(tables, tmp_path / "t.parquet", {})
    shorter = read_table(tables.corpus / "train.parquet", CORPUS).slice(2)
    write_table(tmp_path / "short.parquet", CORPUS, shorter)
    with pytest.raises(SystemExit):
        call(gather_mixed, *(tmp_path / "short.parquet" if "corpus" in str(a) and a != "--corpus" else a
                             for a in arguments))  # fmt: skip
    assert "short.parquet: lacks 2 ids of" in capsys.readouterr().err


@pytest.fixture(scope="module")
def evaluator(tables) -> Path:
    return tables.train(FEW, tables.root / "evaluator")


def measured(tables, evaluator, path) -> Path:
    call(measure_agreement, "--checkpoint", evaluator, "--train", tables.encoded / "train.parquet", "--output", path)
    return path


@pytest.fixture(scope="module")
def agreement(tables, evaluator) -> Path:
    return measured(tables, evaluator, tables.root / "agreement.parquet")


def test_an_evaluator_says_what_it_gets_right_of_each_reference(tables, evaluator, agreement):
    found = read_table(agreement, AGREEMENT)
    model = load_checkpoint(evaluator, torch.device("cpu")).model
    corpus = EncodedCorpus.read(tables.encoded / "train.parquet", 256)
    assert found["id"].to_pylist() == corpus.ids.tolist()
    accuracy = found["accuracy"].to_numpy()
    assert 0 < accuracy.mean() < 1
    for row in (0, 17):
        own = vanilla.agreement(model, corpus.batch(np.array([row])), None)
        assert accuracy[row] == pytest.approx(own.item(), abs=1e-6)
    np.testing.assert_allclose(found["score"].to_numpy(), np.sqrt(accuracy), rtol=1e-6)
    facts = read_provenance(agreement)
    assert facts["checkpoint"] == file_digest(evaluator / "model.safetensors")


def test_an_evaluator_that_aligns_is_compared_by_its_accuracy_itself(tables, tmp_path):
    aligning = tables.train({**FEW, "objective": {"name": "ctc"}, "searches": {"c": COLLAPSE}}, tmp_path / "ctc")
    found = read_table(measured(tables, aligning, tmp_path / "agreement.parquet"), AGREEMENT)
    assert 0 < found["accuracy"].to_numpy().mean() < 1
    assert found["score"].equals(found["accuracy"])


def test_a_model_without_slots_of_the_target_cannot_evaluate(tables, tmp_path, capsys):
    teacher = tables.train(changed(TEACHER, "training", max_updates=3, warmup=1), tmp_path / "teacher")
    with pytest.raises(SystemExit):
        arguments = ("--train", tables.encoded / "train.parquet", "--output", tmp_path / "x.parquet")
        call(measure_agreement, "--checkpoint", teacher, *arguments)
    assert "objective autoregressive cannot evaluate; vanilla or cmlm" in capsys.readouterr().err


MIXTURES = {
    "union": {},
    "weighted": {"mixture": {"kind": "weighted", "weight": 0.25}},
    "selective": {"mixture": {"kind": "selective", "evaluator": "e", "start": 0.2, "slope": 0.6}},
    "self-paced": {"self_paced": {"criterion": "similarity", "warmup": 0.2, "full": 0.99}},
}


@pytest.mark.parametrize("name", MIXTURES)
def test_a_student_learns_from_both_targets(tables, table, agreement, tmp_path, name, monkeypatch):
    monkeypatch.setattr("retort.training.loop.LOG_EVERY", 2)
    options = {"agreement": agreement} if name == "selective" else {}
    found = tables.train({**MIXED_STUDENT, **MIXTURES[name]}, tmp_path / "student", train=table, **options)
    facts = json.loads((found / "model.json").read_text())
    assert facts["data"] == "mixed" and {"mixture", "self_paced"} & set(facts) == set(MIXTURES[name])
    assert facts["provenance"]["inputs"]["train"] == file_digest(table)
    assert ("agreement" in facts["provenance"]["inputs"]) == (name == "selective")
    rows = read_table(found / "training.parquet", TRAINING_LOG).to_pylist()
    assert {r["metric"] for r in rows if r["split"] == "valid"} >= {"loss", "loss_raw", "loss_distilled"}
    kept = {r["metric"]: r["value"] for r in rows if r["split"] == "train" and r["metric"].startswith("kept")}
    if name == "union":
        assert kept == {}
    elif name == "weighted":
        assert kept == {"kept": 1.0, "kept_raw": 1.0, "kept_distilled": 1.0}
    elif name == "selective":
        # one sample of each source, also of the few without a translation
        assert 0.4 < kept["kept"] < 0.7 and kept["kept_raw"] + kept["kept_distilled"] == pytest.approx(1, abs=0.2)
    else:
        assert kept["kept_raw"] < 1 == kept["kept_distilled"]


def test_a_selective_mixture_needs_its_evaluator_s_table(tables, table, agreement, tmp_path, capsys):
    student = {**MIXED_STUDENT, **MIXTURES["selective"]}
    with pytest.raises(SystemExit):
        tables.train(student, tmp_path / "student", train=table)
    assert "no --agreement was given" in capsys.readouterr().err
    write_table(tmp_path / "part.parquet", AGREEMENT, read_table(agreement, AGREEMENT).slice(3))
    with pytest.raises(SystemExit):
        tables.train(student, tmp_path / "student", train=table, agreement=tmp_path / "part.parquet")
    assert "part.parquet: lacks 3 ids of the training text" in capsys.readouterr().err


def test_a_student_learns_where_some_sources_have_no_reference(tables, table, agreement, tmp_path):
    """The tables are those of the others, without some of the references, and without what is said of them."""
    rows = read_table(table, MIXED).to_pylist()
    alone = {row["id"] for row in rows if row["distilled"]} - set(range(20))
    rows = [{**row, "target": row["target"] if row["distilled"] or row["id"] not in alone else []} for row in rows]
    write_table(tmp_path / "mixed.parquet", MIXED, pa.Table.from_pylist(rows, schema=MIXED.schema))
    judged = [row for row in read_table(agreement, AGREEMENT).to_pylist() if row["id"] not in alone]
    write_table(tmp_path / "agreement.parquet", AGREEMENT, pa.Table.from_pylist(judged, schema=AGREEMENT.schema))
    tokens = []
    for name in ("union", "selective"):
        options = {"agreement": tmp_path / "agreement.parquet"} if name == "selective" else {}
        system = {**MIXED_STUDENT, **MIXTURES[name]}
        found = tables.train(system, tmp_path / name, train=tmp_path / "mixed.parquet", **options)
        tokens.append(json.loads((found / "model.json").read_text())["target_tokens"])
    assert 0.8 < tokens[1] / tokens[0] < 1.25, "batches are as large"


def test_of_a_selective_mixture_batches_are_as_large_as_of_others(tables, table, agreement, tmp_path):
    tokens = []
    for name in ("union", "selective"):
        options = {"agreement": agreement} if name == "selective" else {}
        found = tables.train({**MIXED_STUDENT, **MIXTURES[name]}, tmp_path / name, train=table, **options)
        tokens.append(json.loads((found / "model.json").read_text())["target_tokens"])
    assert 0.8 < tokens[1] / tokens[0] < 1.25
