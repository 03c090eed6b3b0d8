"""The autoregressive family: a causal decoder, with a key-value cache for search (Vaswani et al. 2017).

Shape letters: b batch or sources, r rows (hypotheses being extended), k rows per source, q positions per step, t target
position, s source position, d width, v vocabulary, h heads, e head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retort.models.base import Transformer
from retort.models.layers import causal_bias


@dataclass
class Cache:
    """Keys and values that a search carries from step to step; the lists have one entry per layer."""

    length: int
    """Positions in the cache."""
    keys: list[Tensor]
    """Self-attention keys, [r, h, positions, e]."""
    values: list[Tensor]
    """Self-attention values, [r, h, positions, e]."""
    memory: list[tuple[Tensor, Tensor]]
    """Cross-attention keys and values, [b, h, s, e]."""
    memory_bias: Tensor
    """Bias [b, h, 1, s] that hides the padding of the sources."""

    def select(self, rows: Tensor, memory_rows: Tensor | None = None) -> None:
        """Keep the given rows, in this order. ``memory_rows``: sources to keep; None keeps the encoder's part."""
        self.keys = [key[:, :, : self.length].index_select(0, rows) for key in self.keys]
        self.values = [value[:, :, : self.length].index_select(0, rows) for value in self.values]
        if memory_rows is not None:
            self.memory = [(k.index_select(0, memory_rows), v.index_select(0, memory_rows)) for k, v in self.memory]
            self.memory_bias = self.memory_bias.index_select(0, memory_rows)


class AutoregressiveModel(Transformer):
    """Models P(y_t | x, y_<t)."""

    family = "autoregressive"
    teaches = True
    one_stream = True
    """Whether the states of the tokens are those that predict, as in the decoders of engines."""

    def forward(self, source_bs: Tensor, input_bt: Tensor) -> Tensor:
        """Decoder states [b, t, d] for teacher-forced inputs (bos and the target without its last token)."""
        return self.decode(input_bt, *self.encode(source_bs))

    def decode(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """Decoder states [b, t, d] for teacher-forced inputs, given the encoder's output and its bias."""
        bias = causal_bias(input_bt.shape[1], self.dtype, self.device)
        return self.decoder(self.embeddings.embed_target(input_bt), bias, memory_bsd, memory_bias)

    def start(self, source_bs: Tensor) -> Cache:
        """Encode the sources; returns an empty cache with one row per source."""
        return self.empty_cache(*self.encode(source_bs))

    def empty_cache(self, memory_bsd: Tensor, memory_bias: Tensor) -> Cache:
        """An empty cache with one row per source, given the encoder's output and its bias."""
        b = len(memory_bsd)
        heads = self.config.heads
        memory = []
        for layer in self.decoder.layers:
            key, value = layer.cross_attention.keys_values(memory_bsd)
            memory.append((key.view(b, heads, *key.shape[1:]), value.view(b, heads, *value.shape[1:])))
        empty = memory_bsd.new_empty(b, heads, 0, self.config.d_model // heads)
        return Cache(
            length=0,
            keys=[empty for _ in memory],
            values=[empty for _ in memory],
            memory=memory,
            memory_bias=memory_bias.view(b, heads, 1, -1),
        )

    def step(self, token_r: Tensor, cache: Cache) -> Tensor:
        """Feed one token per row; returns the next token's log-probabilities [r, v] (nats, float32), extends the cache.

        The cache may hold several rows (beams) per source: r is then a multiple of the number of sources, and the rows
        of a source are adjacent. They share the encoder's keys and values.
        """
        x_rqd = self.step_input(token_r, cache.length)
        rows, width, d = x_rqd.shape
        heads = self.config.heads
        sources = cache.memory_bias.shape[0]
        for i, layer in enumerate(self.decoder.layers):
            query, key, value = layer.attention.project(layer.attention_block.pre_norm(x_rqd))
            # later steps see the first position only, which is the token's
            key, value = (x.view(rows, heads, width, -1)[:, :, :1] for x in (key, value))
            cache.keys[i] = torch.cat([cache.keys[i][:, :, : cache.length], key], 2)
            cache.values[i] = torch.cat([cache.values[i][:, :, : cache.length], value], 2)
            if i + 1 == len(self.decoder.layers):
                query, x_rqd = query[:, -1:], x_rqd[:, -1:]
            y_rqd = layer.attention.attend(
                query,
                cache.keys[i].flatten(0, 1),
                value_nse=cache.values[i].flatten(0, 1),
                bias=query.new_zeros(1, 1, 1),
            )
            x_rqd = layer.attention_block.residual(x_rqd, y_rqd)
            # the beams of a source become query positions of one attention, so that its memory is read once
            x_bkd = x_rqd.reshape(sources, -1, d)
            memory = (cache.memory[i][0].flatten(0, 1), cache.memory[i][1].flatten(0, 1))
            x_rqd = layer.after_attention(x_bkd, memory, cache.memory_bias.flatten(0, 1)).view(rows, -1, d)
        cache.length += 1
        return torch.log_softmax(self.logits(self.decoder.norm(x_rqd[:, -1])).float(), -1)

    def step_input(self, token_r: Tensor, position: int) -> Tensor:
        """Decoder input of a step [r, q, d]; its first position is the token, its last one predicts the next token."""
        return self.embeddings.embed_target(token_r[:, None], position)


build = AutoregressiveModel.build
