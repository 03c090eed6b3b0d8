"""Decoders of which every layer predicts and receives what the one before predicted."""

import pytest
import torch
from torch.nn import functional

from retort import config
from retort.data.vocabulary import MASK, PAD
from retort.losses.ctc_alignments import ctc_target, sentence_nll
from retort.models import parallel as module
from retort.objectives import ctc, glat, glat_ctc, nmla, vanilla
from retort.objectives.base import Step
from retort.search.base import run_search
from tests.unit.fakes_models import batch, padded, parallel, sentences

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
SOURCE_BS, SLOTS_BT = padded(SOURCES), torch.where(padded(TARGETS) == PAD, PAD, MASK)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
OBJECTIVES = {
    "vanilla": (vanilla, config.Vanilla(name="vanilla", deep_supervision=True), 0),
    "ctc": (ctc, config.Ctc(name="ctc", deep_supervision=True), 2),
    "glat": (glat, config.Glat(name="glat", deep_supervision=True), 0),
    "glat_ctc": (glat_ctc, config.GlatCtc(name="glat_ctc", deep_supervision=True), 2),
}


def deep(upsampling=0, **changes):
    return parallel(upsampling, deep_supervision=True, decoder_layers=3, **changes)


def layers_of(model):
    memory = model.encode(SOURCE_BS)
    if model.upsampling:
        return model.layers_of_upsampled(SOURCE_BS, *memory)[0]
    return model.layers_of_tokens(SLOTS_BT, *memory)


def last_of(model):
    memory = model.encode(SOURCE_BS)
    if model.upsampling:
        return model.decode_upsampled(SOURCE_BS, *memory)[0]
    return model.decode_tokens(SLOTS_BT, *memory)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("upsampling", [0, 2])
def test_layers_that_ignore_earlier_predictions_are_those_of_an_ordinary_decoder(upsampling, norm):
    plain = parallel(upsampling, decoder_layers=3, norm=norm)
    model = deep(upsampling, norm=norm)
    weights = dict(plain.named_parameters())
    assert {name.partition(".")[0] for name, _ in model.named_parameters() if name not in weights} == {"layer_fusion"}
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters() if name in weights)
    for layer in model.layer_fusion:
        layer.weight.data = torch.cat([torch.eye(16), torch.zeros(16, 16)], 1)
    layers = layers_of(model)
    assert len(layers) == 3 and len(layers_of(plain)) == 1
    for depth in (3, 2, 1):
        plain.decoder.layers = plain.decoder.layers[:depth]
        torch.testing.assert_close(layers[depth - 1], last_of(plain), **CLOSE)


@pytest.mark.parametrize("upsampling", [0, 2])
def test_a_layer_receives_the_most_probable_tokens_of_the_one_before(upsampling, monkeypatch):
    model, fused, inputs = deep(upsampling), [], []
    for layer in model.layer_fusion:
        layer.register_forward_hook(lambda layer, given, out: fused.append((given[0], out)))
    for layer in model.decoder.layers:
        layer.register_forward_pre_hook(lambda layer, given: inputs.append(given[0]))
    layers = layers_of(model)
    assert torch.equal(layers[-1], last_of(model))
    for i in range(2):
        predicted = model.logits(layers[i]).argmax(-1)
        given, out = fused[i]
        torch.testing.assert_close(given[:, :, 16:], 4.0 * model.embeddings.target[predicted])
        torch.testing.assert_close(model.decoder.norm(given[:, :, :16]), layers[i])
        assert torch.equal(inputs[i + 1], out)
    monkeypatch.setattr(module, "most_probable", lambda states, weight: torch.full(states.shape[:2], 7))
    assert not torch.isclose(last_of(model), layers[-1], atol=1e-3).all(2).all()


@pytest.mark.parametrize("upsampling", [0, 2])
def test_padding_does_not_change_the_states_of_any_layer(upsampling):
    model = deep(upsampling)
    together = layers_of(model)
    for row in range(4):
        source = padded(SOURCES[row : row + 1])
        memory = model.encode(source)
        if upsampling:
            apart = model.layers_of_upsampled(source, *memory)[0]
        else:
            apart = model.layers_of_tokens(SLOTS_BT[row : row + 1, : len(TARGETS[row]) + 1], *memory)
        for one, other in zip(together, apart, strict=True):
            torch.testing.assert_close(one[row, : other.shape[1]], other[0], **CLOSE)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_the_mean_over_the_layers_and_its_nll_that_of_the_last(name):
    objective, options, upsampling = OBJECTIVES[name]
    model, pairs = deep(upsampling), batch(SOURCES, TARGETS)
    loss = objective.compute(model, pairs, options, Step(torch.Generator()))
    if upsampling:
        target, slots = ctc_target(pairs), 2 * (SOURCE_BS != PAD).sum(1)
        fits = slots >= target.slots_b
        nll = [
            sentence_nll(x, model.embeddings.output, target, slots)[fits].sum() / target.length_b[fits].sum()
            for x in layers_of(model)
        ]
        length = 0.0
    else:
        real = pairs.target_bt != PAD
        nll = [functional.cross_entropy(model.logits(x[real]), pairs.target_bt[real]) for x in layers_of(model)]
        length = 0.1 * loss.parts["length"]
    assert len(nll) == 3
    torch.testing.assert_close(loss.total, sum(nll) / 3 + length)
    torch.testing.assert_close(loss.parts["nll"], nll[-1].detach())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_layer_learns_from_its_own_prediction(name):
    """Also a layer of whose states the next one sees nothing."""
    objective, options, upsampling = OBJECTIVES[name]
    model = deep(upsampling).train()
    model.layer_fusion[1].weight.data[:, :16] = 0.0
    objective.compute(model, batch(SOURCES, TARGETS), options, Step(torch.Generator().manual_seed(1))).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    for layer in model.decoder.layers:
        assert layer.feed_forward.outer.weight.grad.norm() > 1e-3
    assert all(layer.weight.grad.norm() > 1e-3 for layer in model.layer_fusion)


def test_searches_decode_with_the_last_layer():
    model, source = deep(2), SOURCE_BS[:1, :4]
    found = run_search(model, source, config.CtcCollapse(kind="ctc_collapse"))[0][0]
    states = model.layers_of_upsampled(source, *model.encode(source))[0][-1]
    log_probs = model.logits(states)[0].masked_fill(torch.isin(torch.arange(14), torch.tensor([0, 1, 2, 4])), -1e9)
    assert found.score == pytest.approx(log_probs.log_softmax(-1).amax(-1).sum().item(), rel=1e-5)


def test_bigram_f1_is_the_mean_over_layers_and_over_sentences_with_bigrams():
    model, pairs = deep(2), batch(SOURCES, [*TARGETS[:3], TARGETS[3][:1]])
    loss = nmla.compute(model, pairs, config.Nmla(name="nmla", likelihood_weight=0), Step(torch.Generator()))
    target, slots = ctc_target(pairs), 2 * (SOURCE_BS != PAD).sum(1)
    f1 = [nmla.bigram_f1(x, model.embeddings.output, target, slots)[:3].mean() for x in layers_of(model)]
    torch.testing.assert_close(loss.total, 1 - sum(f1) / 3)
    torch.testing.assert_close(loss.parts["f1"], f1[-1].detach())


def test_the_bigram_f1_of_the_target_is_one():
    target, vocabulary = ctc_target(batch([[6]], [[6, 7, 8]])), torch.eye(10)
    f1 = nmla.bigram_f1(99 * vocabulary[[6, 7, 8]][None], vocabulary, target, torch.tensor([3]))
    torch.testing.assert_close(f1, torch.ones(1))
