"""The objectives of expected bigrams: F1 of CTC's outputs against all of them, and what the losses add up to."""

from dataclasses import replace

import pytest
import torch

from retort import config
from retort.data.vocabulary import BLANK
from retort.losses.ctc_alignments import ctc_target
from retort.objectives import ctc, dag, fuzzy_dag, nmla
from retort.objectives.base import Step
from retort.objectives.shared.graphs import target_graph
from tests.unit.fakes_models import batch, dag_model, parallel, sentences
from tests.unit.losses.test_expected_ngrams import collapsed_outputs, expectation

PAIRS = batch(sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1))
STEP = Step(torch.Generator())


def test_bigram_f1_is_that_of_the_expected_bigrams_of_all_outputs():
    """Expected matches and bigrams are fractions, and outputs are longer and shorter than their targets."""
    targets, slots = [[6, 7, 6, 7, 7], [7, 7], [6]], [5, 4, 5]
    generator = torch.Generator().manual_seed(1)
    states, weight = torch.randn(3, 5, 6, generator=generator), torch.randn(8, 6, generator=generator)
    found = nmla.bigram_f1(states, weight, ctc_target(batch([[6]] * 3, targets)), torch.tensor(slots))
    probs = torch.softmax(states @ weight.t(), -1)
    for row, target in enumerate(targets):
        outputs = list(collapsed_outputs(probs[row, : slots[row]].tolist(), blank=BLANK))
        _, bigrams, matches = expectation(outputs, target)
        assert found[row].item() == pytest.approx(2 * matches / (bigrams + max(len(target) - 1, 1)), rel=1e-4)
    assert found[2] == 0 < found[0] < 1


def f1_of(model):
    states, slots = model.decode_upsampled(PAIRS.source_bs, *model.encode(PAIRS.source_bs))
    return nmla.bigram_f1(states, model.embeddings.output, ctc_target(PAIRS), slots)


def precision_times_brevity(model):
    precision, brevity = fuzzy_dag.bigram_precision(
        target_graph(model, PAIRS, model.encode(PAIRS.source_bs)), PAIRS.target_bt
    )
    assert brevity.min() < 1
    return precision * brevity


@pytest.mark.parametrize("training", [True, False])
def test_targets_without_bigrams_train_nothing_and_are_counted_unless_their_likelihood_counts(training):
    model, options = parallel(2).train(training), config.Nmla(name="nmla")
    sources, targets = sentences([3, 9, 6, 5]), sentences([1, 4, 0, 2], seed=1)
    loss, likely = (
        nmla.compute(model, batch(sources, targets), options.model_copy(update={"likelihood_weight": weight}), STEP)
        for weight in (0, 0.5)
    )
    assert loss.parts["short"] == 0.5 and "short" not in likely.parts
    rest = nmla.compute(model, batch(sources[1::2], targets[1::2]), options, STEP)
    assert rest.parts["short"] == 0
    torch.testing.assert_close(loss.total, rest.total)
    short = nmla.compute(model, batch(sources[::2], targets[::2]), options, STEP)
    short.total.backward()
    assert short.parts["short"] == 1 and all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


# the objective's module, its options, a model for it, what it rewards, and the objective of its likelihood
CASES = {
    "nmla": (nmla, config.Nmla(name="nmla"), lambda: parallel(2), f1_of, (ctc, config.Ctc(name="ctc"))),
    "fuzzy_dag": (
        fuzzy_dag,
        config.FuzzyDag(name="fuzzy_dag", start=0, end=0),
        lambda: dag_model(1.5),
        precision_times_brevity,
        (dag, config.Dag(name="dag")),
    ),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_the_weighted_mean_of_what_lacks_plus_that_of_the_likelihood(name, weight, training):
    objective, options, build, reward, (likelihood, plain) = CASES[name]
    model, weight_b = build(), torch.tensor([0.5, 0.125, 1.0, 0.25])
    pairs = replace(PAIRS, weight_b=weight_b)
    expected = likelihood.compute(model, pairs, plain, STEP)
    lacks = 1 - reward(model) @ weight_b / weight_b.sum()
    options = options.model_copy(update={"likelihood_weight": weight})
    found = objective.compute(model.train(training), pairs, options, STEP)
    torch.testing.assert_close(found.total, lacks + weight * expected.total)
    assert found.parts.get("nll") == (expected.parts["nll"] if weight or not training else None)
