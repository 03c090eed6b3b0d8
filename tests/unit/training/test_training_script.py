"""train_system by hand: what it writes, what decides whether a state is its own, and where it starts from."""

import hashlib
import json
import shutil

import pytest
import torch

from retort.data.parquet import read_provenance, read_table
from retort.data.provenance import file_digest
from retort.data.tables import TRAINING_LOG
from retort.data.vocabulary import Vocabulary
from retort.models.checkpoint import load_checkpoint, read_description, read_weights, save_checkpoint
from tests.unit.fakes_runs import STUDENT, TEACHER, TEST_PAIRS, TRAIN_PAIRS, call, changed, make_tables
from tests.unit.fakes_training import Stop
from workflow_scripts import train_system

FEW = changed(TEACHER, "training", max_updates=6, validate_every=3, warmup=2)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def trained(tables):
    return tables.train(FEW, tables.root / "trained")


def test_writes_a_checkpoint_and_a_log_and_keeps_its_state_until_they_are_recorded(tables, trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {"model.json", "model.safetensors", "source.model", "target.model", "training.parquet", "events"}
    assert [path.read_text() for path in (tables.root / "state").glob("*/finished")] == [f"{trained}/model.safetensors"]
    facts = json.loads((trained / "model.json").read_text())
    assert (facts["seed"], facts["data"], facts["training_pairs"]) == (1, "raw", TRAIN_PAIRS)
    assert (facts["updates"], facts["stopped_by"]) == (6, "max_updates")
    assert facts["parameters"] == sum(tensor.numel() for tensor in read_weights(trained).values())
    assert set(facts["validation"]) == {"loss", "nll", "BLEU", "chrF"}
    model = load_checkpoint(trained, torch.device("cpu")).model
    assert model.config.d_model == FEW["model"]["d_model"]
    rows = read_table(trained / "training.parquet", TRAINING_LOG).to_pylist()
    assert {row["update"] for row in rows if row["split"] == "valid"} == {3, 6}
    assert read_provenance(trained / "training.parquet") == facts["provenance"]
    assert facts["provenance"]["inputs"] == {
        "train": file_digest(tables.encoded / "train.parquet"),
        "valid": file_digest(tables.encoded / "valid.parquet"),
        "vocabulary": facts["vocabulary"],
    }


def test_the_same_command_makes_the_same_weights_and_another_seed_others(tables, trained, tmp_path):
    again, other = tables.train(FEW, tmp_path / "again"), tables.train(FEW, tmp_path / "other", seed=2)
    weights = [(path / "model.safetensors").read_bytes() for path in (trained, again, other)]
    assert weights[0] == weights[1] != weights[2]


@pytest.fixture
def begun(tables, tmp_path, monkeypatch):
    """Begin a training; returns the trainer as it would start."""
    made = []

    def run(trainer, log_directory):
        made.append(trainer)
        raise Stop

    monkeypatch.setattr(train_system.Trainer, "run", run)

    def begin(system, output="output", state="state", **options):
        arguments = tables.training(system, tmp_path / output, tmp_path / state, **options)
        with pytest.raises(Stop):
            call(train_system, *arguments)
        return made[-1]

    return begin


def test_a_state_belongs_to_all_that_decides_a_training(tables, begun, monkeypatch):
    def key(system, **options):
        return begun(system, **options).state.directory.name

    own = key(FEW)
    assert key(changed(FEW, "training", checkpoint_minutes=0.5)) == own, "how often it is saved decides nothing"
    assert key(changed(FEW, "training", max_untrained=0.9)) == own, "a bound changes no weight"
    others = [
        key(changed(FEW, "training", learning_rate=0.02)),
        key(changed(FEW, "training", precision="bfloat16")),
        key(changed(FEW, "model", dropout=0.3)),
        key(changed(FEW, "objective", label_smoothing=0.0)),
        key({**FEW, "searches": {"g": {"kind": "beam"}}}),
        key(FEW, seed=2),
        key(FEW, data="distilled"),
        key(FEW, train=tables.encoded / "valid.parquet"),
        key(FEW, valid=tables.encoded / "train.parquet"),
        # systems that train alike have a state each
        key(FEW, output="other"),
    ]
    monkeypatch.setattr(train_system, "code_digest", lambda *arguments, **options: "edited")
    others.append(key(FEW))
    assert len({own, *others}) == 1 + len(others)


def test_a_state_moves_with_its_run(begun):
    here, moved = begun(FEW), begun(FEW, output="moved/output", state="moved/state")
    assert here.state.directory.name == moved.state.directory.name


def test_validation_is_on_the_validation_set(begun):
    trainer = begun(FEW)
    assert (len(trainer.corpus), len(trainer.validator.corpus)) == (TRAIN_PAIRS, TEST_PAIRS)


def test_a_warm_start_takes_the_teacher_s_encoder_and_embeddings(begun, trained):
    student = changed(STUDENT, "training", warm_start="teacher_encoder")
    cold = dict(begun(STUDENT).model.named_parameters())
    warm = dict(begun(student, start=trained).model.named_parameters())
    teacher = read_weights(trained)
    for name, parameter in warm.items():
        expected = teacher[name] if name.startswith(("encoder.", "embeddings.")) else cold[name]
        assert torch.equal(parameter, expected), name
    assert not torch.equal(warm["embeddings.source"], cold["embeddings.source"])
    deeper = changed(student, "model", encoder_layers=3)
    assert torch.equal(
        dict(begun(deeper, start=trained).model.named_parameters())["encoder.layers.0.attention.input.weight"],
        teacher["encoder.layers.0.attention.input.weight"],
    )


@pytest.mark.parametrize("start", ["previous", "seqkd"])
def test_a_start_from_the_iteration_before_or_another_system_takes_all_weights(begun, trained, start):
    again = changed(FEW, "training", warm_start=start)
    previous, warm = read_weights(trained), dict(begun(again, start=trained, seed=2).model.named_parameters())
    assert set(previous) == set(warm)
    for name, parameter in warm.items():
        assert torch.equal(parameter, previous[name]), name


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (changed(TEACHER, "model", ffn=48), "to start from it model.ffn must be "),
        (changed(TEACHER, "model", activation="gelu"), "to start from it model.activation must be 'relu'"),
        (changed(TEACHER, "model", decoder_layers=2), "to start from it model.decoder_layers must be 1"),
        (STUDENT, "trained as autoregressive; a model trained as vanilla cannot start from it"),
    ],
    ids=["width", "activation", "depth", "family"],
)
def test_a_start_from_weights_of_another_shape_is_refused(tables, trained, tmp_path, capsys, system, message):
    system = changed(system, "training", warm_start="previous")
    with pytest.raises(SystemExit) as end:
        call(train_system, *tables.training(system, tmp_path / "output", tmp_path / "state", start=trained))
    error = capsys.readouterr().err
    assert end.value.code == 2 and f"{trained}: {message}" in error


@pytest.mark.parametrize("kind", ["previous", "teacher_encoder"])
def test_a_start_with_another_vocabulary_is_refused(tables, trained, tmp_path, capsys, kind):
    other = shutil.copytree(trained, tmp_path / "other")
    description = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps(description | {"vocabulary": "0123"}))
    system = changed(FEW, "training", warm_start=kind)
    with pytest.raises(SystemExit) as end:
        call(train_system, *tables.training(system, tmp_path / "output", tmp_path / "state", start=other))
    assert end.value.code == 2 and f"{other}: trained with another vocabulary" in capsys.readouterr().err


def test_a_warm_start_is_part_of_the_key_and_needs_a_teacher(tables, begun, trained, tmp_path, capsys):
    student = changed(STUDENT, "training", warm_start="teacher_encoder")
    other = tables.root / "other"
    if not other.exists():
        weights = {name: weight + 1e-3 for name, weight in read_weights(trained).items()}
        save_checkpoint(other, weights, read_description(trained), Vocabulary.load(trained))
    keys = {begun(student, start=teacher).state.directory.name for teacher in (trained, other)}
    assert len(keys) == 2
    with pytest.raises(SystemExit) as end:
        call(train_system, *tables.training(student, tmp_path / "output", tmp_path / "state"))
    assert end.value.code == 2 and "no --start was given" in capsys.readouterr().err


IMITATION = {**FEW, "objective": {"name": "imitation", "beta": {"schedule": "constant", "share": 0.5}}}


def test_a_teacher_labels_the_training_and_is_part_of_the_key(tables, begun, trained, tmp_path, capsys):
    asked = begun(IMITATION, teacher=trained)
    assert not asked.teacher.training and asked.teacher.dtype == asked.model.dtype
    weights = read_weights(trained)
    assert all(torch.equal(p, weights[name]) for name, p in asked.teacher.named_parameters())
    other = shutil.copytree(trained, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    description = json.loads((other / "model.json").read_text())
    description["weights"] = hashlib.sha256(weights).hexdigest()
    (other / "model.json").write_text(json.dumps(description))
    assert begun(IMITATION, teacher=other).state.directory.name != asked.state.directory.name
    assert begun(FEW, teacher=trained).teacher is None
    with pytest.raises(SystemExit) as end:
        call(train_system, *tables.training(IMITATION, tmp_path / "output", tmp_path / "state"))
    assert end.value.code == 2 and "no --teacher was given" in capsys.readouterr().err
    longer = changed(IMITATION, "model", max_length=300)
    with pytest.raises(SystemExit):
        call(train_system, *tables.training(longer, tmp_path / "output", tmp_path / "state", teacher=trained))
    assert "a teacher of at most 256 tokens cannot read the text of a student of up to 300" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["transformer", "gru"])
def test_a_student_that_imitates_is_trained(tables, trained, tmp_path, family):
    student = changed(IMITATION, "model", family=family)
    found = tables.train(student, tmp_path / "student", teacher=trained)
    facts = json.loads((found / "model.json").read_text())
    assert facts["provenance"]["inputs"]["teacher"] == file_digest(trained / "model.safetensors")
    model = load_checkpoint(found, torch.device("cpu")).model
    assert model.config.family == family


def test_a_pair_longer_than_the_model_is_named(tables, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        refusing = changed(changed(FEW, "model", max_length=16), "training", long_pairs="refuse")
        tables.train(refusing, tmp_path / "output")
    error = capsys.readouterr().err
    assert end.value.code == 2 and "train.parquet" in error and "first id" in error and "model.max_length" in error
    assert not (tmp_path / "output").exists()
