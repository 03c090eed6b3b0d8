"""Checkpoints and training states that version 0.1 wrote still load and translate as they did.

But for empty outputs of searches over several lengths, which version 0.1 preferred to text.
"""

import json
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file

from retort.config import Search, Training
from retort.models.checkpoint import load_checkpoint, read_weights
from retort.search.decoding import translate_texts
from retort.training.optimiser import FlatOptimiser
from retort.training.state import TrainingState

STORED = Path(__file__).parents[2] / "fixtures" / "version-0.1"
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["autoregressive", "glat"])
def test_a_checkpoint_translates_as_before(name):
    checkpoint = load_checkpoint(STORED / name, CPU)
    model, vocabulary = checkpoint.model, checkpoint.vocabulary
    expected = json.loads((STORED / name / "expected.json").read_text())
    for case in expected["searches"]:
        search = TypeAdapter(Search).validate_python(case["search"])
        results = translate_texts(model, vocabulary, expected["sources"], search, batch_tokens=1024)
        best = [hypotheses[0] for hypotheses in results]
        assert vocabulary.decode_target([hypothesis.tokens for hypothesis in best]) == case["texts"]
        assert [hypothesis.score for hypothesis in best] == pytest.approx(case["scores"], abs=1e-4)


def test_the_stored_weights_have_the_names_of_version_01():
    stored = load_file(STORED / "glat" / "model.safetensors")
    renamed = {name for name in stored if name.startswith("told.")}
    assert renamed == {"told.0.weight", "told.0.bias"}
    weights = read_weights(STORED / "glat")
    assert torch.equal(weights["layer_fusion.0.weight"], stored["told.0.weight"])
    assert set(weights) - set(stored) == {"layer_fusion.0.weight", "layer_fusion.0.bias"}


def test_the_flat_tensors_of_a_state_have_every_weight_in_its_place():
    """The order of a model's parameters must not change."""
    checkpoint = load_checkpoint(STORED / "glat", CPU)
    model, description = checkpoint.model, checkpoint.description
    weights = read_weights(STORED / "glat")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    optimiser = FlatOptimiser(model, Training(**description["training"]), torch.float32)
    (directory,) = (STORED / "glat" / "state").iterdir()
    tensors = load_file(directory / "tensors.safetensors")
    counters = json.loads((directory / "counters.json").read_text())
    ((_, best_update),) = counters["best"]
    assert description["averaged_updates"] == [best_update]
    kept = tensors.pop(f"kept.{best_update}")
    optimiser.load_state(tensors)
    assert torch.equal(optimiser.state()["0.exp_avg"], tensors["0.exp_avg"])
    optimiser.load_weights(kept)
    restored = optimiser.named_master(model)
    assert restored.keys() == weights.keys()
    assert all(torch.equal(restored[name], weight) for name, weight in weights.items())


def test_a_state_without_digests_is_passed_over_with_a_sentence(caplog):
    assert TrainingState(STORED / "glat", "state").load() is None
    assert "update000001200 is damaged" in caplog.text and "digests.json" in caplog.text
