"""What a loss may hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from retort.losses.base import Loss


@pytest.mark.parametrize(
    ("total", "parts", "message"),
    [
        (torch.ones(3), {}, r"a loss's total is \[3\]; expected a tensor without dimensions"),
        (torch.ones(()), {"nll": torch.ones(1)}, r"nll is \[1\]"),
        (torch.ones(()), {"nll": 1.0}, "nll is float"),
    ],
)
def test_a_loss_of_another_shape_is_named_where_it_is_made(total: Any, parts: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Loss(total, parts)
