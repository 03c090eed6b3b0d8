"""Configuration of a model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from retort.config.base import BelowOne, Section


class Model(Section):
    """Shape of a model."""

    family: Literal["transformer", "gru"] = "transformer"
    """Transformer; or recurrent: bidirectional GRU encoder, GRU decoder with attention. A recurrent one decodes left to
    right, d_model is the width of its embeddings and of each direction of its encoder, its decoder's states are twice
    as wide, and of the keys below it has the depths, dropout, tied and max_length."""
    d_model: int = Field(128, ge=8, le=65_536)
    """Width."""
    heads: int = Field(4, ge=1, le=1024)
    """Attention heads; divides d_model."""
    ffn: int = Field(512, ge=8, le=1_000_000)
    """Inner width of the feed-forward blocks."""
    encoder_layers: int = Field(4, ge=1, le=1000)
    """Encoder depth."""
    decoder_layers: int = Field(4, ge=1, le=1000)
    """Decoder depth."""
    dropout: BelowOne = 0.1
    """Dropout of embeddings, residual branches and feed-forward activations."""
    attention_dropout: BelowOne = 0.0
    """Dropout of attention weights."""
    norm: Literal["pre", "post"] = "pre"
    """Layer norm before each block, or after each residual sum."""
    activation: Literal["relu", "gelu"] = "relu"
    """Feed-forward activation."""
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    """Position embeddings."""
    tied: Literal["all", "output", "none"] = "all"
    """Share embeddings: source, target and output; target and output; or none. "all" needs a joint vocabulary."""
    max_length: int = Field(256, ge=8, le=100_000)
    """Longest sequence in tokens, special ones included."""
    truncate_sources: bool = False
    """Cut longer sources to max_length, in training as in decoding; how many there are is counted all the same. false:
    in training training.long_pairs says what happens, and in decoding they are cut, and their output counts as
    truncated. The same for all systems of a run."""

    @model_validator(mode="after")
    def _fits(self) -> Model:
        if self.d_model % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide d_model ({self.d_model})")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        if self.family == "gru" and self.decoder_layers > self.encoder_layers:
            raise ValueError(
                f"each decoder layer of a recurrent model starts from the encoder layer with its number, and there are "
                f"{self.encoder_layers} encoder and {self.decoder_layers} decoder layers"
            )
        return self
