"""Objectives of slots that are upsampled source positions: alignments and graphs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PlainSerializer

from retort.config.base import Probability, ShapesWeights
from retort.config.objective_base import (
    ALIGNMENT,
    GRAPH,
    OVERFULL,
    DeepSupervision,
    Glancing,
    ObjectiveSection,
    Untrained,
)


def _plain(number: float) -> int | float:
    """2 and 2.0 are the same section, and written alike."""
    return int(number) if number == int(number) else number


SlotsPerToken = Annotated[float, AfterValidator(_plain), PlainSerializer(_plain)]


class Upsampled(ObjectiveSection):
    """An objective of several decoder slots per source token."""

    weighs_samples = True
    untrained: ClassVar[tuple[Untrained, ...]] = (OVERFULL,)
    upsampling: Annotated[SlotsPerToken, ShapesWeights()] = Field(2, ge=0.01, le=100)
    """Decoder slots per source token, eos among them, to a thousandth. A sentence's number of slots is rounded up."""

    @property
    def slots_per_token(self) -> float:
        return self.upsampling


class Alignment(Upsampled, DeepSupervision):
    """An objective of slots that hold the target's tokens in order, and blanks."""

    family = "parallel"
    predicts = ("alignment",)
    usual_searches = ALIGNMENT
    same_weights = "alignment"
    measures_agreement = True


class AlignmentSum(Alignment):
    """An objective of the sum over alignments."""

    label_smoothing: Probability = 0.0
    """Share of the uniform distribution in the target of each slot."""


class Graph(Upsampled):
    """An objective of slots that are the vertices of a graph."""

    family = "dag"
    predicts = ("graph",)
    usual_searches = GRAPH
    same_weights = "graph"
    upsampling: Annotated[SlotsPerToken, ShapesWeights()] = Field(4, ge=1, le=100)
    """Vertices per source token; Huang et al. 2022 have 8. Time and memory grow with its square."""


class Ctc(AlignmentSum):
    """Connectionist temporal classification over upsampled source positions; the parallel family."""

    name: Literal["ctc"]


class GlatCtc(AlignmentSum, Glancing):
    """Glancing along the best CTC alignment (Qian et al. 2021; Gu and Kong 2021); the parallel family."""

    name: Literal["glat_ctc"]
    reveal: Literal["slots", "tokens"] = "slots"
    """Which slots of the best alignment can be revealed: all (slots), or those that have no blank (tokens)."""


class Nmla(Alignment):
    """Expected bigram F1 of the outputs that CTC's slots make, wherever in them a bigram is (non-monotonic latent
    alignments, Shao and Feng 2022); the parallel family. To fine-tune a system that ctc or glat_ctc has trained, named
    in training.warm_start: from random weights it learns little."""

    untrained = (
        OVERFULL,
        Untrained(
            "short",
            "pairs whose target is of fewer than two tokens, and so has no bigram",
            "set objective.likelihood_weight above 0",
            of="sentences",
        ),
    )
    name: Literal["nmla"]
    likelihood_weight: float = Field(0.0, ge=0, le=1_000_000)
    """Weight of the loss of ctc, added to 1 - F1."""

    @property
    def needs_start(self) -> str | None:
        return "set objective.likelihood_weight above 0" if self.likelihood_weight == 0 else None


class Dag(Graph, Glancing):
    """Directed acyclic graph over upsampled source positions (Huang et al. 2022); the DAG family. A vertex has a
    distribution over tokens and one over the vertices that follow it. A first guess is compared with the target along
    the target's best path; a ratio of 0 does without one."""

    name: Literal["dag"]
    end: float = Field(0.1, ge=0, lt=1)
    """The same at training.max_updates."""


class FuzzyDag(Graph, Glancing):
    """Expected bigram precision of the graph's outputs times their brevity penalty (fuzzy alignment, Ma et al. 2023);
    the DAG family. To fine-tune a system that dag has trained, named in training.warm_start: from random weights
    it learns little. Glancing is as in dag."""

    name: Literal["fuzzy_dag"]
    start: float = Field(0.1, ge=0, lt=1)
    """Ratio of what is revealed to what the first guess has wrong, at the first update; dag ends with it."""
    end: float = Field(0.1, ge=0, lt=1)
    """The same at training.max_updates."""
    likelihood_weight: float = Field(0.0, ge=0, le=1_000_000)
    """Weight of the loss of dag, added to 1 - precision x brevity penalty."""

    @property
    def needs_start(self) -> str | None:
        return "set objective.likelihood_weight above 0" if self.likelihood_weight == 0 else None
