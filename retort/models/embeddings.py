"""Token embeddings, the tied output projection, and positions.

Shape letters: b batch, t position, s source position, d model width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from retort.config import Model
from retort.data.batches import LENGTH_STEP, round_up
from retort.data.upsampling import ONE_SLOT, Upsampling
from retort.models.kernels import dropout, embed


class Embeddings(nn.Module):
    """Token embeddings of both sides, the output projection, and positions; ``config.tied`` decides what is shared."""

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__()
        self.scale = math.sqrt(config.d_model)
        self.source = nn.Parameter(_scaled_normal(source_size, config.d_model))
        self.target = self.source if config.tied == "all" else nn.Parameter(_scaled_normal(target_size, config.d_model))
        self.output = (
            nn.Parameter(_scaled_normal(target_size, config.d_model)) if config.tied == "none" else self.target
        )
        self.positions = Positions(config) if config.family == "transformer" else NoPositions(config)

    def embed_source(self, source_bs: Tensor) -> Tensor:
        """Embeddings [b, s, d] of source tokens, with positions and dropout."""
        return self.positions(embed(source_bs, self.source) * self.scale)

    def embed_target(self, target_bt: Tensor, first: int = 0) -> Tensor:
        """Embeddings [b, t, d] of target tokens at positions ``first``, first + 1, ..., with dropout."""
        return self.positions(embed(target_bt, self.target) * self.scale, first)


class Positions(nn.Module):
    """Position embeddings, added with dropout: for padded sequences of as many positions per token as ``upsampling``
    says."""

    def __init__(self, config: Model, upsampling: Upsampling = ONE_SLOT) -> None:
        super().__init__()
        self.probability = config.dropout
        # the longest sequence is padded too, and a length slot may precede it
        length = upsampling.slots(round_up(config.max_length, LENGTH_STEP) + 1)
        if config.positions == "learned":
            self.table = nn.Parameter(normal(length, config.d_model, deviation=0.02))
        else:
            self.register_buffer("table", _sinusoids(length, config.d_model), persistent=False)

    def forward(self, x_btd: Tensor, first: int | Tensor = 0) -> Tensor:
        """``x_btd`` plus the embeddings of positions ``first``, first + 1, ..., or of a tensor of positions [b, t]."""
        t = x_btd.shape[1]
        positions = embed(first, self.table) if isinstance(first, Tensor) else self.table[first : first + t]
        return dropout(x_btd + positions.to(x_btd.dtype), self.probability, self.training)


class NoPositions(nn.Module):
    """Dropout without position embeddings, for a recurrent model."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.probability = config.dropout

    def forward(self, x_btd: Tensor, first: int = 0) -> Tensor:
        """``x_btd`` with dropout; ``first`` is ignored."""
        return dropout(x_btd, self.probability, self.training)


def normal(*shape: int, deviation: float) -> Tensor:
    """Normal random numbers of mean 0; values are not set where only shapes are asked for."""
    return torch.empty(shape) if shapes_only() else torch.randn(shape) * deviation


def shapes_only() -> bool:
    """Whether the model is built on the meta device. Computing there imports torch's compiler, which takes 1.5 s."""
    return torch.get_default_device().type == "meta"


def _scaled_normal(rows: int, columns: int) -> Tensor:
    return normal(rows, columns, deviation=columns**-0.5)


def _sinusoids(length: int, width: int) -> Tensor:
    """Sinusoidal position embeddings [length, width] (Vaswani et al. 2017, section 3.5)."""
    if shapes_only():
        return torch.empty(length, width)
    angles = torch.arange(length)[:, None] * 10000 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], -1).view(length, width)
