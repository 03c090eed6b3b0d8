"""Aligned cross entropy against known values, the plain recurrence, and all alignments of small sentences."""

import itertools

import pytest
import torch

from retort.data.vocabulary import BLANK
from retort.losses.axe_alignment import alignment, placements
from tests.unit.fakes_losses import axe_recurrence

THREE = [[0.1, 0.6, 0.1, 0.2], [0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1]]
TWO = [[0.1, 0.2, 0.5, 0.2], [0.1, 0.2, 0.2, 0.5]]
SHIFTED = [[0.8 if v == token else 0.05 for v in range(5)] for token in (4, 1, 2, 3)]
VECTORS = [
    *((THREE, [1, 2], delta, 1.3783) for delta in (1, 2, 5)),
    (TWO, [1, 2, 3], 1, 2.9957),
    (TWO, [1, 2, 3], 2, 3.6889),
    (TWO, [1, 2, 3], 5, 5.7683),
    (SHIFTED, [1, 2, 3, 4], 1, 6.6609),
    (SHIFTED, [1, 2, 3, 4], 5, 11.9829),
    ([[0.05, 0.8, 0.05, 0.1]], [1, 2], 2, 3.4420),
]


def value(log_probs_jk, slots, length, delta):
    """The loss of one sentence; class 0 is the blank."""
    weights = alignment(log_probs_jk[None], torch.tensor([slots]), torch.tensor([length]), delta)
    return -(weights * log_probs_jk).sum()


def random_log_probs(slots, length, seed, dtype=torch.float64):
    """Of a distribution that has other tokens, too."""
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(2 * torch.randn(slots, length + 3, generator=generator, dtype=dtype), -1)[:, : length + 1]


@pytest.mark.parametrize(("probabilities", "target", "delta", "expected"), VECTORS)
def test_known_values(probabilities, target, delta, expected):
    log_probs = torch.tensor(probabilities).log()[:, [0, *target]]
    assert value(log_probs, len(probabilities), len(target), delta) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("delta", [1.0, 1.5, 4.0])
@pytest.mark.parametrize(("slots", "length"), [(1, 1), (1, 4), (4, 1), (3, 6), (6, 3), (5, 5), (9, 11)])
def test_diagonals_give_what_the_recurrence_gives(slots, length, delta):
    for seed in range(4):
        log_probs = random_log_probs(slots, length, seed)
        assert float(value(log_probs, slots, length, delta)) == pytest.approx(
            axe_recurrence(log_probs, slots, length, delta)
        )


@pytest.mark.parametrize(("slots", "length"), [(1, 3), (4, 2), (3, 4), (4, 4)])
def test_without_a_penalty_it_is_the_best_monotonic_alignment(slots, length):
    for seed in range(5):
        log_probs = random_log_probs(slots, length, seed)
        best = max(
            sum(float(log_probs[j, i + 1]) for i, j in enumerate(path))
            + sum(float(log_probs[j, 0]) for j in set(range(slots)) - set(path))
            for path in itertools.combinations_with_replacement(range(slots), length)
        )
        assert float(value(log_probs, slots, length, 1.0)) == pytest.approx(-best)


def test_the_sentences_of_a_batch_are_aligned_apart_whatever_their_padding_holds():
    sizes = [(1, 1), (7, 3), (3, 7), (5, 5), (2, 6), (7, 7)]
    alone = [random_log_probs(*size, seed=3) for size in sizes]
    together = torch.full((len(sizes), 8, 9), -1e-3, dtype=torch.float64)
    for row, log_probs in zip(together, alone, strict=True):
        row[: log_probs.shape[0], : log_probs.shape[1]] = log_probs
    slots, lengths = torch.tensor(sizes).unbind(1)
    weights = alignment(together, slots, lengths, 2.0)
    for found, log_probs, (j, i) in zip(weights, alone, sizes, strict=True):
        own = alignment(log_probs[None], torch.tensor([j]), torch.tensor([i]), 2.0)[0]
        assert torch.equal(found[:j, : i + 1], own) and found.sum() == own.sum()


@pytest.mark.parametrize("delta", [1.0, 2.5])
@pytest.mark.parametrize(("slots", "length"), [(4, 6), (6, 4), (5, 5)])
def test_the_gradient_is_that_of_the_recurrence(slots, length, delta):
    log_probs = random_log_probs(slots, length, seed=7).requires_grad_()
    found = torch.autograd.grad(value(log_probs, slots, length, delta), log_probs)[0]
    plain, step = log_probs.detach(), 1e-6
    for j, k in itertools.product(range(slots), range(length + 1)):
        moved = [plain.clone(), plain.clone()]
        moved[0][j, k] += step
        moved[1][j, k] -= step
        up, down = (axe_recurrence(x, slots, length, delta) for x in moved)
        assert float(found[j, k]) == pytest.approx((up - down) / (2 * step), abs=1e-4)


def test_every_slot_and_every_target_is_charged_for():
    for seed, (slots, length) in enumerate([(4, 9), (9, 4), (7, 7)]):
        log_probs = random_log_probs(slots, length, seed)
        weights = alignment(log_probs[None], torch.tensor([slots]), torch.tensor([length]), 3.0)[0]
        assert ((weights[:, 1:] > 0).sum(0) == 1).all()
        assert (weights[:, 0] + (weights[:, 1:] > 0).any(1) == 1).all()
        assert set(weights.unique().tolist()) <= {0.0, 1.0, 3.0}


@pytest.mark.parametrize("where", [(0, 2, 1), (0, 0, 0), (0, 4, 3)])
def test_a_value_that_is_no_number_reaches_the_loss(where):
    log_probs = torch.randn(2, 5, 4).log_softmax(2)
    expected = alignment(log_probs, torch.tensor([5, 5]), length_b=torch.tensor([3, 3]), skip_target=2.0)
    log_probs[where] = float("nan")
    weights = alignment(log_probs, torch.tensor([5, 5]), length_b=torch.tensor([3, 3]), skip_target=2.0)
    assert weights.isfinite().all() and torch.equal(weights[1], expected[1])
    assert (weights * log_probs).sum((1, 2)).isnan().tolist() == [True, False]


def test_float32_suffices_for_long_sentences():
    log_probs = random_log_probs(200, 180, seed=1)
    exact = value(log_probs, 200, 180, 2.0)
    assert float(value(log_probs.float(), 200, 180, 2.0)) == pytest.approx(float(exact), rel=1e-5)


def test_slots_learn_to_say_the_target_and_blanks():
    """Follow the gradient: what slots hold that start out as the target with a word too many in front of it."""
    target = [7, 7, 8, 9]
    states = torch.nn.functional.one_hot(torch.tensor([[6, *target, 10]]), 12).double().requires_grad_()
    for _ in range(20):
        log_probs = torch.log_softmax(states, -1)[:, :, [BLANK, *target]]
        loss = -(alignment(log_probs, torch.tensor([6]), torch.tensor([4]), 2.0) * log_probs).sum()
        states.data -= torch.autograd.grad(loss, states)[0]
    assert states[0].argmax(-1).tolist() == [BLANK, *target, BLANK]


def test_placements_are_summed():
    sizes = [(5, 3), (4, 4), (6, 1)]
    together = torch.zeros(3, 6, 5, dtype=torch.float64)
    expected = []
    for row, (slots, length) in zip(together, sizes, strict=True):
        own = random_log_probs(slots, length, seed=slots)
        row[:slots, : length + 1] = own
        paths = itertools.combinations(range(slots), length)
        classes = [[path.index(j) + 1 if j in path else 0 for j in range(slots)] for path in paths]
        expected.append(torch.stack([own[range(slots), c].sum() for c in classes]).logsumexp(0))
    found = placements(together, *torch.tensor(sizes).unbind(1))
    torch.testing.assert_close(found, torch.stack(expected))
