"""How two targets of a source, the reference and the teacher's translation, train one student together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retort.config.base import Name, Probability, Section


class UnionMixture(Section):
    """Each source appears with both of its targets, as separate samples."""

    kind: Literal["union"]


class WeightedMixture(Section):
    """The same samples, weighted: (1 - weight) loss(reference) + weight loss(teacher's translation). A source with one
    of these alone has weight 1."""

    kind: Literal["weighted"]
    weight: Probability = 0.5
    """Weight of the teacher's translations; 0.5 is union where every source has both."""


class SelectiveMixture(Section):
    """Selective KD (Liu et al. 2023): each source has the teacher's translation for its target where the evaluator gets
    less of the reference right than start + slope times progress, which goes from 0 at the first update to 1 at
    training.max_updates; and the reference elsewhere."""

    kind: Literal["selective"]
    evaluator: Name
    """Student, trained on distilled text, whose predictions decide. Where its slots are the target's tokens, not CTC's,
    the square root of the share that it gets right is compared, as in the released code."""
    start: float = 0.4
    """Bound at the first update."""
    slope: float = Field(0.6, ge=0, le=1_000_000)
    """What is added to it by training.max_updates."""


DataMixture = Annotated[UnionMixture | WeightedMixture | SelectiveMixture, Field(discriminator="kind")]


class SelfPaced(Section):
    """Self-paced weights (SPMD-style, after Qi et al. 2022 and Kumar et al. 2010): samples that are hard now wait. A
    sample has the weight 1 up to warmup. Then the bound on its criterion is a quantile, which goes linearly from start
    to end at full, and stays there. References and teacher's translations have quantiles of their own."""

    criterion: Literal["loss", "agreement", "similarity"] = "loss"
    """What makes a sample hard. loss: its negative log-likelihood per token. agreement: the share of slots whose most
    probable token is not the target's. similarity: the difference of reference and teacher's translation, by sentence
    chrF; of data: mixed, and for the references alone."""
    weights: Literal["hard", "linear"] = "hard"
    """hard: 1 up to the bound, 0 above. linear: 1 - criterion / bound, at least 0."""
    start: Probability = 0.5
    """Share of the samples within the bound after the warm-up."""
    warmup: Probability = 0.1
    """Share of training.max_updates before any sample waits."""
    end: Probability = 1.0
    """Share of them from full on; 1: all count again, with the weight 1."""
    full: Probability = 0.6
    """Share of training.max_updates by which that is reached."""
    among: Literal["batch", "window"] = "batch"
    """Samples of a kind from which the quantile is computed. batch: those of the batch, so that every batch keeps the
    same share, and the random control equally many tokens. window: the last ones, of batches of other lengths; a batch
    of hard samples then waits as a whole."""
    window: int = Field(1000, ge=1, le=1_000_000_000)
    """Number of the last samples of a kind, for among: window."""
    random: bool = False
    """The control: random numbers are the criterion, so that as many samples wait, but any."""

    @property
    def without_effect(self) -> dict[str, str]:
        return {} if self.among == "window" else {"window": f"it is of among: window, found among: {self.among}"}

    @model_validator(mode="after")
    def _fits(self) -> SelfPaced:
        if self.warmup >= self.full:
            raise ValueError(f"warmup ({self.warmup}) must be below full ({self.full})")
        return self
