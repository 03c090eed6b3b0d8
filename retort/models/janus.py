"""JANUS: one set of parameters that decodes left to right or in parallel (Liang et al. 2022, section 3).

There are two streams. The content stream holds tokens or mask. The query stream holds mask, and predicts the token at
its position without seeing it. Both streams pass through the same layers and attend to the content stream. In both
modes, token t is predicted at position t. In the autoregressive mode, token t - 1 or bos has position t too (figure 1).

Shape letters: b batch, t target position, s source position, d width, h heads, m masked tokens of a sentence, r rows of
both streams, c rows of the content stream, n = b * h; in the outputs of ``decode_masked`` n masked tokens of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.data.batches import LENGTH_STEP, round_up
from retort.data.vocabulary import MASK, PAD
from retort.models.autoregressive import AutoregressiveModel
from retort.models.kernels import MASKED
from retort.models.layers import causal_bias
from retort.models.parallel import ParallelModel


class JanusModel(ParallelModel, AutoregressiveModel):
    """Models P(y_t | x, y_<t) and P(y_t | x, length, given tokens).

    The first has the methods of the autoregressive family. The second has those of the parallel family: with the
    content stream alone, the model is an ordinary parallel decoder.
    """

    family = "janus"
    one_stream = False

    def decode(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """States [b, t, d] of the query stream that predict the token after each input.

        The inputs are bos and the target without its last token; the encoder's output and its bias are given.
        """
        t = input_bt.shape[1]
        queries_btd = self.embeddings.embed_target(torch.full_like(input_bt, MASK))
        x_brd = torch.cat([self.embeddings.embed_target(input_bt), queries_btd], 1)
        bias = causal_bias(t, self.dtype, self.device).repeat(1, 2, 1)
        return self._streams(x_brd, bias, memory_bsd=memory_bsd, memory_bias=memory_bias, content=t, first=t)

    def step_input(self, token_r: Tensor, position: int) -> Tensor:
        """Embeddings [r, 2, d] of the token and of the query, at the same position."""
        token_r1 = token_r[:, None]
        query_r1 = torch.full_like(token_r1, MASK)
        return torch.cat([self.embeddings.embed_target(x_r1, position) for x_r1 in (token_r1, query_r1)], 1)

    def decode_masked(
        self, target_bt: Tensor, masked_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States [n, d] that predict the batch's masked tokens, sentence by sentence from left to right, in two ways.

        The first are those of the parallel mode, which sees the unmasked tokens. The second are those of the auxiliary
        distribution, which also sees the masked tokens on its left.
        """
        t = target_bt.shape[1]
        place_bm, present_bm = places(masked_bt)
        gold_bm = target_bt.gather(1, place_bm)
        gold_bmd = self.embeddings.positions(self._embed(gold_bm), place_bm)
        slots_btd = self.embeddings.embed_target(target_bt.masked_fill(masked_bt, MASK))
        queries_bmd = self.embeddings.positions(self._embed(torch.full_like(gold_bm, MASK)), place_bm)
        visible_brc = visibility(target_bt != PAD, masked_bt, place_bm=place_bm, present_bm=present_bm)
        bias_brc = torch.zeros(visible_brc.shape, dtype=self.dtype, device=self.device)
        bias_brc.masked_fill_(~visible_brc, MASKED)
        bias = bias_brc[:, None].expand(-1, self.config.heads, -1, -1).flatten(0, 1)
        x_brd = torch.cat([gold_bmd, slots_btd, queries_bmd], 1)
        m = place_bm.shape[1]
        states_brd = self._streams(x_brd, bias, memory_bsd=memory_bsd, memory_bias=memory_bias, content=m + t, first=m)
        return states_brd[:, :t][masked_bt], states_brd[:, t:][present_bm]

    def _streams(
        self, x_brd: Tensor, bias: Tensor, memory_bsd: Tensor, memory_bias: Tensor, *, content: int, first: int
    ) -> Tensor:
        """Decoder states of the rows from ``first`` on.

        The first ``content`` rows are the content stream; all rows attend to them, with ``bias`` [n, r, content].
        """
        for i, layer in enumerate(self.decoder.layers):
            query, key, value = layer.attention.project(layer.attention_block.pre_norm(x_brd))
            if i + 1 == len(self.decoder.layers):
                query, bias, x_brd = query[:, first:], bias[:, first:], x_brd[:, first:]
            y_brd = layer.attention.attend(query, key[:, :content], value_nse=value[:, :content], bias=bias)
            x_brd = layer.attention_block.residual(x_brd, y_brd)
            x_brd = layer.after_attention(x_brd, layer.cross_attention.keys_values(memory_bsd), memory_bias)
        return self.decoder.norm(x_brd)


def places(masked_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Positions [b, m] of each sentence's masked tokens, from left to right, and which entries are not padding."""
    count_b = masked_bt.sum(1)
    width = round_up(int(count_b.max()), LENGTH_STEP)
    place_bm = (~masked_bt).long().argsort(dim=1, stable=True)[:, :width]
    return place_bm, torch.arange(place_bm.shape[1], device=masked_bt.device) < count_b[:, None]


def visibility(real_bt: Tensor, masked_bt: Tensor, place_bm: Tensor, present_bm: Tensor) -> Tensor:
    """Which content a row sees, boolean [b, r, c].

    Rows are the masked tokens themselves (gold), the slots, which hold mask or tokens, and the queries of the masked
    tokens. Columns are gold and slots. All rows see the unmasked tokens. In addition:
    - a slot sees all masks;
    - gold i sees the masks on its right, and gold up to itself;
    - query i sees the masks from its position on, and gold on its left.
    """
    b, t = real_bt.shape
    slot_t = torch.arange(t, device=real_bt.device)
    place_bm1 = place_bm[:, :, None]
    real_b1t = real_bt[:, None]
    given_b1t = (real_bt & ~masked_bt)[:, None]
    other_bmm = place_bm[:, None].masked_fill(~present_bm[:, None], t)
    gold_bmc = torch.cat([other_bmm <= place_bm1, given_b1t | (real_b1t & (slot_t > place_bm1))], 2)
    queries_bmc = torch.cat([other_bmm < place_bm1, given_b1t | (real_b1t & (slot_t >= place_bm1))], 2)
    slots_btc = torch.cat([torch.zeros_like(present_bm), real_bt], 1)[:, None].expand(-1, t, -1)
    return torch.cat([gold_bmc, slots_btc, queries_bmc], 1)


build = JanusModel.build
