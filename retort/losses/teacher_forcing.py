"""The decoder's input in next-token prediction.

Shape letters: b batch, t target position.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.data.vocabulary import BOS


def shifted_right(target_bt: Tensor) -> Tensor:
    """Decoder input: bos, then the target without its last token."""
    return torch.cat([target_bt.new_full((len(target_bt), 1), BOS), target_bt[:, :-1]], 1)
