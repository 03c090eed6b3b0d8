"""Training objectives, and what each declares about itself (``retort.config.objective_base``).

A new objective in an existing family is a class here, its place in ``Objective``, and the module
``retort/objectives/<name>.py``; see docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from retort.config.base import Probability, Section, ShapesWeights
from retort.config.objective_base import (
    ALIGNMENT,
    BY_NAME,
    EM_SEARCHES,
    GRAPH,
    LEFT_TO_RIGHT,
    OVERFULL,
    PASSES,
    SEVERAL_LENGTHS,
    SLOTS,
    DeepSupervision,
    Glancing,
    ObjectiveSection,
    PredictedLength,
    PretrainingObjective,
    TokenDistillation,
    Untrained,
)
from retort.config.search import Blocks, Greedy, SearchSection


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
    """Updates whose prefixes are decoded at once, with the weights before the first of them."""


class Imitation(ObjectiveSection):
    """Prediction of the teacher's next token, at prefixes of the data and of the student itself (ImitKD,
    Lin et al. 2020); the autoregressive family. At the data's prefixes alone (beta: {schedule: constant, share: 1})
    labels: full is word-level distillation (Kim and Rush 2016)."""

    name: Literal["imitation"]
    family = "autoregressive"
    predicts = ("next_token",)
    usual_searches = LEFT_TO_RIGHT
    same_weights = "autoregressive"
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


class Vanilla(DeepSupervision, TokenDistillation, PredictedLength):
    """Position-wise cross entropy with a length predictor; the parallel family (Gu et al. 2018 without fertility).
    The model of Sun and Yang 2020 is length_from: slot, decoder_input: pad and one decoder layer more."""

    name: Literal["vanilla"]
    family = "parallel"
    predicts = ("slots",)
    usual_searches = SLOTS
    em_searches = EM_SEARCHES
    same_weights = "slots"
    weighs_samples = True
    measures_agreement = True
    decoder_input: Literal["mask", "pad"] = "mask"
    """Token in every decoder slot."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of the length predictor's loss."""


class Cmlm(TokenDistillation, PredictedLength):
    """Conditional masked language model (Ghazvininejad et al. 2019); the parallel family."""

    name: Literal["cmlm"]
    family = "parallel"
    predicts = ("masked_slots", "slots")
    usual_searches = PASSES
    same_weights = "slots"
    weighs_samples = True
    measures_agreement = True
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of the length predictor's loss."""


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


class BartJanus(PretrainingObjective):
    """Pre-training of the same model on corrupted text (Liang et al. 2022), for the section pretraining alone."""

    name: Literal["bart_janus"]
    family = "janus"
    predicts = ("next_token",)
    usual_searches = {"greedy": Greedy(kind="greedy")}
    pretrains = "janus"
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
    span_block: int = Field(64, ge=1, le=100_000)
    """Consecutive tokens with one masked span."""
    mask_ratio: Probability = 0.15
    """Share of the tokens of a block that its span has, at least one."""
    label_smoothing: Probability = 0.0
    """Probability mass spread over the whole vocabulary."""


class Axe(PredictedLength):
    """Aligned cross entropy: of the best monotonic alignment of targets and slots, where slots that are left out hold a
    blank (Ghazvininejad et al. 2020); the parallel family."""

    name: Literal["axe"]
    family = "parallel"
    predicts = ("slots",)
    usual_searches = SEVERAL_LENGTHS
    same_weights = "slots"
    weighs_samples = True
    untrained = (
        Untrained(
            "skipped",
            "target tokens that no slot was left for",
            "raise objective.skip_target or objective.length_multiplier",
            usual=0.2,
        ),
    )
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
    length_weight: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of the length predictor's loss."""


class Oaxe(PredictedLength):
    """Order-agnostic cross entropy: of the best order of the target's tokens (Du et al. 2021); the parallel family."""

    name: Literal["oaxe"]
    family = "parallel"
    predicts = ("slots",)
    usual_searches = SEVERAL_LENGTHS
    same_weights = "slots"
    weighs_samples = True
    untrained = (
        Untrained(
            "truncated",
            "target tokens left out for their low probability",
            "raise objective.warmup_share, start from a trained system, or lower objective.truncation",
            usual=0.9,  # a quarter to a half just after the warm-up; all of them without one
        ),
    )
    eos_anywhere: ClassVar[bool] = True
    """eos is in whatever slot the best order puts it."""
    warmup_share: Probability = 0.5
    """Share of the training that comes before, with the position-wise cross entropy of vanilla."""
    truncation: Probability = 0.15
    """Tokens that get a lower probability even in the best order are left out of the training loss."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of the length predictor's loss."""


class Ctc(DeepSupervision):
    """Connectionist temporal classification over upsampled source positions; the parallel family."""

    name: Literal["ctc"]
    family = "parallel"
    predicts = ("alignment",)
    usual_searches = ALIGNMENT
    same_weights = "alignment"
    weighs_samples = True
    untrained = (OVERFULL,)
    measures_agreement = True
    upsampling: Annotated[int, ShapesWeights()] = Field(2, ge=1, le=100)
    """Decoder slots per source token."""


class Glat(Glancing, DeepSupervision, TokenDistillation, PredictedLength):
    """Glancing (Qian et al. 2021): cross entropy of the tokens not revealed; the parallel family."""

    name: Literal["glat"]
    family = "parallel"
    predicts = ("slots",)
    usual_searches = SLOTS
    same_weights = "slots"
    weighs_samples = True
    measures_agreement = True
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0, le=1_000_000)
    """Weight of the length predictor's loss."""


class GlatCtc(Glancing, DeepSupervision):
    """Glancing along the best CTC alignment (Qian et al. 2021; Gu and Kong 2021); the parallel family."""

    name: Literal["glat_ctc"]
    family = "parallel"
    predicts = ("alignment",)
    usual_searches = ALIGNMENT
    same_weights = "alignment"
    weighs_samples = True
    untrained = (OVERFULL,)
    measures_agreement = True
    upsampling: Annotated[int, ShapesWeights()] = Field(2, ge=1, le=100)
    """Decoder slots per source token."""


class Dag(Glancing):
    """Directed acyclic graph over upsampled source positions (Huang et al. 2022); the parallel family. A vertex has a
    distribution over tokens and one over the vertices that follow it. A first guess is compared with the target along
    the target's best path; a ratio of 0 does without one."""

    name: Literal["dag"]
    family = "dag"
    predicts = ("graph",)
    usual_searches = GRAPH
    weighs_samples = True
    untrained = (OVERFULL,)
    upsampling: Annotated[int, ShapesWeights()] = Field(4, ge=1, le=100)
    """Vertices per source token; the paper has 8. Time and memory grow with its square."""
    end: float = Field(0.1, ge=0, lt=1)
    """The same at training.max_updates."""


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
    | Dag,
    Field(discriminator="name"),
    BY_NAME,
]

OBJECTIVES: tuple[type[ObjectiveSection], ...] = get_args(get_args(Objective)[0])
"""Every objective, in the order of the union."""


def objective_named(name: object) -> type[ObjectiveSection] | None:
    """The objective of this name, if there is one."""
    return next((o for o in OBJECTIVES if o.objective_name() == name), None)


def names_where(can: Callable[[type[ObjectiveSection]], object]) -> str:
    """The names, joined by "or", of the objectives of which ``can`` is true."""
    return " or ".join(o.objective_name() for o in OBJECTIVES if can(o))
