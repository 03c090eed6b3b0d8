"""The recurrent family, left to right: bidirectional GRU encoder, GRU decoder with attention on top of it.

The attention is that of Luong et al. 2015 with scaled scores: tanh of a linear layer over the top state and its context
vector. Every decoder layer starts from the final states of the encoder layer of the same number. The architecture is
that of the recurrent students of Lin et al. 2020, whose cells are SRUs.

Shape letters: b batch, t target position, s source position, d model width, r rows (hypotheses being extended), k rows
per source, v vocabulary; w = 2 d, the width of the encoder's output and of the decoder's states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from retort.config import Model
from retort.data.vocabulary import PAD
from retort.models.base import EncoderDecoder
from retort.models.kernels import Linear, attend, dropout
from retort.models.layers import padding_bias


@dataclass
class RecurrentCache:
    """Decoder states and encoder output that a search carries from step to step."""

    states: list[Tensor]
    """State of each layer, [1, r, w]."""
    memory_bsw: Tensor
    memory_bias: Tensor
    """Bias [b, 1, s] that hides the padding of the sources."""

    def select(self, rows: Tensor, memory_rows: Tensor | None = None) -> None:
        """Keep the given rows, in this order. ``memory_rows``: sources to keep; None keeps the encoder's part."""
        self.states = [state.index_select(1, rows) for state in self.states]
        if memory_rows is not None:
            self.memory_bsw = self.memory_bsw.index_select(0, memory_rows)
            self.memory_bias = self.memory_bias.index_select(0, memory_rows)


class RecurrentModel(EncoderDecoder):
    """Models P(y_t | x, y_<t)."""

    family = "recurrent"

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__(config, source_size, target_size)
        d = config.d_model
        w = 2 * d
        self.encoder = RecurrentEncoder(config)
        inputs = [d, *[w] * (config.decoder_layers - 1)]
        self.decoder: Sequence[nn.GRU] = nn.ModuleList(nn.GRU(n, w, batch_first=True) for n in inputs)  # type: ignore[assignment]
        self.combine = Linear(2 * w, w)
        self.project = Linear(w, d)

    def forward(self, source_bs: Tensor, input_bt: Tensor) -> Tensor:
        """Decoder states [b, t, d] for teacher-forced inputs (bos and the target without its last token)."""
        memory_bsw, states, bias = self.encode(source_bs)
        top_btw, _ = self._advance(input_bt, states)
        return self._attended(top_btw, memory_bsw, bias)

    def encode(self, source_bs: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Encoder output [b, s, w], the decoder's first states [1, b, w], and the bias [b, 1, s] that hides padding."""
        memory_bsw, states = self.encoder(self.embeddings.embed_source(source_bs), (source_bs != PAD).sum(1))
        return memory_bsw, states[: self.config.decoder_layers], padding_bias(source_bs == PAD, 1, self.dtype)

    def start(self, source_bs: Tensor) -> RecurrentCache:
        """Encode the sources; returns a cache with one row per source."""
        memory_bsw, states, bias = self.encode(source_bs)
        return RecurrentCache(states, memory_bsw, bias)

    def step(self, token_r: Tensor, cache: RecurrentCache) -> Tensor:
        """Feed one token per row; returns the next token's log-probabilities [r, v] (nats, float32).

        The cache advances by one step. It may hold several rows (beams) per source, which are adjacent.
        """
        top_r1w, cache.states = self._advance(token_r[:, None], cache.states)
        top_bkw = top_r1w.view(len(cache.memory_bsw), -1, top_r1w.shape[2])
        states_bkd = self._attended(top_bkw, cache.memory_bsw, cache.memory_bias)
        return torch.log_softmax(self.logits(states_bkd.flatten(0, 1)).float(), -1)

    def _advance(self, input_bt: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """States [b, t, w] of the top layer, and the last state of each layer."""
        x_btw = self.embeddings.embed_target(input_bt)
        last = []
        for number, (layer, state) in enumerate(zip(self.decoder, states, strict=True)):
            x_btw = dropout(x_btw, self.config.dropout, self.training) if number else x_btw
            x_btw, state = layer(x_btw, state)
            last.append(state)
        return x_btw, last

    def _attended(self, top_btw: Tensor, memory_bsw: Tensor, bias: Tensor) -> Tensor:
        """Input of the output projection [b, t, d]: the top states combined with their context vectors."""
        context_btw = attend(top_btw, memory_bsw, value_nse=memory_bsw, bias=bias)
        combined_btw = torch.tanh(self.combine(torch.cat([top_btw, context_btw], -1)))
        return self.project(dropout(combined_btw, self.config.dropout, self.training))


class RecurrentEncoder(nn.Module):
    """Bidirectional GRU layers; the backward GRU reads each sentence from its own last token."""

    forwards: Sequence[nn.GRU]
    backwards: Sequence[nn.GRU]

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.probability = config.dropout
        inputs = [config.d_model, *[2 * config.d_model] * (config.encoder_layers - 1)]
        for name in ("forwards", "backwards"):
            setattr(self, name, nn.ModuleList(nn.GRU(n, config.d_model, batch_first=True) for n in inputs))

    def forward(self, x_bsd: Tensor, length_b: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Output [b, s, w] and final states [1, b, w] of each layer."""
        positions_s = torch.arange(x_bsd.shape[1], device=x_bsd.device)
        inside_bs = positions_s < length_b[:, None]
        # reverses each sentence and leaves its padding; applied twice, it restores the order
        turned_bs1 = torch.where(inside_bs, length_b[:, None] - 1 - positions_s, positions_s)[:, :, None]
        last_b1d = (length_b - 1)[:, None, None]
        finals = []
        for number, (forward, backward) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            x_bsd = dropout(x_bsd, self.probability, self.training) if number else x_bsd
            ahead_bsd, _ = forward(x_bsd)
            back_bsd, _ = backward(x_bsd.gather(1, turned_bs1.expand_as(x_bsd)))
            both = [ahead_bsd, back_bsd]
            ends = [y_bsd.gather(1, last_b1d.expand(-1, 1, y_bsd.shape[2])) for y_bsd in both]
            finals.append(torch.cat(ends, -1).transpose(0, 1).contiguous())
            x_bsd = torch.cat([ahead_bsd, back_bsd.gather(1, turned_bs1.expand_as(back_bsd))], -1)
        return x_bsd, finals


build = RecurrentModel.build
