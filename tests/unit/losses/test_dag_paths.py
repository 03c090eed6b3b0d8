"""Sums over the paths of a directed acyclic graph, and its best path, against all paths of small graphs."""

import math

import pytest
import torch

from retort.losses.dag_paths import best_path, best_scores, sum_of_paths
from tests.unit.fakes_losses import graph_paths, path_probability

E = torch.tensor([[0, 0.6, 0.3, 0.1], [0, 0, 0.7, 0.3], [0, 0, 0, 1], [0, 0, 0, 0]])
P = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.1, 0.6, 0.3], [0.05, 0.05, 0.9]])
"""Transitions and the probabilities of three tokens of a graph of four vertices."""


def random_graph(b, t, n, seed=0, dtype=torch.float64):
    """Log-probabilities of tokens [n, b, t] and transitions [b, t, t] whose rows sum to one, but for the last."""
    torch.manual_seed(seed)
    weights = torch.rand(b, t, t, dtype=dtype).triu(1)
    return torch.rand(n, b, t, dtype=dtype).log(), weights / weights.sum(2, keepdim=True).clamp(min=1e-9)


def test_a_known_probability():
    emissions = P.t().log()[:, None]
    found = sum_of_paths(emissions, E[None], torch.tensor([4]), torch.tensor([3]))
    assert found.exp().item() == pytest.approx(0.26244, abs=1e-6)
    scores = best_scores(emissions, E.log()[None])
    assert scores[2, 0, 3].exp().item() == pytest.approx(0.1458, abs=1e-6)
    assert best_path(scores, E.log()[None], torch.tensor([4]), torch.tensor([3])).tolist() == [[0, 2, 3]]


SIZES = [(6, 4), (6, 6), (5, 2), (4, 3), (1, 1), (6, 1), (3, 5), (2, 2)]


def test_the_sum_and_its_gradients_are_those_over_all_paths():
    """Sentences of differing sizes in one batch: vertices, length; two of them have no path."""
    emissions, transitions = random_graph(len(SIZES), 6, 6)
    vertices, length = (torch.tensor(x) for x in zip(*SIZES, strict=True))
    inputs = emissions.requires_grad_(), transitions.requires_grad_()
    found = sum_of_paths(*inputs, vertices, length)
    expected = []
    for i, (t, n) in enumerate(SIZES):
        all_paths = graph_paths(t, n)
        if not all_paths:
            assert found[i] == -math.inf
            continue
        expected.append(sum(path_probability(path, emissions[:, i], transitions[i]) for path in all_paths).log())
    assert len(expected) == 6
    reached = found.isfinite()
    torch.testing.assert_close(found[reached], torch.stack(expected))
    scale = torch.arange(1.0, 7.0, dtype=torch.float64)
    ours = torch.autograd.grad((found[reached] * scale).sum(), inputs)
    theirs = torch.autograd.grad((torch.stack(expected) * scale).sum(), inputs)
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])


def test_gradcheck():
    inputs = [x.requires_grad_() for x in random_graph(3, 5, 4, seed=1)]
    vertices, length = torch.tensor([5, 4, 5]), torch.tensor([4, 3, 2])
    assert torch.autograd.gradcheck(lambda e, w: sum_of_paths(e, w.triu(1), vertices, length), inputs)


@pytest.mark.parametrize(("t", "n"), [(200, 60), (200, 199), (200, 150), (64, 5)])
def test_likely_dead_ends_do_not_hide_the_paths_beside_them(t, n):
    """Wide-spread probabilities and long sentences, against sums of logarithms."""
    emissions, transitions = random_graph(2, t, n, seed=2)
    emissions = 9 * emissions - 2
    score = torch.full((2, t), -math.inf, dtype=torch.float64)
    score[:, 0] = emissions[0, :, 0]
    for k in range(1, n):
        score = (score[:, :, None] + transitions.log()).logsumexp(1) + emissions[k]
    inputs = emissions.float().requires_grad_(), transitions.float().requires_grad_()
    found = sum_of_paths(*inputs, torch.tensor([t, t]), torch.tensor([n, n]))
    torch.testing.assert_close(found.double(), score[:, -1], rtol=1e-5, atol=1e-5)
    visits, gradient = torch.autograd.grad(found.sum(), inputs)
    torch.testing.assert_close(visits.sum(2), torch.ones(n, 2), rtol=1e-4, atol=1e-4)
    assert gradient.isfinite().all()


def test_a_path_below_the_smallest_normal_number_is_none_and_its_gradient_finite():
    """Beside the vertex of its second token there is one of probability 1, from which no edge leads on."""
    transitions = torch.zeros(1, 4, 4, dtype=torch.float64)
    transitions[0, 0, [1, 2]], transitions[0, 1, 3] = 0.5, 1.0
    emissions = torch.zeros(3, 2, 4, dtype=torch.float64)
    emissions[1, :, 1] = torch.tensor([-715.0, -700.0])
    inputs = emissions.requires_grad_(), transitions.requires_grad_()
    found = sum_of_paths(emissions, transitions.expand(2, -1, -1), torch.tensor([4, 4]), torch.tensor([3, 3]))
    assert found.tolist() == [-math.inf, pytest.approx(-700 + math.log(0.5))]
    visits, gradient = torch.autograd.grad(found.sum(), inputs)
    assert visits[:, 0].eq(0).all() and visits[1, 1, 1] == pytest.approx(1) and gradient.isfinite().all()


@pytest.mark.parametrize("seed", range(3))
def test_the_best_path_is_the_best_of_all(seed):
    sizes = [(6, 4), (6, 6), (5, 2), (6, 3), (4, 3)]
    emissions, transitions = random_graph(len(sizes), 6, 6, seed)
    vertices, length = (torch.tensor(x) for x in zip(*sizes, strict=True))
    scores = best_scores(emissions, transitions.log())
    found = best_path(scores, transitions.log(), vertices, length)
    for i, (t, n) in enumerate(sizes):
        best = max(graph_paths(t, n), key=lambda path: path_probability(path, emissions[:, i], transitions[i]))
        assert found[i].tolist() == [*best, *[0] * (6 - n)]
        expected = path_probability(best, emissions[:, i], transitions[i]).log()
        torch.testing.assert_close(scores[n - 1, i, t - 1], expected)
