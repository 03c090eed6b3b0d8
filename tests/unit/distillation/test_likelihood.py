"""log p(y | x) of each family against plain sums over whole logits, one pair at a time."""

import itertools
import math

import numpy as np
import pytest
import torch

from retort import config
from retort.data.batches import Ragged
from retort.data.vocabulary import BLANK, BOS, MASK, PAD
from retort.distillation.likelihood import log_likelihoods
from retort.losses import target_log_probs
from retort.objectives import autoregressive as next_token
from retort.objectives import axe, cmlm, ctc, dag, glat, glat_ctc, janus, oaxe, vanilla
from retort.objectives.base import Step
from tests.unit.fakes_models import autoregressive, batch, dag_model, janus_model, padded, parallel, sentences
from tests.unit.fakes_objectives import COMMON_CASES

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
# candidates of three sources: some have a source and a length in common
ROWS = [2, 0, 1, 0, 2, 0, 2]
CANDIDATES = sentences([4, 7, 3, 2, 4, 7, 5], seed=2)
# objective's module, its options, a model for it
OBJECTIVES = {
    **COMMON_CASES,
    "slot and pad": (
        vanilla,
        config.Vanilla(name="vanilla", length_from="slot", decoder_input="pad"),
        lambda: parallel(length_from="slot", decoder_input="pad"),
    ),
    "cmlm": (cmlm, config.Cmlm(name="cmlm"), parallel),
    "janus": (janus, config.Janus(name="janus"), janus_model),
    "axe": (axe, config.Axe(name="axe"), lambda: parallel(blank=True, length_multiplier=1.5)),
    "oaxe": (oaxe, config.Oaxe(name="oaxe"), parallel),
    "glat": (glat, config.Glat(name="glat"), parallel),
    "ctc": (ctc, config.Ctc(name="ctc", upsampling=2), lambda: parallel(2)),
    "glat_ctc": (glat_ctc, config.GlatCtc(name="glat_ctc", upsampling=2), lambda: parallel(2)),
    "dag": (dag, config.Dag(name="dag"), dag_model),
}
PARALLEL = ["vanilla", "slot and pad", "cmlm", "janus", "oaxe", "glat", "vanilla, deep"]


@pytest.mark.parametrize("chunk", [1, 11, 512])
@pytest.mark.parametrize("rows", [None, [3, 0, 0, 2, 3, 4, 0], [4, 4], [1]])
def test_sums_equal_those_of_the_whole_softmax(monkeypatch, rows, chunk):
    """Five rows of five states: one a chunk, two a chunk, all in one; targets share rows in any order."""
    monkeypatch.setattr(target_log_probs, "chunk_size", lambda device: chunk)
    torch.manual_seed(1)
    states, weight = torch.randn(5, 5, 6), torch.randn(11, 6)
    row = torch.arange(5) if rows is None else torch.tensor(rows)
    target = torch.randint(1, 11, (len(row), 5))
    target[0, 2:] = PAD
    target[-1, 4:] = PAD
    found = target_log_probs.target_log_probs(states, weight, target, None if rows is None else row)
    log_probs = torch.log_softmax(states @ weight.t(), -1)
    expected = [
        sum(log_probs[row[i], t, token] for t, token in enumerate(target[i].tolist()) if token != PAD)
        for i in range(len(row))
    ]
    torch.testing.assert_close(found, torch.stack(expected))


def test_an_autoregressive_log_likelihood_is_that_of_a_step_by_step_decoder():
    model, pairs = autoregressive(), batch(SOURCES, TARGETS)
    cache, token, total = model.start(pairs.source_bs), torch.full((4,), BOS), torch.zeros(4)
    with torch.no_grad():
        for t in range(pairs.target_bt.shape[1]):
            log_probs, token = model.step(token, cache), pairs.target_bt[:, t]
            total += torch.where(token == PAD, 0.0, log_probs.gather(1, token[:, None])[:, 0])
    _, options, _ = OBJECTIVES["autoregressive"]
    torch.testing.assert_close(next_token.log_likelihood(model, pairs, options), total)


@pytest.mark.parametrize("build", [autoregressive, parallel])
def test_sources_longer_than_the_model_are_cut_as_in_decoding(build):
    options = OBJECTIVES["autoregressive" if build is autoregressive else "vanilla"][1]
    long, targets = sentences([60, 5, 39]), Ragged.from_lists(sentences([4, 3, 6], seed=1))
    cut = [tokens[:39] for tokens in long]
    found, expected = (
        log_likelihoods(build(), options, Ragged.from_lists(sources), targets, batch_tokens=90)
        for sources in (long, cut)
    )
    assert np.isfinite(found).all() and found.tolist() == expected.tolist()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_targets_longer_than_the_model_allows_are_impossible_and_change_no_other(name):
    """The model has 40 positions: the last one is that of eos."""
    _, options, build = OBJECTIVES[name]
    sources, targets = Ragged.from_lists(sentences([20] * 4)), sentences([3, 39, 40, 90], seed=1)
    found = log_likelihoods(build(), options, sources, Ragged.from_lists(targets), batch_tokens=400)
    assert np.isneginf(found[2:]).all()
    # repeats need more slots
    assert np.isfinite(found[:2]).all() or "ctc" in name
    fitting = log_likelihoods(build(), options, sources, Ragged.from_lists(targets[:2]), batch_tokens=400)
    assert found[:2].tolist() == pytest.approx(fitting.tolist(), rel=1e-5)
    assert not len(log_likelihoods(build(), options, sources, Ragged.from_lists([]), batch_tokens=400))


def test_targets_of_a_length_that_cannot_be_predicted_are_impossible():
    """By the mean of the encoder's states lengths are predicted up to 64 tokens around the source's."""
    model = parallel(max_length=200)
    options = OBJECTIVES["cmlm"][1]
    # with eos the source has 6 tokens, and the longest target 70 and 71
    targets = Ragged.from_lists(sentences([69, 70]))
    found = log_likelihoods(model, options, Ragged.from_lists(sentences([5, 5])), targets, batch_tokens=400)
    assert np.isfinite(found).tolist() == [True, False]


@torch.no_grad()
def all_masked(model, source, target):
    """log P of a single pair: its length's, and its tokens' and eos's, with nothing given."""
    source_bs, target_bt = padded([source]), padded([target])
    memory, bias = model.encode(source_bs)
    length = model.predict_length(source_bs, memory)[0].log_softmax(0)
    log_probs = model.logits(model.decode_tokens(torch.full_like(target_bt, MASK), memory, bias))[0].log_softmax(1)
    tokens = [log_probs[t, token].item() for t, token in enumerate(target_bt[0].tolist())]
    offset = model.length_offset(torch.tensor([len(source) + 1])).item()
    return sum(tokens) + length[len(target) + 1 - offset].item()


@pytest.mark.parametrize("step", [1, 16])
@pytest.mark.parametrize("name", PARALLEL)
def test_a_parallel_log_likelihood_is_that_of_the_pair_alone(name, step):
    objective, options, build = OBJECTIVES[name]
    model = build()
    found = objective.log_likelihood(model, batch([SOURCES[i] for i in ROWS], CANDIDATES, step), options)
    expected = [all_masked(model, SOURCES[i], target) for i, target in zip(ROWS, CANDIDATES, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize("name", PARALLEL)
def test_candidates_of_one_source_and_length_are_decoded_once(name, monkeypatch):
    objective, options, build = OBJECTIVES[name]
    model, decoded = build(), []
    decode = model.decode_tokens
    monkeypatch.setattr(model, "decode_tokens", lambda *given: decoded.append(given[0]) or decode(*given))
    objective.log_likelihood(model, batch([SOURCES[i] for i in ROWS], CANDIDATES), options)
    pairs = {(row, len(target)) for row, target in zip(ROWS, CANDIDATES, strict=True)}
    assert len(pairs) == 5 and [len(input_bt) for input_bt in decoded] == [5]
    assert (decoded[0] == MASK).sum(1).tolist().count(8) == 1


@torch.no_grad()
def all_alignments(model, source, target):
    """log P of a single pair: the sum over all ways to put its tokens and blanks into the slots."""
    source_bs = padded([source])
    states, _ = model.decode_upsampled(source_bs, *model.encode(source_bs))
    log_probs = model.logits(states)[0].log_softmax(1).tolist()
    total = 0.0
    for slots in itertools.product([BLANK, *set(target)], repeat=len(log_probs)):
        if [token for token, _ in itertools.groupby(slots) if token != BLANK] == target:
            total += math.exp(sum(log_probs[t][token] for t, token in enumerate(slots)))
    return math.log(total) if total else -math.inf


@pytest.mark.parametrize("name", ["ctc", "glat_ctc", "ctc, deep"])
def test_a_ctc_log_likelihood_sums_over_alignments_and_may_be_minus_infinity(name):
    objective, options, build = OBJECTIVES[name]
    # one source token and eos are four slots, two are six
    sources = [[7], [7], [8], [8], [9, 6], [9]]
    targets = [[6], [7, 8], [8, 8, 8], [6, 7, 8, 9, 6], [6, 6, 7], []]
    model = build()
    found = objective.log_likelihood(model, batch(sources, targets), options).tolist()
    expected = [all_alignments(model, source, target) for source, target in zip(sources, targets, strict=True)]
    assert expected[2] == expected[3] == -math.inf
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if "axe" not in name])
def test_a_loss_is_minus_the_mean_log_likelihood(name, monkeypatch):
    objective, options, build = OBJECTIVES[name]
    for module in (cmlm, janus):
        monkeypatch.setattr(module, "random_mask", lambda target_bt, generator: target_bt != PAD)
    model, pairs = build(), batch(SOURCES, TARGETS)
    loss = objective.compute(model, pairs, options, Step(torch.Generator()))
    tokens = pairs.target_tokens - (len(SOURCES) if "ctc" in name else 0)
    nats = tokens * loss.parts.get("parallel", loss.parts["nll"]) + len(SOURCES) * loss.parts.get("length", 0.0)
    torch.testing.assert_close(objective.log_likelihood(model, pairs, options).sum(), -nats)


# ---- whole corpora --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_size_of_batches_changes_no_log_likelihood(name):
    objective, options, build = OBJECTIVES[name]
    model = build()
    sources, targets = Ragged.from_lists(SOURCES), Ragged.from_lists(CANDIDATES)
    alone = [
        objective.log_likelihood(model, batch([SOURCES[row]], [target]), options).item()
        for row, target in zip(ROWS, CANDIDATES, strict=True)
    ]
    for tokens in (16, 40, 4096):
        found = log_likelihoods(model, options, sources, targets, tokens, np.array(ROWS))
        assert found.tolist() == pytest.approx(alone, rel=1e-5)


def test_targets_belong_to_the_sources_in_order_unless_told():
    model, options = parallel(), config.Vanilla(name="vanilla")
    targets = Ragged.from_lists(TARGETS)
    found = log_likelihoods(model, options, Ragged.from_lists(SOURCES), targets, 64)
    backwards = Ragged.from_lists(SOURCES[::-1])
    assert found == pytest.approx(log_likelihoods(model, options, backwards, targets, 64, np.arange(4)[::-1]), rel=1e-5)
    expected = [all_masked(model, source, target) for source, target in zip(SOURCES, TARGETS, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
