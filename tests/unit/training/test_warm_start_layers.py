"""A student that starts from another checkpoint, or from chosen layers of a deeper one."""

import json

import pytest
import torch

from retort import config
from retort.config.load import load_config
from retort.errors import RetortError
from retort.filenames import MODEL_DESCRIPTION, WEIGHTS
from retort.models.build import build_model
from retort.models.checkpoint import read_weights
from retort.training.warm_start import warm_start
from tests.unit.fakes_export import SHAPE, saved, text_vocabulary

AUTOREGRESSIVE = config.Autoregressive(name="autoregressive")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return text_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture
def teacher(tmp_path, vocabulary):
    saved(tmp_path, vocabulary, AUTOREGRESSIVE, encoder_layers=4, decoder_layers=3)
    return tmp_path


def student(objective, vocabulary, **depths):
    torch.manual_seed(7)
    return build_model(objective, config.Model(**(SHAPE | depths)), vocabulary)


def check(model, weights, side, layers):
    for name, parameter in model.named_parameters():
        if name.startswith(f"{side}.layers."):
            place, _, rest = name.removeprefix(f"{side}.layers.").partition(".")
            assert torch.equal(parameter, weights[f"{side}.layers.{layers[int(place)] - 1}.{rest}"]), name


def test_layers_of_a_system_become_those_of_a_shallower_one(teacher, vocabulary):
    model = student(AUTOREGRESSIVE, vocabulary, encoder_layers=2, decoder_layers=1)
    training = config.Training(warm_start="teacher", start_encoder_layers=[1, 4], start_decoder_layers=[3])
    warm_start(model, teacher, AUTOREGRESSIVE, training, vocabulary)
    weights = read_weights(teacher)
    check(model, weights, "encoder", [1, 4])
    check(model, weights, "decoder", [3])
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters() if n.startswith("embeddings."))


@pytest.mark.parametrize(
    ("objective", "stack", "first"),
    [
        (config.Bang(name="bang"), "relative", 1),
        (config.Vanilla(name="vanilla", deep_supervision=True), "layer_fusion", 2),
    ],
)
def test_what_else_a_layer_has_comes_with_it(objective, stack, first, tmp_path, vocabulary):
    saved(tmp_path, vocabulary, objective, decoder_layers=4)
    model = student(objective, vocabulary, decoder_layers=2)
    training = config.Training(warm_start="teacher", start_decoder_layers=[2, 4])
    warm_start(model, tmp_path, objective, training, vocabulary)
    weights = read_weights(tmp_path)
    for place, layer in enumerate([2, 4], 1):
        if place >= first:
            own = model.get_parameter(f"{stack}.{place - first}.weight")
            assert torch.equal(own, weights[f"{stack}.{layer - first}.weight"])


def test_layers_of_a_recurrent_model_cannot_be_chosen(tmp_path, vocabulary):
    gru = {"family": "gru", "encoder_layers": 3, "decoder_layers": 1}
    saved(tmp_path, vocabulary, AUTOREGRESSIVE, **gru)
    model = student(AUTOREGRESSIVE, vocabulary, **gru | {"encoder_layers": 2})
    training = config.Training(warm_start="teacher", start_encoder_layers=[1, 3])
    with pytest.raises(RetortError, match="layers of a recurrent model cannot be chosen"):
        warm_start(model, tmp_path, AUTOREGRESSIVE, training, vocabulary)


def test_encoder_layers_of_the_teacher_and_further_random_ones(teacher, vocabulary):
    objective = config.Ctc(name="ctc")
    model = student(objective, vocabulary, encoder_layers=3)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    training = config.Training(warm_start="teacher_encoder", start_encoder_layers=[2, 4])
    warm_start(model, teacher, objective, training, vocabulary)
    check(model, read_weights(teacher) | {n: w for n, w in before.items() if ".2." in n}, "encoder", [2, 4, 3])
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n.startswith("decoder."))


def test_layers_that_a_checkpoint_lacks_are_named(teacher, vocabulary):
    model = student(AUTOREGRESSIVE, vocabulary, encoder_layers=2, decoder_layers=3)
    training = config.Training(warm_start="teacher", start_encoder_layers=[1, 5])
    with pytest.raises(RetortError, match="start_encoder_layers names layer 5, and it has 4"):
        warm_start(model, teacher, AUTOREGRESSIVE, training, vocabulary)


def problems(model=None, **training):
    student = {"objective": {"name": "autoregressive"}, "training": training, "model": model or {}}
    raw = {
        "name": "n",
        "corpus": {"kind": "generated"},
        "model": {"encoder_layers": 4, "decoder_layers": 4},
        "teacher": {"objective": {"name": "autoregressive"}},
        "students": {"s": student},
    }
    try:
        load_config(raw)
    except RetortError as error:
        return str(error)
    return ""


def test_a_configuration_is_checked_before_anything_runs():
    shallow = {"encoder_layers": 2, "decoder_layers": 1}
    chosen = {"start_encoder_layers": [1, 4], "start_decoder_layers": [4]}
    assert problems(shallow, warm_start="teacher", **chosen) == ""
    assert problems({"encoder_layers": 2}, warm_start="teacher_encoder", start_encoder_layers=[2, 3]) == ""
    found = problems(shallow, warm_start="teacher", start_encoder_layers=[1, 5], start_decoder_layers=[4])
    assert "students.s.training.start_encoder_layers" in found and "names layer 5, and the start has 4" in found
    three = chosen | {"start_encoder_layers": [1, 2, 3]}
    assert "needs 3, found 2" in problems(shallow, warm_start="teacher", **three)
    assert "warm_start is none" in problems(shallow, start_encoder_layers=[1])
    assert "copies no decoder" in problems(shallow, warm_start="teacher_encoder", start_decoder_layers=[1])
    for side, layers in (("encoder", [4, 1]), ("decoder", [1, 1])):
        found = problems(shallow, warm_start="teacher", **{f"start_{side}_layers": layers})
        assert f"start_{side}_layers {layers} must be in ascending order, each layer once" in found


@pytest.mark.parametrize(
    ("start", "own", "message"),
    [
        (
            config.Vanilla(name="vanilla", deep_supervision=True),
            config.Vanilla(name="vanilla"),
            "to start from it objective.deep_supervision must be True, found False",
        ),
        (config.Janus(name="janus"), AUTOREGRESSIVE, "trained as janus; a model trained as autoregressive cannot"),
        (config.Ctc(name="ctc"), config.Ctc(name="ctc", upsampling=4), "objective.upsampling must be 2, found 4"),
        (config.Ctc(name="ctc", upsampling=1.5), config.Ctc(name="ctc"), "objective.upsampling must be 1.5, found 2"),
        (config.Vanilla(name="vanilla"), config.Ctc(name="ctc"), "trained as vanilla; a model trained as ctc cannot"),
    ],
)
def test_all_weights_are_taken_from_the_same_kind_of_model_alone(start, own, message, tmp_path, vocabulary):
    saved(tmp_path, vocabulary, start)
    with pytest.raises(RetortError, match=message):
        warm_start(student(own, vocabulary), tmp_path, own, config.Training(warm_start="other"), vocabulary)


@pytest.mark.parametrize("damage", ["weights", "model", "objective"])
@pytest.mark.parametrize("kind", ["teacher_encoder", "teacher"])
def test_damaged_starts_are_errors(damage, kind, teacher, vocabulary):
    if damage == "weights":
        content = bytearray((teacher / WEIGHTS).read_bytes())
        content[-5] ^= 1
        (teacher / WEIGHTS).write_bytes(content)
    else:
        description = json.loads((teacher / MODEL_DESCRIPTION).read_text())
        del description[damage]
        (teacher / MODEL_DESCRIPTION).write_text(json.dumps(description))
    model = student(AUTOREGRESSIVE, vocabulary, encoder_layers=4, decoder_layers=3)
    with pytest.raises(RetortError, match="another SHA-256" if damage == "weights" else "not a description of a model"):
        warm_start(model, teacher, AUTOREGRESSIVE, config.Training(warm_start=kind), vocabulary)
