"""Expected bigrams of CTC's outputs and of graphs, against enumeration of all outputs."""

import itertools
import math
from collections import Counter

import pytest
import torch

from retort.losses import token_log_probs
from retort.losses.expected_ngrams import (
    bigrams_of,
    ctc_bigram_total,
    ctc_bigrams,
    graph_bigrams,
    graph_visits,
    matched,
)
from retort.losses.repeat_probs import repeat_probs

BLANK, PAD, BOS, EOS = 0, 9, 8, 1
TARGETS = torch.tensor([[1, 2, 1, 2, 2], [2, 2, 2, PAD, PAD], [1, PAD, PAD, PAD, PAD]])


def bigrams(tokens):
    return Counter(itertools.pairwise(tokens))


def expectation(weighted_outputs, target):
    """Expected number of each bigram of the target, in its order, and of all bigrams; expected matches."""
    expected = Counter()
    for probability, output in weighted_outputs:
        for bigram, count in bigrams(output).items():
            expected[bigram] += probability * count
    matches = sum(min(expected[bigram], count) for bigram, count in bigrams(target).items())
    return [expected[bigram] for bigram in itertools.pairwise(target)], sum(expected.values()), matches


def collapsed_outputs(probs_tv, blank=BLANK):
    """Every way to fill the slots: its probability, and what it collapses to."""
    for slots in itertools.product(range(len(probs_tv[0])), repeat=len(probs_tv)):
        probability = math.prod(p[token] for p, token in zip(probs_tv, slots, strict=True))
        yield probability, [token for token, _ in itertools.groupby(slots) if token != blank]


def test_bigrams_of_ctc_are_those_of_all_alignments():
    generator = torch.Generator().manual_seed(1)
    states, weight = torch.randn(3, 5, 6, generator=generator), torch.randn(4, 6, generator=generator)
    slots = torch.tensor([5, 4, 2])
    log_probs = torch.log_softmax(states @ weight.t(), -1)
    classes = torch.cat([torch.zeros(3, 1, dtype=torch.long), TARGETS.where(TARGETS != PAD, 0)], 1)
    own = log_probs.gather(2, classes[:, None].expand(-1, 5, -1))
    found = ctc_bigrams(own, TARGETS, slots)
    total = ctc_bigram_total(own[:, :, 0], repeat_probs(states, weight, BLANK), slots)
    matches = matched(found, *bigrams_of(TARGETS, PAD))
    for row, target in enumerate([[1, 2, 1, 2, 2], [2, 2, 2], [1]]):
        outputs = list(collapsed_outputs(log_probs[row, : slots[row]].exp().tolist()))
        expected, all_bigrams, expected_matches = expectation(outputs, target)
        assert found[row, : len(target) - 1].tolist() == pytest.approx(expected, rel=1e-4)
        assert total[row].item() == pytest.approx(all_bigrams, rel=1e-4)
        assert matches[row].item() == pytest.approx(expected_matches, rel=1e-4)


def graph_outputs(probs_tv, transitions):
    """Every path and its tokens: the probability, and the output with bos."""
    t = len(probs_tv)
    for count in range(t - 1):
        for inner in itertools.combinations(range(1, t - 1), count):
            path = (0, *inner, t - 1)
            way = math.prod(transitions[i][j] for i, j in itertools.pairwise(path))
            for tokens in itertools.product(range(len(probs_tv[0])), repeat=len(path) - 1):
                emitted = math.prod(probs_tv[vertex][token] for vertex, token in zip(path[1:], tokens, strict=True))
                yield way * emitted, [BOS, *tokens]


def test_bigrams_of_a_graph_are_those_of_all_paths_and_tokens():
    generator = torch.Generator().manual_seed(2)
    log_probs = torch.randn(2, 5, 3, generator=generator).log_softmax(-1)
    scores = torch.randn(2, 5, 5, generator=generator)
    transitions = torch.zeros(2, 5, 5)
    for row, vertices in enumerate((5, 4)):
        for i in range(vertices - 1):
            transitions[row, i, i + 1 : vertices] = scores[row, i, i + 1 : vertices].softmax(0)
    targets = torch.tensor([[2, 0, 2, 0, EOS], [0, EOS, PAD, PAD, PAD]])
    own = log_probs.gather(2, targets.where(targets != PAD, 0)[:, None].expand(-1, 5, -1))
    visits = graph_visits(transitions)
    found = graph_bigrams(own, transitions, visits)
    with_bos = torch.cat([torch.full((2, 1), BOS), targets], 1)
    matches = matched(found, *bigrams_of(with_bos, PAD))
    for row, (vertices, target) in enumerate([(5, [BOS, 2, 0, 2, 0, EOS]), (4, [BOS, 0, EOS])]):
        outputs = list(graph_outputs(log_probs[row, :vertices].exp().tolist(), transitions[row].tolist()))
        expected, all_bigrams, expected_matches = expectation(outputs, target)
        assert found[row, : len(target) - 1].tolist() == pytest.approx(expected, rel=1e-4)
        assert visits[row].sum().item() - 1 == pytest.approx(all_bigrams, rel=1e-4)
        assert matches[row].item() == pytest.approx(expected_matches, rel=1e-4)


def test_probabilities_of_repeats_have_the_gradients_of_their_definition():
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(2, 4, 3, generator=generator, requires_grad=True)
    weight = torch.randn(5, 3, generator=generator, requires_grad=True)
    factors = torch.randn(2, 3, generator=generator)
    probs = torch.softmax(states @ weight.t(), -1)
    expected = (probs[:, 1:, 1:] * probs[:, :-1, 1:]).sum(-1)
    found = repeat_probs(states, weight, BLANK)
    torch.testing.assert_close(found, torch.nn.functional.pad(expected, (1, 0)))
    gradients = torch.autograd.grad((found[:, 1:] * factors).sum(), (states, weight))
    wanted = torch.autograd.grad((expected * factors).sum(), (states, weight))
    torch.testing.assert_close(gradients, wanted)


def test_a_bigram_matches_as_often_as_the_target_has_it():
    expected = torch.tensor([[2.7, 0.4, 2.7, 1.5]])
    assert matched(expected, *bigrams_of(torch.tensor([[1, 2, 1, 2, 2]]), PAD)).item() == pytest.approx(2 + 0.4 + 1)


def test_gradients_of_repeats_are_those_of_all_chunks(monkeypatch):
    generator = torch.Generator().manual_seed(4)
    states = torch.randn(3, 4, 3, generator=generator, requires_grad=True)
    weight = torch.randn(5, 3, generator=generator, requires_grad=True)
    whole, parts = [], []
    for gradients, size in ((whole, 12), (parts, 4)):
        monkeypatch.setattr(token_log_probs, "chunk_size", lambda _, size=size: size)
        gradients += torch.autograd.grad(repeat_probs(states, weight, BLANK).square().sum(), (states, weight))
    torch.testing.assert_close(parts, whole)
