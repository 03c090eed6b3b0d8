"""Objectives of slots of a predicted length, and the list of all objectives.

What each declares about itself is in ``retort.config.objective_base``. A new objective in an existing family is a class
here or in the module of its family, its place in ``Objective``, and the module ``retort/objectives/<name>.py``; see
docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from retort.config.base import Probability, ShapesWeights
from retort.config.objective_base import (
    BY_NAME,
    EM_SEARCHES,
    PASSES,
    SEVERAL_LENGTHS,
    SLOTS,
    DeepSupervision,
    Glancing,
    ObjectiveSection,
    TokenDistillation,
    Untrained,
)
from retort.config.objectives_left_to_right import Autoregressive, Imitation
from retort.config.objectives_of_two_modes import Bang, BangPretraining, BartJanus, Janus
from retort.config.objectives_of_upsampled_slots import Ctc, Dag, FuzzyDag, GlatCtc, Nmla
from retort.config.search import Predictions


class Slots(ObjectiveSection):
    """An objective of slots of a predicted length; the parallel family."""

    family = "parallel"
    predicts: ClassVar[tuple[Predictions, ...]] = ("slots",)
    same_weights = "slots"
    weighs_samples = True
    length_from: Annotated[Literal["mean", "slot"], ShapesWeights()] = "mean"
    """What predicts the length. mean: the mean encoder state, length minus source length, at most 64 tokens either way.
    slot: the encoder's state of an empty slot before the source, absolute length, as targets much shorter than their
    sources need."""
    length_weight: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of the length predictor's loss."""


class SmoothedSlots(Slots):
    """An objective of slots with smoothed labels."""

    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""


class TaughtSlots(TokenDistillation, SmoothedSlots):
    """The same, whose slots a teacher can label."""


class Vanilla(DeepSupervision, TaughtSlots):
    """Position-wise cross entropy with a length predictor; the parallel family (Gu et al. 2018 without fertility).
    The model of Sun and Yang 2020 is length_from: slot, decoder_input: pad and one decoder layer more."""

    name: Literal["vanilla"]
    usual_searches = SLOTS
    em_searches = EM_SEARCHES
    measures_agreement = True
    decoder_input: Literal["mask", "pad"] = "mask"
    """Token in every decoder slot."""


class Cmlm(TaughtSlots):
    """Conditional masked language model (Ghazvininejad et al. 2019); the parallel family."""

    name: Literal["cmlm"]
    predicts = ("masked_slots", "slots")
    usual_searches = PASSES
    measures_agreement = True


class Axe(Slots):
    """Aligned cross entropy: of the best monotonic alignment of targets and slots, where slots that are left out hold a
    blank (Ghazvininejad et al. 2020); the parallel family."""

    name: Literal["axe"]
    usual_searches = SEVERAL_LENGTHS
    untrained = (
        Untrained(
            "skipped",
            "target tokens that no slot was left for",
            "raise objective.skip_target or objective.length_multiplier",
            on_purpose=0.2,
        ),
    )
    counts = {"blanks": "slots aligned with a blank"}
    blank: ClassVar[bool] = True
    """Slots may hold a blank."""
    eos_anywhere: ClassVar[bool] = True
    """Slots after that of eos hold blanks."""
    skip_target: float = Field(2.0, ge=1, le=1000)
    """Price of a target that no slot is left for, as a multiple of its cross entropy in the slot it is charged to."""
    length_multiplier: float = Field(1.1, ge=1, le=100)
    """Decoder slots per token of the target's length: of the true length in training, of a predicted one in search."""
    masking: Literal["full", "random"] = "full"
    """Decoder slots in training. full: mask in all of them, as in search. random: some hold tokens of the target, as in
    cmlm; all targets are aligned, those too."""
    label_smoothing: Probability = 0.1
    """Share of the loss that is each slot's cross entropy with the uniform distribution."""


class Oaxe(SmoothedSlots):
    """Order-agnostic cross entropy: of the best order of the target's tokens (Du et al. 2021); the parallel family. It
    starts from a trained system that training.warm_start names, such as a cmlm student: from scratch it is worse than
    vanilla."""

    name: Literal["oaxe"]
    usual_searches = SEVERAL_LENGTHS
    untrained = (
        Untrained(
            "truncated",
            "target tokens left out for their low probability",
            "start from a better system, raise objective.warmup_share, or lower objective.truncation",
            on_purpose=0.9,  # a quarter to a half just after the warm-up; all of them without one
        ),
    )
    eos_anywhere: ClassVar[bool] = True
    """eos is in whatever slot the best order puts it."""
    warmup_share: Probability = 0.0
    """Share of the training that comes before, with the position-wise cross entropy of vanilla: above 0 for a training
    that starts from no trained system."""
    ngram: int = Field(1, ge=1, le=16)
    """Above 1: the best order of the target's overlapping n-grams of so many tokens, so that neighbours stay together
    (n-gram OAXE, Du et al. 2022)."""
    truncation: Probability = 0.15
    """Tokens that get a lower probability even in the best order are left out of the training loss."""

    @property
    def needs_start(self) -> str | None:
        return "set objective.warmup_share, such as 0.5" if self.warmup_share == 0 else None


class Glat(Glancing, DeepSupervision, TaughtSlots):
    """Glancing (Qian et al. 2021): cross entropy of the tokens not revealed; the parallel family."""

    name: Literal["glat"]
    usual_searches = SLOTS
    measures_agreement = True


Objective = Annotated[
    Autoregressive
    | Imitation
    | Vanilla
    | Cmlm
    | Janus
    | BartJanus
    | Bang
    | BangPretraining
    | Axe
    | Oaxe
    | Glat
    | Ctc
    | GlatCtc
    | Nmla
    | FuzzyDag
    | Dag,
    Field(discriminator="name"),
    BY_NAME,
]

OBJECTIVES: tuple[type[ObjectiveSection], ...] = get_args(get_args(Objective)[0])
"""Every objective, in the order of the union."""


def objective_named(name: object) -> type[ObjectiveSection] | None:
    """The objective of this name, if there is one."""
    return next((o for o in OBJECTIVES if o.only_value("name") == name), None)


def names_where(can: Callable[[type[ObjectiveSection]], object]) -> str:
    """The names, joined by "or", of the objectives of which ``can`` is true."""
    return " or ".join(o.only_value("name") for o in OBJECTIVES if can(o))
