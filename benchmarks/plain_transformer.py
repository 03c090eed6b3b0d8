"""A Transformer as one writes it with stock PyTorch, the yardstick of training_speed.py.

Shape letters: b batch, t target position, s source position, d model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from retort.data.vocabulary import PAD
from retort.models.autoregressive import AutoregressiveModel


class Attention(nn.Module):
    """Multi-head attention; keys and values come from the same projection (self: the query's, too)."""

    def __init__(self, width: int, heads: int, self_attention: bool) -> None:
        super().__init__()
        self.heads = heads
        widths = [3 * width] if self_attention else [width, 2 * width]
        self.inputs = nn.ModuleList(nn.Linear(width, w) for w in widths)
        self.output = nn.Linear(width, width)

    def forward(self, x_btd: Tensor, memory_bsd: Tensor | None, mask: Tensor | None, causal: bool = False) -> Tensor:
        if memory_bsd is None:
            query, key, value = self.inputs[0](x_btd).chunk(3, -1)
        else:
            query = self.inputs[0](x_btd)
            key, value = self.inputs[1](memory_bsd).chunk(2, -1)
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.output(context.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Encoder layer, or decoder layer with cross-attention; pre-norm."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, cross: bool) -> None:
        super().__init__()
        self.attention, self.attention_norm = Attention(width, heads, True), nn.LayerNorm(width)
        if cross:
            self.cross, self.cross_norm = Attention(width, heads, False), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, width)
        )
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x_btd: Tensor, mask: Tensor | None, memory_bsd: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        causal = memory_bsd is not None
        x_btd = x_btd + self.dropout(self.attention(self.attention_norm(x_btd), None, mask, causal))
        if memory_bsd is not None:
            x_btd = x_btd + self.dropout(self.cross(self.cross_norm(x_btd), memory_bsd, memory_mask))
        return x_btd + self.dropout(self.feed_forward(self.feed_forward_norm(x_btd)))


class PlainTransformer(nn.Module):
    """Logits [b, t, v]; pre-norm, one embedding for source, target and output, sinusoidal positions.

    Takes the weights of a Retort model of that shape, whose parameters come in the same order.
    """

    positions: Tensor

    def __init__(self, model: AutoregressiveModel) -> None:
        super().__init__()
        config = model.config
        width, heads, inner, dropout = config.d_model, config.heads, config.ffn, config.dropout
        self.embedding = nn.Embedding(model.embeddings.source.shape[0], width)
        self.encoder = nn.ModuleList(
            Layer(width, heads, inner=inner, dropout=dropout, cross=False) for _ in range(config.encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(
            Layer(width, heads, inner=inner, dropout=dropout, cross=True) for _ in range(config.decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        angles = torch.arange(config.max_length)[:, None] * 10000 ** (-torch.arange(0, width, 2) / width)
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], -1).flatten(1))
        for own, given in zip(self.parameters(), model.parameters(), strict=True):
            if own.shape != given.shape:
                raise ValueError(f"parameter of shape {list(given.shape)}, expected {list(own.shape)}")
            own.data.copy_(given.data)

    def embed(self, ids_bt: Tensor) -> Tensor:
        scaled_btd = self.embedding(ids_bt) * self.embedding.embedding_dim**0.5
        return self.dropout(scaled_btd + self.positions[: ids_bt.shape[1]])

    def forward(self, source_bs: Tensor, input_bt: Tensor) -> Tensor:
        mask = (source_bs != PAD)[:, None, None, :]
        x_bsd = self.embed(source_bs)
        for layer in self.encoder:
            x_bsd = layer(x_bsd, mask)
        memory_bsd = self.encoder_norm(x_bsd)
        y_btd = self.embed(input_bt)
        for layer in self.decoder:
            y_btd = layer(y_btd, None, memory_bsd, mask)
        return functional.linear(self.decoder_norm(y_btd), self.embedding.weight)
