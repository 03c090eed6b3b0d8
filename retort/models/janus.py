"""One set of parameters that decodes left to right or in parallel, with two streams (Liang et al. 2022, section 3).

The content stream holds tokens or mask; the query stream holds mask alone, and predicts what is at its position without
seeing it, whatever it is allowed to see else. Both streams go through the same layers, and both see the content stream.
What predicts token t, in either mode, stands at position t; in the autoregressive mode the token before it, or bos,
does so too (figure 1 of the paper).

Shape letters: b batch, t target position, s source position, d width, h heads, m masked tokens of a sentence, r rows of
both streams, c rows of the content stream, n = all masked tokens of a batch in the last two outputs, else b * h.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Model, ObjectiveSection
from retort.data.batches import LENGTH_STEP, round_up
from retort.data.vocabulary import MASK, PAD
from retort.models.autoregressive import AutoregressiveModel
from retort.models.kernels import MASKED
from retort.models.layers import causal_bias
from retort.models.parallel import ParallelModel


class JanusModel(ParallelModel, AutoregressiveModel):
    """Both P(y_t | x, y_<t), by the autoregressive model's methods, and P(y_t | x, length, given tokens), by those of
    the parallel family, which see the content stream alone: an ordinary parallel decoder."""

    family = "janus"

    def decode(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """States [b, t, d] of the query stream that predict what follows each of the inputs (bos and the target without
        its last token), given the encoder's output and its bias."""
        t = input_bt.shape[1]
        queries_btd = self.embeddings.embed_target(torch.full_like(input_bt, MASK))
        x_brd = torch.cat([self.embeddings.embed_target(input_bt), queries_btd], 1)
        bias = causal_bias(t, self.dtype, self.device).repeat(1, 2, 1)
        return self._streams(x_brd, t, t, bias, memory_bsd, memory_bias)

    def step_input(self, token_r: Tensor, position: int) -> Tensor:
        """The token and the query [r, 2, d], at one position."""
        pair = (token_r[:, None], torch.full_like(token_r[:, None], MASK))
        return torch.cat([self.embeddings.embed_target(token_r1, position) for token_r1 in pair], 1)

    def decode_masked(
        self, target_bt: Tensor, masked_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States [n, d] that predict the masked tokens of the batch, from left to right sentence by sentence: of the
        parallel mode, which sees the tokens not masked, and of the auxiliary distribution, which also sees the masked
        ones on its left."""
        t = target_bt.shape[1]
        place_bm, present_bm = places(masked_bt)
        gold_bm = target_bt.gather(1, place_bm)
        gold_bmd = self.embeddings.positions(self._embed(gold_bm), place_bm)
        slots_btd = self.embeddings.embed_target(target_bt.masked_fill(masked_bt, MASK))
        queries_bmd = self.embeddings.positions(self._embed(torch.full_like(gold_bm, MASK)), place_bm)
        visible_brc = visibility(target_bt != PAD, masked_bt, place_bm, present_bm)
        bias_brc = torch.zeros(visible_brc.shape, dtype=self.dtype, device=self.device).masked_fill_(
            ~visible_brc, MASKED
        )
        bias = bias_brc[:, None].expand(-1, self.config.heads, -1, -1).flatten(0, 1)
        x_brd = torch.cat([gold_bmd, slots_btd, queries_bmd], 1)
        m = place_bm.shape[1]
        states_brd = self._streams(x_brd, m + t, m, bias, memory_bsd, memory_bias)
        return states_brd[:, :t][masked_bt], states_brd[:, t:][present_bm]

    def _streams(
        self, x_brd: Tensor, content: int, first: int, bias: Tensor, memory_bsd: Tensor, memory_bias: Tensor
    ) -> Tensor:
        """Decoder states of the rows from ``first`` on; the rows before ``content`` are the content stream, which all
        rows see as ``bias`` [n, r, content] has it."""
        for i, layer in enumerate(self.decoder.layers):
            query, key, value = layer.attention.project(layer.attention_block.pre_norm(x_brd))
            if i + 1 == len(self.decoder.layers):
                query, bias, x_brd = query[:, first:], bias[:, first:], x_brd[:, first:]
            y_brd = layer.attention.attend(query, key[:, :content], value[:, :content], bias)
            x_brd = layer.attention_block.residual(x_brd, y_brd)
            x_brd = layer.after_attention(x_brd, layer.cross_attention.keys_values(memory_bsd), memory_bias)
        return self.decoder.norm(x_brd)


def places(masked_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Positions [b, m] of each sentence's masked tokens, from left to right, and which of them are no filling."""
    count_b = masked_bt.sum(1)
    most = round_up(int(count_b.max()), LENGTH_STEP)
    place_bm = (~masked_bt).long().argsort(dim=1, stable=True)[:, :most]
    return place_bm, torch.arange(place_bm.shape[1], device=masked_bt.device) < count_b[:, None]


def visibility(real_bt: Tensor, masked_bt: Tensor, place_bm: Tensor, present_bm: Tensor) -> Tensor:
    """Which content a row sees, boolean [b, r, c]: rows are the masked tokens themselves (gold), the slots, which hold
    mask or tokens, and the queries of masked tokens; columns are gold and slots.

    All see the tokens that are not masked. Besides, a slot sees all masks; gold i sees the masks on its right, and gold
    up to itself; query i sees the masks from itself on, and gold on its left.
    """
    b, t = real_bt.shape
    slot_t, place_bm1 = torch.arange(t, device=real_bt.device), place_bm[:, :, None]
    given_b1t, real_b1t = (real_bt & ~masked_bt)[:, None], real_bt[:, None]
    other_bmm = place_bm[:, None].masked_fill(~present_bm[:, None], t)
    gold_bmc = torch.cat([other_bmm <= place_bm1, given_b1t | (real_b1t & (slot_t > place_bm1))], 2)
    queries_bmc = torch.cat([other_bmm < place_bm1, given_b1t | (real_b1t & (slot_t >= place_bm1))], 2)
    slots_btc = torch.cat([torch.zeros_like(present_bm), real_bt], 1)[:, None].expand(-1, t, -1)
    return torch.cat([gold_bmc, slots_btc, queries_bmc], 1)


def build(objective: ObjectiveSection, config: Model, source_size: int, target_size: int) -> JanusModel:
    """The model of an objective of this family."""
    return JanusModel(config, source_size, target_size)
