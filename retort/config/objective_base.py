"""What every training objective declares, what several of them share, and their usual searches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from retort.config.base import ChangesNoWeight, Section, ShapesWeights, ShortForm
from retort.config.search import (
    SEARCHES,
    Argmax,
    Beam,
    CtcCollapse,
    DagPath,
    Greedy,
    JointViterbi,
    LengthParallel,
    MaskPredict,
    Predictions,
    SearchSection,
)

BY_NAME = ShortForm("name")
"""An objective without options is written as its name."""


@dataclass(frozen=True)
class Untrained:
    """Pairs or tokens of the training text that an objective can learn nothing from."""

    part: str
    """The part of the loss that is their share."""
    what: str
    """What they are, for a sentence "5 % are ..."."""
    remedy: str
    on_purpose: float = 0
    """Share that the objective may leave out in any case; a twentieth is not warned about either."""
    of: Literal["tokens", "sentences"] = "tokens"
    """What it is a share of."""


OVERFULL = Untrained(
    "infeasible",
    "pairs whose target does not fit into the decoder's slots",
    "raise objective.upsampling, or drop such pairs of the corpus by cleaning.max_ratio; where the targets are a "
    "teacher's outputs, train it longer, or shorten them by distillation.search.max_ratio (outputs of an external "
    "teacher: drop them by external_teacher.filters.max_ratio)",
    of="sentences",
)


class ObjectiveSection(Section):
    """What every objective declares. Class variables are no keys of the configuration."""

    name: str
    """Name of the objective, and of its module below retort/objectives."""
    family: ClassVar[str]
    """Module below retort/models that builds the model; a recurrent model replaces the autoregressive one."""
    predicts: ClassVar[tuple[Predictions, ...]]
    """What a trained model predicts; searches that decode any of these can be used, in this order."""
    usual_searches: ClassVar[Mapping[str, SearchSection]]
    """Searches of a system that names none."""
    em_searches: ClassVar[Mapping[str, SearchSection] | None] = None
    """The same of the EM loop's students; None: the usual ones."""
    same_weights: ClassVar[str | None] = None
    """Objectives with the same value train models with the same weights, so that one can start from another; None:
    no other objective does."""
    weighs_samples: ClassVar[bool] = False
    """Whether each sample of a batch can have a weight in the loss."""
    measures_agreement: ClassVar[bool] = False
    """Whether the module has ``agreement``, the share of slots whose most probable token is the target's."""
    untrained: ClassVar[tuple[Untrained, ...]] = ()
    """What the loss leaves out and counts; a training that leaves out most of its text is an error."""
    counts: ClassVar[Mapping[str, str]] = {}
    """Other parts of the loss that are shares, and what of, for the report."""
    prepares: ClassVar[bool] = False
    """Whether the module has ``prepare``, which receives the batches of several updates before the first of them."""
    can_teach: ClassVar[bool] = False
    """Whether a system with this objective can be the run's teacher."""
    pretrains: ClassVar[str | None] = None
    """For the section pretraining alone: the objective that trains the same model on pairs."""

    @property
    def left_to_right(self) -> bool:
        """Whether the model has no other mode than the one from left to right."""
        return self.family == "autoregressive"

    @property
    def slots_per_token(self) -> float:
        """Decoder slots of the model per token."""
        return 1

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher runs during the training."""
        return False

    @property
    def needs_start(self) -> str | None:
        """Where a training from random weights learns little, and so must start from a trained system: what to change
        to do without one. None: it can start from random weights."""
        return None

    @property
    def stored_top_k(self) -> int | None:
        """Tokens per position in the table of the teacher's distributions that the training reads; None: it reads
        none."""
        return None

    @property
    def needs_labels(self) -> bool:
        """Whether the training reads a table of the teacher's distributions."""
        return self.stored_top_k is not None

    @property
    def weight_options(self) -> dict[str, object]:
        """Keys that the model's weights depend on, with their values."""
        return {key: getattr(self, key) for key in self.marked(ShapesWeights)}

    @property
    def prepared_updates(self) -> int:
        """Updates whose batches are prepared at once; the training state is saved only between such groups."""
        return 1

    @classmethod
    def searches(cls) -> tuple[str, ...]:
        """Kinds of the searches that can decode the model."""
        return tuple(s.only_value("kind") for p in cls.predicts for s in SEARCHES if s.decodes == p)

    @classmethod
    def default_searches(cls, options: Mapping[str, Any]) -> dict[str, SearchSection]:
        """Searches of a system that names none. ``options`` is its objective's section, which may be invalid."""
        return dict(cls.usual_searches)

    @property
    def learns_left_to_right(self) -> bool:
        """Whether a mode that it trains decodes from left to right."""
        return any(search.decodes == "next_token" for search in self.default_searches(self.model_dump()).values())

    @property
    def own_search(self) -> SearchSection:
        """What a checkpoint is decoded with unless another search is chosen: the first of the modes that it was
        trained for."""
        searches = self.default_searches(self.model_dump()) or self.usual_searches
        return next(iter(searches.values()))


# Searches of systems that name none, by what their models predict.
LEFT_TO_RIGHT: dict[str, SearchSection] = {"beam5": Beam(kind="beam"), "greedy": Greedy(kind="greedy")}
PASSES: dict[str, SearchSection] = {
    "passes4": MaskPredict(kind="mask_predict"),
    "passes1": MaskPredict(kind="mask_predict", iterations=1),
    "passes10": MaskPredict(kind="mask_predict", iterations=10),
}
SLOTS: dict[str, SearchSection] = {"argmax": Argmax(kind="argmax")}
SEVERAL_LENGTHS: dict[str, SearchSection] = {**SLOTS, "lengths5": Argmax(kind="argmax", length_beam=5)}
GRAPH: dict[str, SearchSection] = {
    "lookahead": DagPath(kind="dag_path"),
    "greedy": DagPath(kind="dag_path", method="greedy"),
    "viterbi": JointViterbi(kind="joint_viterbi"),
}
EM_SEARCHES: dict[str, SearchSection] = {
    "argmax": Argmax(kind="argmax"),
    "remove": Argmax(kind="argmax", deduplicate="remove"),
    "odd": Argmax(kind="argmax", deduplicate="odd"),
    "parallel9": LengthParallel(kind="length_parallel"),
}
ALIGNMENT: dict[str, SearchSection] = {"collapse": CtcCollapse(kind="ctc_collapse")}


class DeepSupervision(ObjectiveSection):
    """An objective of which every decoder layer can predict."""

    deep_supervision: Annotated[bool, ShapesWeights()] = False
    """Every decoder layer predicts, and the loss is the mean over the layers. Each layer but the first receives the
    prediction of the one before, in decoding too (Huang et al. 2022)."""


class TokenDistillation(ObjectiveSection):
    """An objective whose slots are the target's tokens, which the teacher can label in the parallel mode."""

    teacher_weight: float = Field(0.0, ge=0, le=1_000_000)
    """Weight of the divergence from the teacher's distribution of each token, given those before it, to the slot's; at
    the teacher's own translations where data are mixed, else at all targets. 0: no teacher is needed."""
    teacher_top_k: int | None = Field(None, ge=1, le=1_000_000)
    """Of the teacher's distribution only this many most probable tokens, all others counted as one more; null:
    all of it."""

    @property
    def without_effect(self) -> dict[str, str]:
        reason = "it is of the teacher's distribution, and teacher_weight is 0"
        return {} if self.teacher_weight else {"teacher_top_k": reason}

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's distribution is a target."""
        return self.teacher_weight > 0


class Glancing(ObjectiveSection):
    """A glancing objective shows the decoder some of the target: this ratio times the distance of a first guess to it.
    The ratio goes linearly from start, at the first update, to end, at training.max_updates."""

    counts = {"revealed": "target tokens, or slots, shown to the decoder"}
    start: float = Field(0.5, ge=0, lt=1)
    """Ratio of what is revealed to what the first guess has wrong, at the first update."""
    end: float = Field(0.3, ge=0, lt=1)
    """The same at training.max_updates."""


class PretrainingObjective(ObjectiveSection):
    """An objective for the section pretraining alone: the model predicts tokens of a text that its encoder reads
    corrupted."""

    shorter_spans: ClassVar[str]
    """How to have shorter spans, where the model does not learn to use its encoder."""
    least_encoder_gap: Annotated[float, ChangesNoWeight()] = Field(0.2, ge=0, le=1_000_000)
    """Nats per token by which the loss must rise where the encoder reads another text instead. Each validation logs
    this encoder_gap. A training in which it has stayed below until the middle of its updates has not learnt to use its
    encoder, and stops with an error; 0 lets it go on."""
