"""The autoregressive family: a causal decoder, with a key-value cache for search.

Shape letters: r rows (hypotheses being extended), q positions fed at once, t target position, s source position,
d width, v vocabulary, h heads, e head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retort.config import Model, ObjectiveSection
from retort.models.base import Transformer
from retort.models.layers import causal_bias


@dataclass
class Cache:
    """What a search carries from step to step: one entry a layer, all [r, h, positions, e]."""

    length: int
    keys: list[Tensor]
    values: list[Tensor]
    memory: list[tuple[Tensor, Tensor]]
    memory_bias: Tensor

    def select(self, rows: Tensor, memory_rows: Tensor | None = None) -> None:
        """Keep the given rows, in this order; the encoder's part is touched only when ``memory_rows`` is given."""
        self.keys = [key[:, :, : self.length].index_select(0, rows) for key in self.keys]
        self.values = [value[:, :, : self.length].index_select(0, rows) for value in self.values]
        if memory_rows is not None:
            self.memory = [(k.index_select(0, memory_rows), v.index_select(0, memory_rows)) for k, v in self.memory]
            self.memory_bias = self.memory_bias.index_select(0, memory_rows)


class AutoregressiveModel(Transformer):
    """P(y_t | x, y_<t)."""

    family = "autoregressive"
    teaches = True

    def forward(self, source_bs: Tensor, input_bt: Tensor) -> Tensor:
        """Decoder states [b, t, d] for teacher-forced inputs (bos and the target without its last token)."""
        return self.decode(input_bt, *self.encode(source_bs))

    def decode(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """Decoder states [b, t, d] for teacher-forced inputs, given the encoder's output and its bias."""
        bias = causal_bias(input_bt.shape[1], self.dtype, self.device)
        return self.decoder(self.embeddings.embed_target(input_bt), bias, memory_bsd, memory_bias)

    def start(self, source_bs: Tensor) -> Cache:
        """Encode the sources and make an empty cache with one row a source."""
        return self.empty_cache(*self.encode(source_bs))

    def empty_cache(self, memory_bsd: Tensor, memory_bias: Tensor) -> Cache:
        """An empty cache with one row a source, given the encoder's output and its bias."""
        b, heads = len(memory_bsd), self.config.heads
        memory = []
        for layer in self.decoder.layers:
            key, value = layer.cross_attention.keys_values(memory_bsd)
            memory.append((key.view(b, heads, *key.shape[1:]), value.view(b, heads, *value.shape[1:])))
        empty = memory_bsd.new_empty(b, heads, 0, self.config.d_model // heads)
        layers = range(len(memory))
        return Cache(0, [empty for _ in layers], [empty for _ in layers], memory, memory_bias.view(b, heads, 1, -1))

    def step(self, token_r: Tensor, cache: Cache) -> Tensor:
        """Feed one token a row; returns the log-probabilities [r, v] of the next one, in float32, and grows the cache.

        The cache may hold several rows (beams) a source: r is then a multiple of the number of sources, rows of one
        source adjacent, and the encoder's keys and values are shared by them.
        """
        x_rqd = self.step_input(token_r, cache.length)
        rows, width, d = x_rqd.shape
        heads, sources = self.config.heads, cache.memory_bias.shape[0]
        for i, layer in enumerate(self.decoder.layers):
            query, key, value = layer.attention.project(layer.attention_block.pre_norm(x_rqd))
            # only the first position, the token's, is seen from later on
            key, value = (x.view(rows, heads, width, -1)[:, :, :1] for x in (key, value))
            cache.keys[i] = torch.cat([cache.keys[i][:, :, : cache.length], key], 2)
            cache.values[i] = torch.cat([cache.values[i][:, :, : cache.length], value], 2)
            if i + 1 == len(self.decoder.layers):
                query, x_rqd = query[:, -1:], x_rqd[:, -1:]
            y_rqd = layer.attention.attend(
                query, cache.keys[i].flatten(0, 1), cache.values[i].flatten(0, 1), query.new_zeros(1, 1, 1)
            )
            x_rqd = layer.attention_block.residual(x_rqd, y_rqd)
            # beams of a source are the query positions of one attention: its memory is read once
            x_bkd = x_rqd.reshape(sources, -1, d)
            memory = (cache.memory[i][0].flatten(0, 1), cache.memory[i][1].flatten(0, 1))
            x_rqd = layer.after_attention(x_bkd, memory, cache.memory_bias.flatten(0, 1)).view(rows, -1, d)
        cache.length += 1
        return torch.log_softmax(self.logits(self.decoder.norm(x_rqd[:, -1])).float(), -1)

    def step_input(self, token_r: Tensor, position: int) -> Tensor:
        """What a step feeds to the decoder [r, q, d]: the token, and last what predicts the next one: the same here."""
        return self.embeddings.embed_target(token_r[:, None], position)


def build(objective: ObjectiveSection, config: Model, source_size: int, target_size: int) -> AutoregressiveModel:
    """The model of an objective of this family."""
    return AutoregressiveModel(config, source_size, target_size)
