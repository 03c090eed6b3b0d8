"""The parallel (non-autoregressive) family: a bidirectional decoder that fills all positions in one pass.

Two kinds of decoder input: slots of a predicted length (mask or given tokens), or source positions upsampled.

Shape letters: b batch, t target position or slot, s source position, d width, l length class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retort.config import Model
from retort.models.transformer import EncoderDecoder, Positions, padding_bias
from retort.vocabulary import PAD

LENGTH_RANGE = 64
"""The length predictor's classes: target length minus source length, from -64 to 64 (as fairseq's offset option)."""


class ParallelModel(EncoderDecoder):
    """P(y_t | x, length, given tokens), all t at once."""

    family = "parallel"

    def __init__(self, shape: Model, source_size: int, target_size: int, upsampling: int = 0) -> None:
        """``upsampling`` 0 decodes slots of a predicted length, above 0 so many slots a source token."""
        super().__init__(shape, source_size, target_size)
        self.upsampling = upsampling
        if upsampling == 0:
            self.length = nn.Linear(shape.d_model, 2 * LENGTH_RANGE + 1)
        else:
            self.slot_positions = Positions(shape, upsampling)

    def predict_length(self, source_bs: Tensor, memory_bsd: Tensor) -> Tensor:
        """Length logits [b, l] from the mean encoder state; lengths include eos on both sides."""
        present_bs1 = (source_bs != PAD)[:, :, None].to(memory_bsd.dtype)
        mean_bd = (memory_bsd * present_bs1).sum(1) / present_bs1.sum(1)
        return self.length(mean_bd)

    def decode_tokens(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """Decoder states [b, t, d] for slots that hold mask or given tokens; padded slots are hidden."""
        bias = padding_bias(input_bt == PAD, self.shape.heads, self.dtype)
        return self.decoder(self.embeddings.embed_target(input_bt), bias, memory_bsd, memory_bias)

    def decode_upsampled(self, source_bs: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> tuple[Tensor, Tensor]:
        """Decoder states [b, upsampling * s, d] for slots that start from the encoder state they stem from (Libovicky
        and Helcl 2018), and the number of slots [b] that are not padding."""
        slots_bt = (source_bs == PAD).repeat_interleave(self.upsampling, 1)
        input_btd = self.slot_positions(memory_bsd.repeat_interleave(self.upsampling, 1))
        bias = padding_bias(slots_bt, self.shape.heads, self.dtype)
        return self.decoder(input_btd, bias, memory_bsd, memory_bias), (~slots_bt).sum(1)


def length_class(source_length: Tensor, target_length: Tensor) -> Tensor:
    """Class of the length predictor for lengths that include eos."""
    return (target_length - source_length).clamp(-LENGTH_RANGE, LENGTH_RANGE) + LENGTH_RANGE


def most_probable_lengths(logits_bl: Tensor, source_length_b: Tensor, count: int, longest: int) -> Tensor:
    """The ``count`` most probable target lengths [b, count], eos included, each from 1 to ``longest``."""
    classes_bk = torch.topk(logits_bl, count, dim=-1).indices
    return (source_length_b[:, None] + classes_bk - LENGTH_RANGE).clamp(1, longest)
