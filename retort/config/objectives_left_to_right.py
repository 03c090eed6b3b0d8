"""Objectives of the autoregressive family."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from retort.config.base import Probability, Section
from retort.config.objective_base import LEFT_TO_RIGHT, ObjectiveSection


class Autoregressive(ObjectiveSection):
    """Next-token cross entropy; the autoregressive model family."""

    name: Literal["autoregressive"]
    family = "autoregressive"
    predicts = ("next_token",)
    usual_searches = LEFT_TO_RIGHT
    same_weights = "autoregressive"
    can_teach = True
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    r_drop: float = Field(0.0, ge=0, le=1_000_000)
    """Weight of the symmetric divergence between two passes of training with different dropout (Wu et al. 2021), whose
    cross entropies are added; 0 does without the second pass."""


class Mixture(Section):
    """Share of the training sentences whose prefixes are the data's; the others' are the student's own. A function of
    progress, which goes from 0 at the first update to 1 at training.max_updates."""

    schedule: Literal["exponential", "linear", "reverse_sigmoid", "constant"] = "exponential"
    """exponential: share ** progress. linear: from 1 to share. reverse_sigmoid: 1 / (1 + exp(20 (progress - 1/2))),
    whatever share is. constant: share."""
    share: float = Field(0.005, ge=0, le=1)
    """At the last update, or throughout."""
    least: Probability = 0.0
    """Lower bound of the share at every update. A student that cannot end its outputs yet learns little from them."""

    @property
    def without_effect(self) -> dict[str, str]:
        return {"share": "reverse_sigmoid goes from 1 to 0"} if self.schedule == "reverse_sigmoid" else {}

    @model_validator(mode="after")
    def _fits(self) -> Mixture:
        if self.schedule == "exponential" and self.share == 0:
            raise ValueError("an exponential schedule never reaches a share of 0; take a small one, or linear")
        return self


class Rollout(Section):
    """How the student's own prefixes are decoded, without dropout and without gradients."""

    kind: Literal["greedy", "sample"] = "greedy"
    """Best token at each step, or one drawn from the top_k best."""
    top_k: int = Field(5, ge=1, le=1_000_000)
    """Tokens that sample draws from, by their probabilities."""
    max_ratio: float = Field(2.0, gt=0, le=10_000)
    """Longest output: this times the source length, plus 10 tokens."""
    target_ratio: float | None = Field(None, gt=0, le=10_000)
    """Longest output where that is shorter: this times the length of the data's target, at least one token; null: no
    such limit. Early outputs loop, and most of their tokens would be the same error again."""
    updates: int = Field(1, ge=1, le=1_000_000_000)
    """Updates whose prefixes are decoded at once, with the weights before the first of them. A training that is
    asked to stop, or is out of time, ends after the last of them."""

    @property
    def without_effect(self) -> dict[str, str]:
        return {} if self.kind == "sample" else {"top_k": f"it is of kind: sample, found kind: {self.kind}"}


class Imitation(ObjectiveSection):
    """Prediction of the teacher's next token, at prefixes of the data and of the student itself (ImitKD,
    Lin et al. 2020); the autoregressive family. At the data's prefixes alone (beta: {schedule: constant, share: 1})
    labels: full is word-level distillation (Kim and Rush 2016)."""

    name: Literal["imitation"]
    family = "autoregressive"
    predicts = ("next_token",)
    usual_searches = LEFT_TO_RIGHT
    same_weights = "autoregressive"
    counts = {"rollouts": "sentences with prefixes of the student itself"}
    prepares = True
    labels: Literal["hard", "full", "stored"] = "full"
    """hard: the data's token at the data's prefixes, the teacher's most probable one at the student's. full: the
    teacher's distribution at both. stored: at the data's prefixes the top_k of the teacher's distribution, from a table
    made before the training, so that no teacher runs beside it."""
    top_k: int | None = Field(None, ge=1, le=1_000_000)
    """Of the teacher's distribution only this many most probable tokens, all others counted as one more; null:
    all of it. A table of stored labels needs a number, such as 8."""
    temperature: float = Field(1.0, gt=0, le=1000)
    """Divides the teacher's logits; below 1 its distribution is sharper. With full labels only."""
    beta: Mixture = Mixture()
    """Share of sentences that keep the data's prefixes."""
    rollout: Rollout = Rollout()
    """Decoding of the student's own prefixes."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary; with hard labels only."""

    @model_validator(mode="after")
    def _fits(self) -> Imitation:
        if self.labels == "stored" and self.mixes:
            raise ValueError("labels are stored at the data's prefixes alone; use beta: {schedule: constant, share: 1}")
        if self.labels == "stored" and self.top_k is None:
            raise ValueError("stored labels need top_k, such as 8")
        if self.labels != "full" and self.temperature != 1:
            raise ValueError(f"labels: {self.labels} have no temperature; use labels: full, or leave it at 1")
        return self

    @property
    def without_effect(self) -> dict[str, str]:
        found = {} if self.mixes else {"rollout": "nothing is decoded, as beta keeps the data's prefixes throughout"}
        if self.labels == "hard":
            return {**found, "top_k": "it is of the teacher's distribution, and labels: hard have none"}
        return {**found, "label_smoothing": f"it is of labels: hard, found labels: {self.labels}"}

    @property
    def mixes(self) -> bool:
        """Whether the student's own prefixes are ever used."""
        constant = self.beta.schedule != "reverse_sigmoid" and self.beta.share == 1
        return not constant and self.beta.least < 1

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher labels tokens during the training."""
        return self.labels == "full" or self.mixes

    @property
    def stored_top_k(self) -> int | None:
        """Tokens per position in the table of stored labels; None where labels are not stored."""
        return self.top_k if self.labels == "stored" else None

    @property
    def prepared_updates(self) -> int:
        return self.rollout.updates
