"""Objectives of models with a mode from left to right and a parallel one, and their pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from retort.config.base import Probability
from retort.config.objective_base import (
    LEFT_TO_RIGHT,
    PASSES,
    ObjectiveSection,
    PretrainingObjective,
    TokenDistillation,
)
from retort.config.search import Blocks, Greedy, SearchSection


class Janus(ObjectiveSection):
    """One model with an autoregressive and a parallel mode, and an auxiliary distribution that sees what the parallel
    mode sees and the masked tokens on its left (Liang et al. 2022). Weights of the divergences are a tenth of those of
    the released code, which are 3, 1 and 1 and harm both modes where nothing over-fits; the paper's figure has
    kl_autoregressive_parallel 0. All kl weights 0: joint training alone."""

    name: Literal["janus"]
    family = "janus"
    predicts = ("next_token", "masked_slots", "slots")
    usual_searches = LEFT_TO_RIGHT | PASSES
    masking: Literal["uniform", "span"] = "uniform"
    """Masked target tokens in training. uniform: as for cmlm, all of them now and then, as decoding in one pass needs.
    span: spans with a mean length of 2 over at most 70 % of the tokens, as released for translation."""
    autoregressive_weight: float = Field(1.0, ge=0, le=1_000_000)
    """Weight of the autoregressive cross entropy."""
    parallel_weight: float = Field(0.5, ge=0, le=1_000_000)
    """Weight of the parallel cross entropy of masked tokens."""
    auxiliary_weight: float = Field(0.5, ge=0, le=1_000_000)
    """Weight of the auxiliary cross entropy of masked tokens."""
    kl_autoregressive_auxiliary: float = Field(0.3, ge=0, le=1_000_000)
    """Weight of the symmetric divergence between the autoregressive and the auxiliary distribution; released: 3."""
    kl_auxiliary_parallel: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of that between the auxiliary and the parallel distribution; released: 1."""
    kl_autoregressive_parallel: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of that between the autoregressive and the parallel distribution; released: 1."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of the length predictor's loss."""

    @property
    def learns_left_to_right(self) -> bool:
        return any((self.autoregressive_weight, self.kl_autoregressive_auxiliary, self.kl_autoregressive_parallel))


class BartJanus(PretrainingObjective):
    """Pre-training of the same model on corrupted text (Liang et al. 2022), for the section pretraining alone."""

    name: Literal["bart_janus"]
    family = "janus"
    predicts = ("next_token",)
    usual_searches = {"greedy": Greedy(kind="greedy")}
    pretrains = "janus"
    shorter_spans = "shorter spans, such as span_length 1.5"
    mask_ratio: Probability = 0.3
    """Share of the tokens in spans; half of these are replaced by one mask each, the others are to be copied."""
    span_length: float = Field(3.0, gt=0, le=100_000)
    """Mean length of a span; those of length 0 insert a mask."""
    rotate: Probability = 0.0
    """Probability that an input begins with another of its tokens, and ends with the first ones."""


class Bang(TokenDistillation):
    """One model that predicts from left to right, all at once, or in blocks, with no length predictor (BANG, Qi et al.
    2021)."""

    name: Literal["bang"]
    family = "bang"
    predicts = ("blocks", "next_token")
    usual_searches = {"parallel": Blocks(kind="blocks")} | LEFT_TO_RIGHT
    can_teach = True
    weighs_samples = True
    measures_agreement = True
    nar_ratio: Probability = 1.0
    """Share of the batches that train the parallel mode; the others train from left to right."""
    block: int | None = Field(None, ge=1, le=100_000)
    """Slots that the parallel mode predicts at once, given the tokens before them; null: all."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""

    @property
    def left_to_right(self) -> bool:
        return self.nar_ratio == 0

    @property
    def without_effect(self) -> dict[str, str]:
        reason = "it is of the parallel mode, which nar_ratio: 0 does not train"
        parallel = ("block", "teacher_weight", "teacher_top_k") if self.left_to_right else ()
        return super().without_effect | dict.fromkeys(parallel, reason)

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's distribution is a target; it labels the parallel mode's slots alone."""
        return super().needs_teacher and not self.left_to_right

    @classmethod
    def default_searches(cls, options: Mapping[str, Any]) -> dict[str, SearchSection]:
        """Those of the modes that are trained, in blocks as large as these."""
        ratio, block = options.get("nar_ratio", 1), options.get("block")
        parallel = Blocks(kind="blocks", block=block if isinstance(block, int) and block > 0 else None)
        trained = {"blocks": ratio != 0, "next_token": ratio != 1}
        searches = {**cls.usual_searches, "parallel": parallel}
        return {name: search for name, search in searches.items() if trained[search.decodes]}


class BangPretraining(PretrainingObjective):
    """Pre-training of the same model on text with masked spans (Qi et al. 2021), for the section pretraining alone."""

    name: Literal["bang_pretraining"]
    family = "bang"
    predicts = ("next_token", "blocks")
    usual_searches = {"greedy": Greedy(kind="greedy")}
    pretrains = "bang"
    shorter_spans = "shorter spans, such as span_block 8 and mask_ratio 0.25"
    span_block: int = Field(64, ge=1, le=100_000)
    """Consecutive tokens with one masked span."""
    mask_ratio: Probability = 0.15
    """Share of the tokens of a block that its span has, at least one."""
    label_smoothing: Probability = 0.0
    """Probability mass spread over the whole vocabulary."""
