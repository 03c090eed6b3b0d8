"""DA-Transformer: a directed acyclic graph whose vertices are upsampled slots (Huang et al. 2022, section 3.1).

Shape letters: b batch, t vertex, i and j vertices of a transition, d model width, h heads, e head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retort.config import Model
from retort.data.vocabulary import BLANK
from retort.models.kernels import MASKED, Linear
from retort.models.parallel import ParallelModel


class DagModel(ParallelModel):
    """Models P(token | vertex), as the parallel family does, and P(next vertex | vertex)."""

    family = "dag"

    def __init__(self, config: Model, source_size: int, target_size: int, upsampling: float) -> None:
        """``upsampling``: number of vertices per source token."""
        super().__init__(config, source_size, target_size, upsampling=upsampling)
        # query, key and one gate logit per head, packed side by side
        width = 2 * config.d_model + config.heads
        self.from_state = Linear(config.d_model, width)
        self.from_position = Linear(config.d_model, width, bias=False)
        for layer in (self.from_state, self.from_position):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.from_state.bias)

    @property
    def forbidden(self) -> list[int]:
        """Those of inner vertices; the last vertex holds eos."""
        return [*super().forbidden, BLANK]

    def transitions(self, states_btd: Tensor, vertices_b: Tensor) -> Tensor:
        """Transition probabilities P(j follows i), float32 [b, i, j].

        Rows sum to 1; those of the last vertex and of padding are 0. The probabilities are a gated mixture over heads
        of attention to later vertices. ``vertices_b``: number of vertices without padding.
        """
        b, t, d = states_btd.shape
        heads = self.config.heads
        positions_td = self.slot_positions.table[:t].to(states_btd.dtype)
        packed = (self.from_state(states_btd) + self.from_position(positions_td)).float()
        query, key, gate_bth = packed.split([d, d, heads], 2)
        query_bhte = (query * (d // heads) ** -0.5).view(b, t, heads, -1).transpose(1, 2)
        key_bhte = key.view(b, t, heads, -1).transpose(1, 2)
        place_t = torch.arange(t, device=states_btd.device)
        hidden_bij = (place_t <= place_t[:, None]) | (place_t >= vertices_b[:, None, None])
        bias_bij = torch.zeros(b, t, t, device=states_btd.device).masked_fill_(hidden_bij, MASKED)
        weights_bhij = torch.softmax(query_bhte @ key_bhte.transpose(2, 3) + bias_bij[:, None], -1)
        has_next_bt1 = (place_t < vertices_b[:, None] - 1)[:, :, None]
        gate_bhi = (torch.softmax(gate_bth, -1) * has_next_bt1).transpose(1, 2)
        return (weights_bhij * gate_bhi[:, :, :, None]).sum(1)


build = DagModel.build
