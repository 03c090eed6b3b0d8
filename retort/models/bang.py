"""BANG: one set of parameters that predicts from left to right, all at once, or in blocks (Qi et al. 2021).

The main stream holds real tokens. The predicting streams hold one learned vector at the position of what they predict:
stream s predicts slot t while the s slots before it are unknown too, and sees the main stream up to the token before
the first of them, and, of each of them, the stream for which the main stream ends there too (cross-stream visibility).
So slots are known by what they see of the main stream: those that see equally much of it see each other, from left to
right, and nothing else of the predicting streams. A search that knows as much computes the same.

Shape letters: b batch, t target position or slot, m tokens of the main stream, p predicted slots, q rows of both
streams, m + p, c columns of both streams, r rows (hypotheses being extended), k tokens of the main stream fed at once,
s source position, d width, h heads, u distance buckets, n = r * h. Of leading dimensions b, 1 stands for any.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from retort.config import Model, ObjectiveSection
from retort.data.batches import LENGTH_STEP
from retort.models.autoregressive import AutoregressiveModel, Cache
from retort.models.kernels import MASKED, Linear, embed, gathered

BUCKETS = 32
EXACT_BUCKETS, FARTHEST = 16, 128
"""Distances below the first have a bucket each; those from the last one on share one (Raffel et al. 2020)."""


class Slots(NamedTuple):
    """Positions of the main stream's tokens and of slots, and what slots see of the main stream."""

    token_place_bm: Tensor
    place_bp: Tensor
    """Positions of what the slots predict; bos is at 0."""
    last_bp: Tensor
    """Index of the last token of the main stream that a slot sees; -1 for filling, which no other slot sees."""


class BangModel(AutoregressiveModel):
    """P(y_t | x, y_<t), by the autoregressive model's methods, and P(y_t | x, y_<c) for slots t from c on."""

    family = "bang"
    own_weights = ("slot_vector", "relative.")

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__(config, source_size, target_size)
        self.slot_vector = nn.Parameter(torch.randn(config.d_model) * config.d_model**-0.5)
        layers = range(config.decoder_layers)
        self.relative = nn.ModuleList(Linear(config.d_model, BUCKETS * config.heads) for _ in layers)
        for parameter in self.relative.parameters():
            nn.init.zeros_(parameter)
        # the longest sequence, too, is padded
        self.register_buffer("buckets", distance_buckets(config.max_length + LENGTH_STEP), persistent=False)

    def decode(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """States [b, t, d] that predict what follows each of the inputs (bos and the target without its last token),
        given the encoder's output and its bias."""
        return self.decode_blocks(input_bt, 1, memory_bsd, memory_bias)

    def decode_blocks(self, input_bt: Tensor, size: int, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """States [b, t, d] that predict the same in blocks of ``size`` slots, each given the tokens before its block:
        1 is from left to right, t all at once."""
        slots = blocks(input_bt.shape[1], size, self.device)
        return self.predict(input_bt[:, : slots.token_place_bm.shape[1]], slots, memory_bsd, memory_bias)

    def predict(self, token_bm: Tensor, slots: Slots, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """States [b, p, d] of the slots, given the main stream's tokens, the encoder's output and its bias."""
        place_bq = torch.cat([slots.token_place_bm, slots.place_bp], 1)
        cache = self.empty_cache(memory_bsd, memory_bias)
        x_bqd = self._embed(token_bm, slots.place_bp.shape[1], place_bq)
        return self._advance(x_bqd, visibility(slots), self._distances(place_bq, place_bq), cache, token_bm.shape[1])

    def step(self, token_r: Tensor, cache: Cache) -> Tensor:
        """Feed one token a row; returns the log-probabilities [r, v] of the next one, in float32, and grows the cache:
        see the autoregressive model."""
        states_rd = self.advance(token_r[:, None], cache, 1)[:, 0]
        return torch.log_softmax(self.logits(states_rd).float(), -1)

    def advance(self, token_rk: Tensor, cache: Cache, count: int) -> Tensor:
        """Feed k tokens a row; returns the states [r, count, d] of the slots that follow, and grows the cache.

        Only the tokens stay in the cache. It may hold several rows a source, as for ``step``.
        """
        first = cache.length
        place_1c = torch.arange(first + token_rk.shape[1] + count, device=self.device)[None]
        place_1q = place_1c[:, first:]
        # what predicts comes last, and has one last token: all see what is before them
        visible_1qc = place_1c[:, None] <= place_1q[:, :, None]
        x_rqd = self._embed(token_rk, count, place_1q)
        return self._advance(x_rqd, visible_1qc, self._distances(place_1q, place_1c), cache, token_rk.shape[1])

    def _embed(self, token_bm: Tensor, count: int, place_bq: Tensor) -> Tensor:
        slots_bpd = self.slot_vector.expand(len(token_bm), count, -1)
        x_bqd = torch.cat([embed(token_bm, self.embeddings.target), slots_bpd], 1) * self.embeddings.scale
        return self.embeddings.positions(x_bqd, place_bq)

    def _distances(self, place_bq: Tensor, place_bc: Tensor) -> Tensor:
        """Buckets [b, 1, q, c] of how far the columns lie behind the rows."""
        distance_bqc = place_bq[:, :, None] - place_bc[:, None]
        return self.buckets[distance_bqc.clamp_(min=0)][:, None]  # type: ignore[index]

    def _advance(self, x_rqd: Tensor, visible_bqc: Tensor, bucket_b1qc: Tensor, cache: Cache, tokens: int) -> Tensor:
        """States [r, p, d] of the rows behind the ``tokens`` first ones, whose keys and values the cache keeps."""
        rows, heads, sources = len(x_rqd), self.config.heads, len(cache.memory_bias)
        last_layer = len(self.decoder.layers) - 1
        for i, layer in enumerate(self.decoder.layers):
            h_rqd = layer.attention_block.pre_norm(x_rqd)
            query, key, value = layer.attention.project(h_rqd)
            if cache.length:
                key, value = (
                    torch.cat([past[i][:, :, : cache.length].flatten(0, 1), new], 1)
                    for past, new in ((cache.keys, key), (cache.values, value))
                )
            kept = slice(cache.length + tokens)
            cache.keys[i], cache.values[i] = (x[:, kept].unflatten(0, (rows, heads)) for x in (key, value))
            if i == last_layer:
                query, h_rqd, x_rqd = query[:, tokens:], h_rqd[:, tokens:], x_rqd[:, tokens:]
                visible_bqc, bucket_b1qc = visible_bqc[:, tokens:], bucket_b1qc[:, :, tokens:]
            bias = self._bias(i, h_rqd, visible_bqc, bucket_b1qc)
            x_rqd = layer.attention_block.residual(x_rqd, layer.attention.attend(query, key, value, bias))
            # rows of a source are the query positions of one attention: its memory is read once
            memory = (cache.memory[i][0].flatten(0, 1), cache.memory[i][1].flatten(0, 1))
            x_bqd = x_rqd.reshape(sources, -1, x_rqd.shape[2])
            x_rqd = layer.after_attention(x_bqd, memory, cache.memory_bias.flatten(0, 1)).view(x_rqd.shape)
        cache.length += tokens
        return self.decoder.norm(x_rqd)

    def _bias(self, layer: int, h_rqd: Tensor, visible_bqc: Tensor, bucket_b1qc: Tensor) -> Tensor:
        """What is added to a layer's attention scores [n, q, c]: what the row's own state makes of the distance."""
        r, q, _ = h_rqd.shape
        relative_rhqu = self.relative[layer](h_rqd).view(r, q, self.config.heads, BUCKETS).transpose(1, 2)
        bias_rhqc = gathered(relative_rhqu, bucket_b1qc.expand(r, self.config.heads, -1, -1))
        return bias_rhqc.masked_fill(~visible_bqc[:, None], MASKED).flatten(0, 1)


def blocks(length: int, size: int, device: torch.device) -> Slots:
    """Consecutive blocks of ``size`` slots, each of which sees the main stream up to the token before it."""
    slot_1t = torch.arange(length, device=device)[None]
    last_1t = slot_1t // size * size
    tokens = (length - 1) // size * size + 1
    return Slots(slot_1t[:, :tokens], slot_1t + 1, last_1t)


def visibility(slots: Slots) -> Tensor:
    """Which columns a row sees, boolean [b, q, c]; rows and columns are the main stream and the slots.

    The main stream sees itself from left to right. A slot sees the main stream up to its last token, and slots with the
    same one, up to itself.
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
    """Bucket of each distance below ``length``: for each short one its own, then wider and wider ones."""
    distance = torch.arange(length)
    log_ratio = (distance.clamp(min=1).double() / EXACT_BUCKETS).log() / math.log(FARTHEST / EXACT_BUCKETS)
    wide = EXACT_BUCKETS + (log_ratio * (BUCKETS - EXACT_BUCKETS)).long()
    return torch.where(distance < EXACT_BUCKETS, distance, wide.clamp(max=BUCKETS - 1))


def build(objective: ObjectiveSection, config: Model, source_size: int, target_size: int) -> BangModel:
    """The model of an objective of this family."""
    return BangModel(config, source_size, target_size)
