"""The parallel (non-autoregressive) family: a bidirectional decoder that predicts all positions in one pass.

The decoder's input is slots of a predicted length, which hold mask or given tokens, or upsampled source positions.

Shape letters: b batch, t target position or slot, s source position, d width, l length class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from retort.config import Model
from retort.data.limits import LEAST_LENGTH
from retort.data.upsampling import Upsampling
from retort.data.vocabulary import BLANK, BOS, EOS, FORBIDDEN, MASK, PAD
from retort.models.base import Transformer
from retort.models.embeddings import Positions
from retort.models.kernels import Linear, embed, most_probable
from retort.models.layers import padding_bias

LENGTH_RANGE = 64
"""A length predictor relative to the source has classes from -64 to 64 (as fairseq's offset option)."""


class ParallelModel(Transformer):
    """Models P(y_t | x, length, given tokens) for all t at once."""

    family = "parallel"
    of_decoder_layers = {"layer_fusion.": 1}

    def __init__(
        self,
        config: Model,
        source_size: int,
        target_size: int,
        upsampling: float = 0,
        length_from: str = "mean",
        decoder_input: str = "mask",
        blank: bool = False,
        length_multiplier: float = 1.0,
        deep_supervision: bool = False,
        eos_anywhere: bool = False,
    ) -> None:
        """``upsampling``: decoder slots per source token, a fraction or a whole number; 0 decodes slots of a predicted
        length.

        ``length_from``: "mean" predicts the length from the mean encoder state, "slot" from the state of an empty slot
        before the source. ``decoder_input``: slots to predict hold the embedding of "mask" or "pad". "slot" and "pad"
        are from the code of Sun and Yang 2020. ``blank``: slots of a predicted length may hold blank.
        ``length_multiplier``: slots per predicted target token. ``eos_anywhere``: eos may be in any slot of an output,
        because the training does not keep it in the last one.
        With ``deep_supervision`` every decoder layer predicts, and the next one receives its predictions as embeddings,
        through a linear layer of ``layer_fusion`` (Huang et al. 2022).
        """
        super().__init__(config, source_size, target_size)
        self.upsampling = Upsampling.of(upsampling) if upsampling else None
        self.length_slot = length_from == "slot"
        self.pad_input = decoder_input == "pad"
        self.blank = blank
        self.length_multiplier = length_multiplier
        self.eos_anywhere = eos_anywhere
        if self.upsampling is None:
            classes = config.max_length + 1 if self.length_slot else 2 * LENGTH_RANGE + 1
            self.length = nn.Linear(config.d_model, classes)
        else:
            self.slot_positions = Positions(config, self.upsampling)
        self.deep_supervision = deep_supervision
        if deep_supervision:
            fusions = [Linear(2 * config.d_model, config.d_model) for _ in range(config.decoder_layers - 1)]
            for fusion in fusions:
                nn.init.xavier_uniform_(fusion.weight)
                nn.init.zeros_(fusion.bias)
            self.layer_fusion = nn.ModuleList(fusions)

    @property
    def forbidden(self) -> list[int]:
        """Blank fills upsampled slots, which have no eos; slots of a predicted length hold it if trained to."""
        if self.upsampling:
            return [PAD, BOS, EOS, MASK]
        return [token for token in FORBIDDEN if token != BLANK or not self.blank]

    def encode(self, source_bs: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder output [b, s, d] and the bias [n, 1, s] that hides its padding; a length slot adds 1 to s."""
        if not self.length_slot:
            return super().encode(source_bs)
        padded_bs = functional.pad(source_bs == PAD, (1, 0), value=False)
        bias = padding_bias(padded_bs, self.config.heads, self.dtype)
        embedded_bsd = embed(source_bs, self.embeddings.source) * self.embeddings.scale
        return self.encoder(self.embeddings.positions(functional.pad(embedded_bsd, (0, 0, 1, 0))), bias), bias

    def predict_length(self, source_bs: Tensor, memory_bsd: Tensor) -> Tensor:
        """Logits [b, l] of the length classes; lengths include eos on both sides."""
        if self.length_slot:
            return self.length(memory_bsd[:, 0])
        present_bs1 = (source_bs != PAD)[:, :, None].to(memory_bsd.dtype)
        mean_bd = (memory_bsd * present_bs1).sum(1) / present_bs1.sum(1)
        return self.length(mean_bd)

    def length_offset(self, source_length_b: Tensor) -> Tensor:
        """Target length minus the class of the length predictor [b]."""
        return torch.zeros_like(source_length_b) if self.length_slot else source_length_b - LENGTH_RANGE

    def slot_count(self, length: Tensor) -> Tensor:
        """Number of decoder slots for targets of these lengths, eos included; at most the model's maximum."""
        return (length * self.length_multiplier + 0.5).long().clamp(max=self.config.max_length)

    def decode_tokens(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """Decoder states [b, t, d] for slots that hold mask or given tokens; padding is hidden."""
        return self.layers_of_tokens(input_bt, memory_bsd, memory_bias)[-1]

    def layers_of_tokens(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> list[Tensor]:
        """States as of ``decode_tokens`` for each layer that predicts; the last entry is the last layer's."""
        bias = padding_bias(input_bt == PAD, self.config.heads, self.dtype)
        if self.pad_input:
            input_bt = input_bt.masked_fill(input_bt == MASK, PAD)
        return self._decode(self.embeddings.embed_target(input_bt), bias, memory_bsd, memory_bias)

    def decode_upsampled(
        self, source_bs: Tensor, memory_bsd: Tensor, memory_bias: Tensor, given_bt: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decoder states [b, t, d] of the slots of s tokens, and the number of slots [b] without padding.

        A slot's input is its encoder state (Libovicky and Helcl 2018), or the embedding of its token in ``given_bt``
        where that is not pad.
        """
        layers, slots_b = self.layers_of_upsampled(source_bs, memory_bsd, memory_bias=memory_bias, given_bt=given_bt)
        return layers[-1], slots_b

    def layers_of_upsampled(
        self, source_bs: Tensor, memory_bsd: Tensor, memory_bias: Tensor, given_bt: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """As ``decode_upsampled``, with the states of each layer that predicts; the last entry is the last layer's."""
        assert self.upsampling is not None
        slot_t = torch.arange(self.upsampling.slots(source_bs.shape[1]), device=source_bs.device)
        slots_b = self.upsampling.slots((source_bs != PAD).sum(1))
        if self.upsampling.is_whole:
            input_btd = memory_bsd.repeat_interleave(self.upsampling.numerator, 1)
        else:
            input_btd = memory_bsd.index_select(1, self.upsampling.token(slot_t))
        if given_bt is not None:
            input_btd = torch.where((given_bt != PAD)[:, :, None], self._embed(given_bt), input_btd)
        bias = padding_bias(slot_t >= slots_b[:, None], self.config.heads, self.dtype)
        return self._decode(self.slot_positions(input_btd), bias, memory_bsd, memory_bias), slots_b

    def _decode(self, x_btd: Tensor, bias: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> list[Tensor]:
        """States [b, t, d] of each layer that predicts: of all with deep supervision, else of the last one."""
        if not self.deep_supervision:
            return [self.decoder(x_btd, bias, memory_bsd, memory_bias)]
        layers: list[Tensor] = []
        for i, layer in enumerate(self.decoder.layers):
            if layers:
                predicted_bt = most_probable(layers[-1], self.embeddings.output)
                x_btd = self.layer_fusion[i - 1](torch.cat([x_btd, self._embed(predicted_bt)], -1))
            x_btd = layer(x_btd, bias, layer.cross_attention.keys_values(memory_bsd), memory_bias)
            layers.append(self.decoder.norm(x_btd))
        return layers

    def _embed(self, tokens_bt: Tensor) -> Tensor:
        """Embeddings [b, t, d] of target tokens, without positions."""
        return embed(tokens_bt, self.embeddings.target) * self.embeddings.scale


def length_class(model: ParallelModel, source_bs: Tensor, length_b: Tensor) -> Tensor:
    """Class [b] of the length predictor for target lengths that include eos; the nearest for lengths that have none."""
    offset_b = model.length_offset((source_bs != PAD).sum(1))
    return (length_b - offset_b).clamp(0, model.length.out_features - 1)


def most_probable_lengths(model: ParallelModel, source_bs: Tensor, memory_bsd: Tensor, count: int) -> Tensor:
    """The ``count`` most probable target lengths [b, count], or all of fewer, eos included, each up to the model's
    maximum. One may be 1, of several each is at least LEAST_LENGTH."""
    least = 1 if count == 1 else LEAST_LENGTH
    logits_bl = model.predict_length(source_bs, memory_bsd).float()
    class_l = torch.arange(logits_bl.shape[1], device=logits_bl.device)
    length_bl = model.length_offset((source_bs != PAD).sum(1))[:, None] + class_l
    if count > 1:
        logits_bl = logits_bl.masked_fill(length_bl < least, -torch.inf)
    classes_bk = torch.topk(logits_bl, min(count, logits_bl.shape[1]), dim=-1).indices
    return length_bl.gather(1, classes_bk).clamp(least, model.config.max_length)


build = ParallelModel.build
