"""The objective of order-agnostic cross entropy, against all orders of small sentences."""

import itertools
import math

import pytest
import torch

from retort import config
from retort.data.vocabulary import EOS, MASK, PAD
from retort.losses.best_order import best_ngrams
from retort.objectives import oaxe, vanilla
from retort.objectives.base import Step
from tests.unit.fakes_models import batch, parallel, sentences

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([5, 4, 3, 2], seed=1)
PAIRS = batch(SOURCES, TARGETS)


def options(**keys):
    return config.Oaxe(name="oaxe", **keys)


def at(progress):
    return Step(torch.Generator(), progress)


def own_log_probs(model):
    """Of each sentence's tokens in its slots, with nothing given."""
    inputs = torch.where(PAIRS.target_bt != PAD, MASK, PAD)
    states = model.decode_tokens(inputs, *model.encode(PAIRS.source_bs))
    log_probs = torch.log_softmax(model.logits(states).detach(), -1)
    tokens = [[*target, EOS] for target in TARGETS]
    uniform = [row[: len(own)].mean(1) for row, own in zip(log_probs, tokens, strict=True)]
    return [row[: len(own), own] for row, own in zip(log_probs, tokens, strict=True)], uniform


def aligned(log_probs_ti):
    """The log-probabilities of the best of all orders."""
    orders = itertools.permutations(range(len(log_probs_ti)))
    return max((log_probs_ti[range(len(order)), order] for order in orders), key=lambda chosen: float(chosen.sum()))


def test_the_loss_is_that_of_the_best_order():
    model = parallel()
    log_probs, _ = own_log_probs(model)
    best = torch.cat([aligned(own) for own in log_probs])
    loss = oaxe.compute(model, PAIRS, options(truncation=0.1), at(1.0))
    torch.testing.assert_close(loss.parts["nll"], -best.mean())
    torch.testing.assert_close(loss.total, loss.parts["nll"] + 0.1 * loss.parts["length"])
    torch.testing.assert_close(loss.parts["truncated"], (best.exp() < 0.1).float().mean())
    assert loss.parts["nll"] < vanilla.compute(model, PAIRS, config.Vanilla(name="vanilla"), at(1.0)).parts["nll"]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_improbable_tokens_are_left_out_in_training_only(smoothing):
    model = parallel().train()
    log_probs, uniform = own_log_probs(model)
    best, uniform = torch.cat([aligned(own) for own in log_probs]), torch.cat(uniform)
    bound = float(best.exp().median())
    # e to the power, not 2: probabilities, not bits
    assert math.exp(float(best.min())) < bound < math.exp(float(best.max()))
    loss = oaxe.compute(model, PAIRS, options(truncation=bound, label_smoothing=smoothing), at(1.0))
    kept = best[best.exp() >= bound]
    assert 0 < len(kept) < len(best)
    expected = -((1 - smoothing) * kept.sum() + smoothing * uniform.sum()) / len(best)
    torch.testing.assert_close(loss.total, expected + 0.1 * loss.parts["length"])
    torch.testing.assert_close(loss.parts["nll"], -best.mean())
    torch.testing.assert_close(loss.parts["truncated"], 1 - torch.tensor(len(kept) / len(best)))


def test_the_truncated_share_is_of_tokens_however_many_n_grams_hold_them():
    loss = oaxe.compute(parallel(), PAIRS, options(truncation=1.0, ngram=2), at(1.0))
    assert float(loss.parts["truncated"]) == pytest.approx(1.0)


def test_truncated_tokens_have_no_gradient_but_all_others_have():
    model = parallel().train()
    none, everything = (
        oaxe.compute(model, PAIRS, options(truncation=p, label_smoothing=0.0, length_weight=0.0), at(1.0))
        for p in (1.0, 0.0)
    )
    for loss, some in ((none, False), (everything, True)):
        (gradient,) = torch.autograd.grad(loss.total, model.embeddings.output)
        assert bool(gradient.any()) == some


def test_training_begins_with_position_wise_cross_entropy():
    model, plain = parallel().train(), config.Vanilla(name="vanilla")
    expected = vanilla.compute(model, PAIRS, plain, at(0.0)).total
    found = [oaxe.compute(model, PAIRS, options(warmup_share=0.4), at(p)).total for p in (0.0, 0.39, 0.4, 1.0)]
    assert torch.equal(found[0], expected) and torch.equal(found[1], expected)
    assert torch.equal(found[2], found[3]) and found[2] < expected - 0.01
    started = oaxe.compute(model, PAIRS, options(warmup_share=0.0), at(0.0)).total
    assert torch.equal(started, found[2])


def best_of_ngrams(log_probs_ti, n):
    """Of all orders of overlapping n-grams, each beginning in a slot of its own; a shorter target is one n-gram."""
    length = len(log_probs_ti)
    size = min(n, length)
    starts = range(length - size + 1)
    sums = [
        sum(log_probs_ti[slot + k, order[slot] + k] for slot in starts for k in range(size))
        for order in itertools.permutations(starts)
    ]
    return max(map(float, sums)) * length / (len(starts) * size)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_best_order_of_n_grams_is_the_best_of_all(n):
    generator = torch.Generator().manual_seed(n)
    lengths = [5, 4, 2]
    log_probs = torch.randn(3, 5, 5, generator=generator).log_softmax(-1)
    aligned, tokens = best_ngrams(log_probs, torch.tensor(lengths), n)
    for row, length in enumerate(lengths):
        expected = best_of_ngrams(log_probs[row, :length, :length], n)
        assert float((aligned[row] * tokens[row]).sum()) == pytest.approx(expected, rel=1e-5)
        assert float(tokens[row].sum()) == pytest.approx(length)


@pytest.mark.parametrize("n", [2, 3])
def test_the_loss_of_n_grams_is_that_of_their_best_order(n):
    model = parallel()
    log_probs, _ = own_log_probs(model)
    of_ngrams, of_tokens = (oaxe.compute(model, PAIRS, options(ngram=k), at(1.0)).parts["nll"] for k in (n, 1))
    expected = -sum(best_of_ngrams(own, n) for own in log_probs) / sum(map(len, log_probs))
    assert of_ngrams.item() == pytest.approx(expected, rel=1e-5)
    assert abs(of_ngrams - of_tokens) > 1e-3


def test_a_loss_that_is_not_finite_is_left_to_the_training_loop():
    model = parallel().train()
    model.embeddings.output.data[7] = float("nan")
    assert oaxe.compute(model, PAIRS, options(), at(1.0)).total.isnan()
