"""BANG: one set of parameters that predicts left to right, all at once, or in blocks (Qi et al. 2021).

The main stream holds real tokens. The predicting streams hold one learned vector, a slot, at the position of each
predicted token. Stream s predicts token t from the real tokens before t - s. Slots whose visible context ends at the
same token attend to each other causally, and to no other slots (cross-stream visibility). What slots see of "a b c":

    predicted   stream 0    stream 1            stream 2
    b           bos a       bos, slot of a
    c           bos a b     bos a, slot of b    bos, slots of a and b

A search therefore computes the same states as training, slot by slot or block by block.

Shape letters: b batch, t target position or slot, m tokens of the main stream, p predicted slots, q = m + p rows of
both streams, c columns of both streams, r rows (hypotheses being extended), k tokens of the main stream per call, s
source position, d width, h heads, u distance buckets, n = r * h. A leading 1 broadcasts over b.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from retort.config import Model
from retort.data.batches import LENGTH_STEP
from retort.models.autoregressive import AutoregressiveModel, Cache
from retort.models.embeddings import normal, shapes_only
from retort.models.kernels import MASKED, Linear, embed, gather_last

BUCKETS = 32
EXACT_BUCKETS, FARTHEST = 16, 128
"""Distances below the first have a bucket each; all from the second on share one (Raffel et al. 2020)."""


class Slots(NamedTuple):
    """Positions of the main stream's tokens and of the slots, and the part of the main stream that each slot sees."""

    token_place_bm: Tensor
    place_bp: Tensor
    """Positions of the tokens that the slots predict; bos is at 0."""
    last_bp: Tensor
    """Index of the last token of the main stream that a slot sees; -1 for padding, which no other slot sees."""


class BangModel(AutoregressiveModel):
    """Models P(y_t | x, y_<t), by the autoregressive model's methods, and P(y_t | x, y_<c) for slots t >= c."""

    family = "bang"
    one_stream = False
    own_weights = ("slot_vector", "relative.")
    of_decoder_layers = {"relative.": 0}

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__(config, source_size, target_size)
        self.slot_vector = nn.Parameter(normal(config.d_model, deviation=config.d_model**-0.5))
        layers = range(config.decoder_layers)
        self.relative = nn.ModuleList(Linear(config.d_model, BUCKETS * config.heads) for _ in layers)
        for parameter in self.relative.parameters():
            nn.init.zeros_(parameter)
        # the longest sequence is padded too
        self.register_buffer("buckets", distance_buckets(config.max_length + LENGTH_STEP), persistent=False)

    def decode(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """States [b, t, d] that predict the token after each input.

        The inputs are bos and the target without its last token; the encoder's output and its bias are given.
        """
        return self.decode_blocks(input_bt, 1, memory_bsd=memory_bsd, memory_bias=memory_bias)

    def decode_blocks(self, input_bt: Tensor, size: int, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """States [b, t, d] as of ``decode``, in blocks of ``size`` slots that see the tokens before their block.

        A size of 1 is left to right; a size of t is all at once.
        """
        slots = blocks(input_bt.shape[1], size, self.device)
        return self.predict(
            input_bt[:, : slots.token_place_bm.shape[1]], slots, memory_bsd=memory_bsd, memory_bias=memory_bias
        )

    def predict(self, token_bm: Tensor, slots: Slots, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """States [b, p, d] of the slots, given the main stream's tokens, the encoder's output and its bias."""
        place_bq = torch.cat([slots.token_place_bm, slots.place_bp], 1)
        # eos after max_length tokens has no place of its own
        embedded_bq = place_bq.clamp(max=self.config.max_length)
        return self._advance(
            self._embed(token_bm, slots.place_bp.shape[1], embedded_bq),
            visible_bqc=visibility(slots),
            bucket_b1qc=self._distances(place_bq, place_bq),
            cache=self.empty_cache(memory_bsd, memory_bias),
            tokens=token_bm.shape[1],
        )

    def step(self, token_r: Tensor, cache: Cache) -> Tensor:
        """Feed one token per row; returns the next token's log-probabilities [r, v] (nats, float32), extends the cache.

        See the autoregressive model.
        """
        states_rd = self.advance(token_r[:, None], cache, 1)[:, 0]
        return torch.log_softmax(self.logits(states_rd).float(), -1)

    def advance(self, token_rk: Tensor, cache: Cache, count: int) -> Tensor:
        """Feed k tokens per row; returns the states [r, count, d] of the slots after them, and extends the cache.

        Only the tokens stay in the cache. It may hold several rows per source, as for ``step``.
        """
        first = cache.length
        place_1c = torch.arange(first + token_rk.shape[1] + count, device=self.device)[None]
        place_1q = place_1c[:, first:]
        # the slots come last and see the same tokens, so that the whole mask is causal
        return self._advance(
            self._embed(token_rk, count, place_1q),
            visible_bqc=place_1c[:, None] <= place_1q[:, :, None],
            bucket_b1qc=self._distances(place_1q, place_1c),
            cache=cache,
            tokens=token_rk.shape[1],
        )

    def _embed(self, token_bm: Tensor, count: int, place_bq: Tensor) -> Tensor:
        """Embeddings [b, q, d] of the tokens and of ``count`` slots, at these positions."""
        slots_bpd = self.slot_vector.expand(len(token_bm), count, -1)
        x_bqd = torch.cat([embed(token_bm, self.embeddings.target), slots_bpd], 1) * self.embeddings.scale
        return self.embeddings.positions(x_bqd, place_bq)

    def _distances(self, place_bq: Tensor, place_bc: Tensor) -> Tensor:
        """Buckets [b, 1, q, c] of the distance from each row back to each column."""
        distance_bqc = place_bq[:, :, None] - place_bc[:, None]
        return self.buckets[distance_bqc.clamp_(min=0)][:, None]  # type: ignore[index]

    def _advance(self, x_rqd: Tensor, visible_bqc: Tensor, bucket_b1qc: Tensor, cache: Cache, tokens: int) -> Tensor:
        """States [r, p, d] of the rows after the first ``tokens`` rows, whose keys and values stay in the cache."""
        rows = len(x_rqd)
        heads = self.config.heads
        sources = len(cache.memory_bias)
        last_layer = len(self.decoder.layers) - 1
        for i, layer in enumerate(self.decoder.layers):
            h_rqd = layer.attention_block.pre_norm(x_rqd)
            query, key, value = layer.attention.project(h_rqd)
            if cache.length:
                key, value = (
                    torch.cat([past[i][:, :, : cache.length].flatten(0, 1), new], 1)
                    for past, new in ((cache.keys, key), (cache.values, value))
                )
            cached = slice(cache.length + tokens)
            cache.keys[i], cache.values[i] = (x[:, cached].unflatten(0, (rows, heads)) for x in (key, value))
            if i == last_layer:
                query, h_rqd, x_rqd = query[:, tokens:], h_rqd[:, tokens:], x_rqd[:, tokens:]
                visible_bqc, bucket_b1qc = visible_bqc[:, tokens:], bucket_b1qc[:, :, tokens:]
            bias = self._bias(i, h_rqd, visible_bqc=visible_bqc, bucket_b1qc=bucket_b1qc)
            x_rqd = layer.attention_block.residual(
                x_rqd, layer.attention.attend(query, key, value_nse=value, bias=bias)
            )
            # the rows of a source become query positions of one attention, so that its memory is read once
            memory = (cache.memory[i][0].flatten(0, 1), cache.memory[i][1].flatten(0, 1))
            x_bqd = x_rqd.reshape(sources, -1, x_rqd.shape[2])
            x_rqd = layer.after_attention(x_bqd, memory, cache.memory_bias.flatten(0, 1)).view(x_rqd.shape)
        cache.length += tokens
        return self.decoder.norm(x_rqd)

    def _bias(self, layer: int, h_rqd: Tensor, visible_bqc: Tensor, bucket_b1qc: Tensor) -> Tensor:
        """Bias of a layer's attention scores [n, q, c]: a relative-position term that depends on the row's state.

        Columns that a row must not see are masked.
        """
        r, q, _ = h_rqd.shape
        relative_rhqu = self.relative[layer](h_rqd).view(r, q, self.config.heads, BUCKETS).transpose(1, 2)
        bias_rhqc = gather_last(relative_rhqu, bucket_b1qc.expand(r, self.config.heads, -1, -1))
        return bias_rhqc.masked_fill(~visible_bqc[:, None], MASKED).flatten(0, 1)


def blocks(length: int, size: int, device: torch.device) -> Slots:
    """Consecutive blocks of ``size`` slots, which see the main stream up to the token before their block."""
    slot_1t = torch.arange(length, device=device)[None]
    last_1t = slot_1t // size * size
    tokens = (length - 1) // size * size + 1
    return Slots(slot_1t[:, :tokens], slot_1t + 1, last_1t)


def visibility(slots: Slots) -> Tensor:
    """Which columns a row sees, boolean [b, q, c]; rows and columns are the main stream and then the slots.

    The main stream sees itself causally. A slot sees the main stream up to its last token, and the slots with the same
    last token up to itself.
    """
    m = slots.token_place_bm.shape[1]
    token_m = torch.arange(m, device=slots.last_bp.device)
    last_bp1, place_bp1 = slots.last_bp[:, :, None], slots.place_bp[:, :, None]
    main_bpm = token_m <= last_bp1
    slots_bpp = (slots.last_bp[:, None] == last_bp1) & (slots.place_bp[:, None] <= place_bp1)
    b, p = slots.last_bp.shape
    main_bmm = (token_m <= token_m[:, None]).expand(b, -1, -1)
    main_bmc = torch.cat([main_bmm, main_bmm.new_zeros(b, m, p)], 2)
    return torch.cat([main_bmc, torch.cat([main_bpm, slots_bpp], 2)], 1)


def distance_buckets(length: int) -> Tensor:
    """Bucket of each distance below ``length``: one per short distance, then logarithmically wider ones."""
    if shapes_only():
        return torch.empty(length, dtype=torch.long)
    distance = torch.arange(length)
    log_ratio = (distance.clamp(min=1).double() / EXACT_BUCKETS).log() / math.log(FARTHEST / EXACT_BUCKETS)
    wide = EXACT_BUCKETS + (log_ratio * (BUCKETS - EXACT_BUCKETS)).long()
    return torch.where(distance < EXACT_BUCKETS, distance, wide.clamp(max=BUCKETS - 1))


build = BangModel.build
