"""Objectives of the model with an autoregressive and a parallel mode (JANUS, Liang et al. 2022)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retort.config.base import Probability, Section


class Janus(Section):
    """One model with an autoregressive and a parallel mode, and an auxiliary distribution that sees what the parallel
    mode sees and the masked tokens on its left (Liang et al. 2022). Weights are those of the released code; the paper's
    figure has kl_autoregressive_parallel 0. All kl weights 0: joint training alone."""

    name: Literal["janus"]
    masking: Literal["uniform", "span"] = "uniform"
    """Masked target tokens in training. uniform: as for cmlm, all of them now and then, as decoding in one pass needs.
    span: spans with a mean length of 2 over at most 70 % of the tokens, as released for translation."""
    autoregressive_weight: float = Field(1.0, ge=0)
    """Weight of the autoregressive cross entropy."""
    parallel_weight: float = Field(0.5, ge=0)
    """Weight of the parallel cross entropy of masked tokens."""
    auxiliary_weight: float = Field(0.5, ge=0)
    """Weight of the auxiliary cross entropy of masked tokens."""
    kl_autoregressive_auxiliary: float = Field(3.0, ge=0)
    """Weight of the symmetric divergence between the autoregressive and the auxiliary distribution."""
    kl_auxiliary_parallel: float = Field(1.0, ge=0)
    """Weight of that between the auxiliary and the parallel distribution."""
    kl_autoregressive_parallel: float = Field(1.0, ge=0)
    """Weight of that between the autoregressive and the parallel distribution."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0)
    """Weight of the length predictor's loss."""


class BartJanus(Section):
    """Pre-training of the same model on corrupted text (Liang et al. 2022), for the section pretraining alone."""

    name: Literal["bart_janus"]
    mask_ratio: Probability = 0.3
    """Share of the tokens in spans; half of these are replaced by one mask each, the others are to be copied."""
    span_length: float = Field(3.0, gt=0)
    """Mean length of a span; those of length 0 insert a mask."""
    rotate: Probability = 0.0
    """Probability that an input begins with another of its tokens, and ends with the first ones."""
