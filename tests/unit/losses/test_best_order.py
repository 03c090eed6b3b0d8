"""The best order of a sentence's tokens."""

import pytest
import torch

from retort.losses.best_order import best_order


def test_a_known_order():
    log_probs = torch.tensor([[0.1, 0.6, 0.1, 0.2], [0.1, 0.2, 0.1, 0.6], [0.1, 0.1, 0.7, 0.1]]).log()[None, :, 1:]
    order = best_order(log_probs, torch.tensor([3]))
    assert order.tolist() == [[0, 2, 1]]
    assert float(-log_probs[0, range(3), order[0]].sum()) == pytest.approx(1.378326, abs=1e-6)
    assert float(-log_probs[0].diagonal().sum()) == pytest.approx(5.115996, abs=1e-6), "position by position"


def test_padding_takes_no_part():
    """Slots and tokens of padding would be the best to match."""
    log_probs = torch.full((2, 5, 5), -1e-3)
    log_probs[0, :3, :3] = torch.tensor([[-9.0, -9.0, -1.0], [-1.0, -9.0, -9.0], [-9.0, -1.0, -9.0]])
    assert best_order(log_probs, torch.tensor([3, 5]))[0].tolist() == [2, 0, 1, 3, 4]
