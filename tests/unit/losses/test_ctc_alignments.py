"""Connectionist temporal classification against torch's, and against all alignments of small sentences."""

from itertools import groupby, product

import pytest
import torch
from torch.nn import functional

from retort.data.vocabulary import BLANK, PAD
from retort.losses.ctc_alignments import best_alignment, ctc_nll
from retort.losses.token_log_probs import token_log_probs

P = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7], [0.6, 0.2, 0.2]])
"""Probabilities of four slots; class 0 is the blank."""


def nll(probabilities_tv: torch.Tensor, target: list[int], slots: int | None = None) -> torch.Tensor:
    """-log P(target) by the loss."""
    chosen = probabilities_tv.log()[None][:, :, [0, *target]]
    slots = len(probabilities_tv) if slots is None else slots
    return ctc_nll(chosen, torch.tensor([target]), torch.tensor([slots]), torch.tensor([len(target)]))[0]


def enumerated(probabilities_tv: torch.Tensor, target: list[int]) -> torch.Tensor:
    """P(target) as the sum over all alignments that collapse to it."""
    t, v = probabilities_tv.shape
    total = probabilities_tv.new_zeros(())
    for path in product(range(v), repeat=t):
        if [token for token, _ in groupby(path) if token] == target:
            total = total + probabilities_tv[range(t), path].prod()
    return total


@pytest.mark.parametrize(("target", "slots", "expected"), [([1, 2], 4, 0.3132), ([1, 1], 4, 0.028), ([1, 1], 2, 0.0)])
def test_known_probabilities(target, slots, expected):
    assert nll(P, target, slots).neg().exp() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("target", [[1], [3, 1], [2, 2], [1, 2, 1], [1, 1, 2], [3, 2, 3, 2], [1, 2, 2, 1]])
def test_the_loss_sums_over_all_alignments_and_so_does_its_gradient(target):
    torch.manual_seed(4)
    p = torch.softmax(torch.randn(5, 4), -1).requires_grad_()
    found, expected = nll(p, target), -enumerated(p, target).log()
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(x, p)[0] for x in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_a_target_without_an_alignment_has_no_gradient():
    p = P[:2].clone().requires_grad_()
    found = nll(p, [1, 1])
    assert found == float("inf")
    assert (torch.autograd.grad(found, p)[0] == 0).all()


def test_loss_and_gradients_equal_torchs_over_the_whole_vocabulary():
    torch.manual_seed(5)
    states, weight = torch.randn(4, 9, 6, requires_grad=True), torch.randn(12, 6, requires_grad=True)
    target = torch.tensor([[7, 7, 8, 7], [6, 9, PAD, PAD], [8, PAD, PAD, PAD], [9, 10, 11, 6]])
    lengths, slots = torch.tensor([4, 2, 1, 4]), torch.tensor([9, 5, 1, 8])
    tokens = torch.cat([torch.full((4, 1), BLANK), target], 1)
    ours = ctc_nll(token_log_probs(states, weight, tokens), target, slots, lengths)
    log_probs_tbv = torch.log_softmax(states @ weight.t(), -1).transpose(0, 1)
    theirs = functional.ctc_loss(log_probs_tbv, target, slots, lengths, blank=BLANK, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    scale = torch.tensor([1.0, 0.5, 2.0, -1.0])
    pairs = zip(*(torch.autograd.grad((x * scale).sum(), (states, weight)) for x in (ours, theirs)), strict=True)
    for own, other in pairs:
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_the_loss_falls_as_the_target_becomes_likely():
    """Follow the gradient: the best path of a trained model collapses to the target, repeats included."""
    torch.manual_seed(6)
    states = torch.zeros(1, 8, 12, requires_grad=True)
    target = torch.tensor([[7, 7, 8]])
    tokens, optimiser = torch.cat([torch.tensor([[BLANK]]), target], 1), torch.optim.Adam([states], 0.5)
    for _ in range(30):
        optimiser.zero_grad()
        log_probs = token_log_probs(states, torch.eye(12), tokens)
        loss = ctc_nll(log_probs, target, torch.tensor([8]), torch.tensor([3])).sum()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    assert [token for token, _ in groupby(states[0].argmax(-1).tolist()) if token != BLANK] == [7, 7, 8]


def collapsed(path: list[int]) -> list[int]:
    return [token for token, _ in groupby(path) if token]


TARGETS = [[1], [3, 1], [2, 2], [1, 2, 1], [1, 1, 2], [3, 2, 3, 2], [1, 2, 2, 1], [2, 2, 2], [3, 3, 1, 2, 2], []]


def test_the_best_alignment_is_the_best_of_all_alignments_whatever_shares_its_batch():
    """Targets with and without repeats, that fill the slots, are empty, or do not fit; one batch, and each alone."""
    torch.manual_seed(7)
    slots = [5, 6, 3, 6, 4, 6, 5, 5, 6, 4]
    scores = [3 * torch.randn(t, 4) for t in slots]
    width = max(map(len, TARGETS))
    target = torch.tensor([[*tokens, *[PAD] * (width - len(tokens))] for tokens in TARGETS])
    gathered = torch.stack(
        [
            functional.pad(x[:, [0, *row]], (0, 0, 0, 8 - len(x)), value=9.0)
            for x, row in zip(scores, target, strict=True)
        ]
    )
    lengths = torch.tensor([len(tokens) for tokens in TARGETS])
    together = best_alignment(gathered, target, torch.tensor(slots), lengths)
    assert together.shape == (len(TARGETS), 8)
    infeasible = 0
    for row, (x, tokens) in enumerate(zip(scores, TARGETS, strict=True)):
        paths = [path for path in product(range(4), repeat=len(x)) if collapsed(path) == tokens]
        if not paths:
            infeasible += 1
            continue
        expected = max(paths, key=lambda path: x[range(len(x)), path].sum().item())
        assert [[0, *tokens][c] for c in together[row, : len(x)].tolist()] == list(expected)
        if tokens:
            chosen = x[None][:, :, [0, *tokens]]
            alone = best_alignment(chosen, torch.tensor([tokens]), torch.tensor([len(x)]), torch.tensor([len(tokens)]))
            assert alone[0].tolist() == together[row, : len(x)].tolist()
    assert infeasible == 1


def test_the_best_alignment_needs_no_normalised_scores():
    torch.manual_seed(8)
    scores, target = torch.randn(2, 7, 4), torch.tensor([[7, 7, 8], [8, 9, PAD]])
    arguments = target, torch.tensor([7, 4]), torch.tensor([3, 2])
    found = best_alignment(scores, *arguments)
    shifted = best_alignment(scores + 5 * torch.randn(2, 7, 1), *arguments)
    assert torch.equal(found[0], shifted[0]) and torch.equal(found[1, :4], shifted[1, :4])
