import json
import random
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from retort.config import (
    Autoregressive,
    Axe,
    Bang,
    BangPretraining,
    BartJanus,
    Cmlm,
    Ctc,
    Dag,
    Glat,
    GlatCtc,
    Imitation,
    Janus,
    Model,
    Vanilla,
)
from retort.errors import RetortError
from retort.models.checkpoint import (
    build_model,
    load_checkpoint,
    load_teacher,
    load_weights,
    read_description,
    read_weights,
    save_checkpoint,
)
from retort.models.recurrent import RecurrentModel
from tests.unit.fakes_training import small_vocabulary

CPU = torch.device("cpu")
SHAPE = {"d_model": 8, "heads": 2, "ffn": 8, "encoder_layers": 1, "decoder_layers": 1, "max_length": 16}
OBJECTIVES = [
    Autoregressive(name="autoregressive"),
    Vanilla(name="vanilla"),
    Cmlm(name="cmlm"),
    Janus(name="janus"),
    Bang(name="bang", block=4),
    Axe(name="axe", length_multiplier=1.3),
    Ctc(name="ctc", upsampling=3),
    Glat(name="glat", deep_supervision=True, length_from="slot"),
    GlatCtc(name="glat_ctc", upsampling=3),
    Dag(name="dag", upsampling=3),
    Imitation(name="imitation"),
]


@pytest.fixture(scope="module")
def sentences():
    rng = random.Random(1)
    return [" ".join("".join(rng.choices("abcdefgh", k=4)) for _ in range(5)) for _ in range(100)]


@pytest.fixture(scope="module")
def joint(tmp_path_factory, sentences):
    return small_vocabulary(tmp_path_factory.mktemp("joint"), sentences)


@pytest.fixture(scope="module")
def separate(tmp_path_factory, sentences):
    return small_vocabulary(tmp_path_factory.mktemp("separate"), sentences, joint=False, size=36)


def test_a_recurrent_model_comes_back_and_is_no_teacher(tmp_path, joint):
    model = saved(tmp_path, joint, Imitation(name="imitation"), family="gru")
    loaded = load_checkpoint(tmp_path, CPU).model
    assert isinstance(loaded, RecurrentModel)
    found = dict(loaded.named_parameters())
    assert all(torch.equal(p, found[name]) for name, p in model.named_parameters())
    with pytest.raises(RetortError, match="a recurrent model cannot be a teacher"):
        load_teacher(tmp_path, tmp_path, joint, CPU)


def saved(directory, vocabulary, objective=OBJECTIVES[0], **shape):
    torch.manual_seed(1)
    settings = Model(**{**SHAPE, **shape})
    model = build_model(objective, settings, vocabulary).eval()
    description = {"objective": objective.model_dump(), "model": settings.model_dump(), "updates": 12}
    save_checkpoint(directory, dict(model.named_parameters()), description, vocabulary)
    return model


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
@pytest.mark.parametrize(
    "shape",
    [{}, {"tied": "none", "positions": "learned", "norm": "post", "decoder_layers": 3}],
    ids=["tied", "none"],
)
def test_round_trip(tmp_path, joint, objective, shape):
    model = saved(tmp_path, joint, objective, **shape)
    loaded = load_checkpoint(tmp_path, CPU)
    found = loaded.model
    assert loaded.vocabulary.digest == joint.digest == loaded.description["vocabulary"]
    assert loaded.description["updates"] == 12 and loaded.objective == objective
    assert type(found) is type(model) and not found.training
    weights = dict(found.named_parameters())
    assert {name: p.tolist() for name, p in model.named_parameters()} == {n: p.tolist() for n, p in weights.items()}
    source_bs = torch.tensor([[6, 7, 8, 2], [9, 2, 0, 0]])
    assert torch.equal(found.encode(source_bs)[0], model.encode(source_bs)[0])
    for choice in ("upsampling", "blank", "length_multiplier", "length_slot", "deep_supervision"):
        assert getattr(found, choice, None) == getattr(model, choice, None)


def test_weights_are_stored_in_float32_and_loaded_in_the_wanted_precision(tmp_path, joint):
    model = saved(tmp_path, joint)
    half = {name: p.detach().bfloat16() for name, p in model.named_parameters()}
    save_checkpoint(tmp_path, half, read_description(tmp_path), joint)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}
    found = load_checkpoint(tmp_path, CPU, torch.bfloat16).model
    assert found.dtype == torch.bfloat16


def test_a_checkpoint_is_its_files_and_no_others(tmp_path, joint):
    saved(tmp_path / "one", joint)
    names = ["model.json", "model.safetensors", "source.model", "target.model"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    shutil.rmtree(tmp_path / "one")
    load_checkpoint(tmp_path / "moved", CPU)


def test_the_vocabulary_of_another_training_is_refused(tmp_path, joint, separate):
    saved(tmp_path, joint)
    separate.copy_to(tmp_path)
    with pytest.raises(RetortError, match=f"{tmp_path}: its vocabulary is not the one"):
        load_checkpoint(tmp_path, CPU)


def test_a_teacher_has_the_vocabulary_of_its_student(tmp_path, joint, separate):
    student, teacher = tmp_path / "student", tmp_path / "teacher"
    expected = saved(teacher, joint)
    found = load_teacher(teacher, student, joint, CPU, torch.bfloat16)
    assert type(found) is type(expected) and found.dtype == torch.bfloat16 and not found.training
    with pytest.raises(RetortError, match=f"{teacher}: the teacher's vocabulary is not that of {student};"):
        load_teacher(teacher, student, separate, CPU)


def test_a_teacher_reads_texts_as_long_as_its_student_does(tmp_path, joint):
    saved(tmp_path, joint, max_length=39)
    assert load_teacher(tmp_path, tmp_path, joint, CPU, max_length=39).config.max_length == 39
    with pytest.raises(RetortError, match=f"{tmp_path}: a teacher of at most 39 tokens .* a student of up to 40"):
        load_teacher(tmp_path, tmp_path, joint, CPU, max_length=40)


def test_a_teacher_is_autoregressive(tmp_path, joint):
    saved(tmp_path, joint, OBJECTIVES[1])
    with pytest.raises(RetortError, match=f"{tmp_path}: a parallel model cannot be a teacher"):
        load_teacher(tmp_path, tmp_path / "student", joint, CPU)


@pytest.mark.parametrize(
    "objective",
    [
        Bang(name="bang"),
        BangPretraining(name="bang_pretraining"),
        BartJanus(name="bart_janus"),
        Janus(name="janus", autoregressive_weight=0, kl_autoregressive_auxiliary=0, kl_autoregressive_parallel=0),
    ],
    ids=lambda objective: objective.name,
)
def test_a_teacher_was_trained_to_translate_from_left_to_right(tmp_path, joint, objective):
    saved(tmp_path, joint, objective)
    with pytest.raises(RetortError, match=f"{tmp_path}: trained as {objective.name}, and not to translate from left"):
        load_teacher(tmp_path, tmp_path / "student", joint, CPU)


@pytest.mark.parametrize(
    "objective",
    [Bang(name="bang", nar_ratio=0.5), Janus(name="janus"), Janus(name="janus", autoregressive_weight=0)],
    ids=["bang", "janus", "janus, by divergences alone"],
)
def test_a_model_of_two_modes_that_learnt_both_is_a_teacher(tmp_path, joint, objective):
    saved(tmp_path, joint, objective)
    assert load_teacher(tmp_path, tmp_path, joint, CPU).family == objective.family


def test_a_teacher_that_is_not_given_is_asked_for(tmp_path, joint):
    with pytest.raises(RetortError, match=f"{tmp_path}: the search has a teacher score its candidates, and none is"):
        load_teacher(None, tmp_path, joint, CPU)


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_a_weight_that_does_not_fit_is_named(tmp_path, joint, damage):
    saved(tmp_path, joint)
    weights = load_file(tmp_path / "model.safetensors")
    name = "encoder.layers.0.feed_forward.inner.bias"
    if damage == "missing":
        del weights[name]
    else:
        weights[name] = torch.zeros(9)
    save_file(weights, tmp_path / "model.safetensors")
    found = "absent" if damage == "missing" else r"F32 \[9\]"
    with pytest.raises(RetortError, match=rf"model.safetensors: weight {name} is {found}, expected F32 \[8\]"):
        load_checkpoint(tmp_path, CPU)


def test_the_weights_of_another_shape_are_refused(tmp_path, joint):
    saved(tmp_path, joint)
    description = read_description(tmp_path)
    description["model"]["decoder_layers"] = 2
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(RetortError, match=r"weight decoder\.layers\.1.* is absent"):
        load_checkpoint(tmp_path, CPU)


@pytest.mark.parametrize("content", [b"", b"no weights", None, "truncated"])
def test_unreadable_weights_name_the_file(tmp_path, joint, content):
    saved(tmp_path, joint)
    path = tmp_path / "model.safetensors"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100] if content == "truncated" else content)
    with pytest.raises(RetortError, match=f"{path}: not readable as safetensors"):
        read_weights(tmp_path)
    with pytest.raises(RetortError, match=f"{path}"):
        load_checkpoint(tmp_path, CPU)


@pytest.mark.parametrize("content", ["", "{", "\udc80", "[]", "{}", '{"objective": {"name": "unknown"}}'])
def test_an_unreadable_description_names_the_file(tmp_path, joint, content):
    saved(tmp_path, joint)
    path = tmp_path / "model.json"
    if content.startswith('{"'):
        content = json.dumps(read_description(tmp_path) | json.loads(content))
    elif content == "{}":
        content = json.dumps({"vocabulary": joint.digest})
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RetortError, match=f"{path}"):
        load_checkpoint(tmp_path, CPU)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RetortError, match=r"absent/model\.json: cannot be read .*expected a checkpoint's directory"):
        load_checkpoint(tmp_path / "absent", CPU)


def test_tied_embeddings_need_a_joint_vocabulary(separate):
    for tied in ("output", "none"):
        build_model(OBJECTIVES[0], Model(**SHAPE, tied=tied), separate)
    with pytest.raises(RetortError, match=r"model\.tied is all, but the vocabulary is not joint"):
        build_model(OBJECTIVES[0], Model(**SHAPE, tied="all"), separate)


def test_a_prefix_loads_a_part(joint):
    torch.manual_seed(1)
    teacher = build_model(OBJECTIVES[0], Model(**SHAPE), joint)
    student = build_model(OBJECTIVES[1], Model(**SHAPE), joint)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    load_weights(student, {name: p.detach() for name, p in teacher.named_parameters()}, "teacher", "encoder.")
    for name, parameter in student.named_parameters():
        changed = not torch.equal(parameter, before[name])
        assert changed == (name.startswith("encoder.") and name.endswith("weight") and "norm" not in name)


def flip_a_bit(directory):
    path = directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


def rewrite(directory, **changes):
    description = read_description(directory)
    description["model"] |= changes.pop("model", {})
    (directory / "model.json").write_text(json.dumps(description | changes))


FOREIGN = {
    "one bit flipped": (flip_a_bit, r"not the weights that were saved \(another SHA-256\)"),
    "another objective": (
        lambda path: rewrite(path, objective={"name": "ctc"}),
        "names another objective or model than these weights",
    ),
    "another norm": (lambda path: rewrite(path, model={"norm": "post"}), r"norm.* is F32 .*, expected absent"),
    "a huge width": (lambda path: rewrite(path, model={"d_model": 2**30}), "not a description of a model"),
    "a large width": (lambda path: rewrite(path, model={"d_model": 2**20}), "not a description of a model"),
    "a million layers": (
        lambda path: rewrite(path, model={"encoder_layers": 10**6}),
        "not a description of a model",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_was_not_saved_together_is_refused_before_it_is_allocated(tmp_path, joint, name):
    saved(tmp_path, joint)
    damage, message = FOREIGN[name]
    damage(tmp_path)
    started = time.process_time()
    with pytest.raises(RetortError, match=message):
        load_checkpoint(tmp_path, CPU)
    assert time.process_time() - started < 5


def test_weights_that_are_not_finite_are_refused(tmp_path, joint):
    saved(tmp_path, joint)
    weights = load_file(tmp_path / "model.safetensors")
    weights["encoder.layers.0.feed_forward.inner.bias"][0] = float("nan")
    save_file(weights, tmp_path / "model.safetensors")
    description = read_description(tmp_path)
    del description["weights"]
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(RetortError, match=r"weight encoder\.layers\.0\.feed_forward\.inner\.bias is not finite"):
        load_checkpoint(tmp_path, CPU)


class Operations(TorchDispatchMode):
    """Names of the operations that are called under it."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.overloadpacket.__name__)
        return operation(*args, **kwargs or {})


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_shapes_are_compared_without_computing(joint, positions):
    """Computing on the meta device imports torch's compiler: 1.5 s of every start."""
    for objective in OBJECTIVES:
        with torch.device("meta"), Operations() as operations:
            build_model(objective, Model(**SHAPE, positions=positions), joint)
        assert operations.names <= {"empty", "uniform_", "zero_", "fill_", "detach"}, objective.name
