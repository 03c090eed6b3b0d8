"""A recurrent model that decodes left to right: bidirectional GRU encoder, GRU decoder with attention after it.

The decoder is that of Luong et al. 2015 with scaled scores: tanh of a linear layer over the top state and what it
attends to. Every decoder layer starts from the final states of the encoder layer with its number. The shape is that of
the recurrent students of Lin et al. 2020, whose cells are SRUs.

Shape letters: b batch, t target position, s source position, d model width, w = 2 d width of the encoder's output and
of the decoder's states, r rows (hypotheses being extended), k rows a source, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from retort.config import Model, ObjectiveSection
from retort.data.vocabulary import PAD
from retort.models.base import EncoderDecoder
from retort.models.kernels import Linear, attend, dropout
from retort.models.layers import padding_bias


@dataclass
class RecurrentCache:
    """What a search carries from step to step: the state of each layer, [1, r, w], and the encoder's output."""

    states: list[Tensor]
    memory_bsw: Tensor
    memory_bias: Tensor

    def select(self, rows: Tensor, memory_rows: Tensor | None = None) -> None:
        """Keep the given rows, in this order; the encoder's part is touched only when ``memory_rows`` is given."""
        self.states = [state.index_select(1, rows) for state in self.states]
        if memory_rows is not None:
            self.memory_bsw = self.memory_bsw.index_select(0, memory_rows)
            self.memory_bias = self.memory_bias.index_select(0, memory_rows)


class RecurrentModel(EncoderDecoder):
    """P(y_t | x, y_<t)."""

    family = "recurrent"

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__(config, source_size, target_size)
        d, w = config.d_model, 2 * config.d_model
        self.encoder = RecurrentEncoder(config)
        inputs = [d, *[w] * (config.decoder_layers - 1)]
        self.decoder: Sequence[nn.GRU] = nn.ModuleList(nn.GRU(n, w, batch_first=True) for n in inputs)  # type: ignore[assignment]
        self.combine, self.project = Linear(2 * w, w), Linear(w, d)

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
        """Encode the sources and make a cache with one row a source."""
        memory_bsw, states, bias = self.encode(source_bs)
        return RecurrentCache(states, memory_bsw, bias)

    def step(self, token_r: Tensor, cache: RecurrentCache) -> Tensor:
        """Feed one token a row; returns the log-probabilities [r, v] of the next one, in float32.

        The cache goes one step on. It may hold several rows (beams) a source, rows of one source adjacent.
        """
        top_r1w, cache.states = self._advance(token_r[:, None], cache.states)
        top_bkw = top_r1w.view(len(cache.memory_bsw), -1, top_r1w.shape[2])
        states_bkd = self._attended(top_bkw, cache.memory_bsw, cache.memory_bias)
        return torch.log_softmax(self.logits(states_bkd.flatten(0, 1)).float(), -1)

    def _advance(self, input_bt: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """States [b, t, w] of the top layer, and the last state of each layer."""
        x_bt, last = self.embeddings.embed_target(input_bt), []
        for number, (layer, state) in enumerate(zip(self.decoder, states, strict=True)):
            x_bt = dropout(x_bt, self.config.dropout, self.training) if number else x_bt
            x_bt, state = layer(x_bt, state)
            last.append(state)
        return x_bt, last

    def _attended(self, top_btw: Tensor, memory_bsw: Tensor, bias: Tensor) -> Tensor:
        """What the output projection sees: [b, t, d]."""
        context_btw = attend(top_btw, memory_bsw, memory_bsw, bias)
        combined_btw = torch.tanh(self.combine(torch.cat([top_btw, context_btw], -1)))
        return self.project(dropout(combined_btw, self.config.dropout, self.training))


class RecurrentEncoder(nn.Module):
    """Layers of two GRUs each, one of which reads every sentence from its own end."""

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
        # its own inverse: reverses the sentence, leaves the padding
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


def build(objective: ObjectiveSection, config: Model, source_size: int, target_size: int) -> RecurrentModel:
    """The model of an objective of this family."""
    return RecurrentModel(config, source_size, target_size)
