"""Base classes of the models: what every family shares, and what every Transformer shares.

Shape letters: b batch, s source position, d model width, h heads, n = b * h.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Self

import torch
from torch import Tensor, nn

from retort.config import Model, ObjectiveSection
from retort.data.vocabulary import FORBIDDEN, PAD
from retort.models.embeddings import Embeddings
from retort.models.kernels import linear
from retort.models.layers import Decoder, Encoder, padding_bias


class EncoderDecoder(nn.Module):
    """Base class of every model: embeddings and the output projection."""

    family = ""
    """Name of the family: of its modules, and for errors."""
    own_weights: tuple[str, ...] = ()
    """Prefixes of the parameters that no other family has; a pre-trained model hands them on."""
    of_decoder_layers: Mapping[str, int] = {}
    """What else each decoder layer has, outside of it: the start of its weights' names, and how many first layers lack
    it."""
    teaches = False
    """Whether it scores candidates and labels training text: next-token probabilities of a Transformer."""

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config, source_size, target_size)

    @classmethod
    def build(cls, objective: ObjectiveSection, config: Model, source_size: int, target_size: int) -> Self:
        """The model of an objective of this family, with its options that the objective has as a key or class
        variable."""
        options = {key: getattr(objective, key) for key in signature(cls).parameters if hasattr(objective, key)}
        return cls(config, source_size, target_size, **options)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.embeddings.source.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.embeddings.source.device

    @property
    def forbidden(self) -> list[int]:
        """Ids that no step or slot of an output holds, in ascending order. Searches also avoid unk, unless allowed."""
        return FORBIDDEN

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., v] over the target vocabulary for states [..., d], in the model's precision."""
        return linear(hidden, self.embeddings.output)


class Transformer(EncoderDecoder):
    """Encoder and decoder of the Transformer, with Xavier initialisation."""

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__(config, source_size, target_size)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def encode(self, source_bs: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder output [b, s, d] and the bias [n, 1, s] that hides its padding."""
        bias = padding_bias(source_bs == PAD, self.config.heads, self.dtype)
        return self.encoder(self.embeddings.embed_source(source_bs), bias), bias
