"""A system: what is trained on what, and how it is decoded. The loop of systems that EM trains."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from retort.config.base import Name, Section
from retort.config.corpus import TextSource
from retort.config.janus import BartJanus
from retort.config.mixing import AGREEING, WEIGHTED, DataMixture, SelfPaced
from retort.config.search import SEARCHES_OF_OBJECTIVE, Search
from retort.config.training import (
    AUTOREGRESSIVE,
    Autoregressive,
    Model,
    Objective,
    Training,
    Vanilla,
    left_to_right,
)

Data = Literal["raw", "distilled", "mixed", "interpolated", "em", "selected", "monolingual"]

PRETRAINED = "pretrained"
"""Name of the pre-trained system."""

STARTS = ("none", "teacher_encoder", PRETRAINED, "previous")
"""What training.warm_start can say besides the name of a system."""

OR_AUTOREGRESSIVE = " or ".join(AUTOREGRESSIVE)


class System(Section):
    """A model family x a training objective x a data recipe x its searches."""

    objective: Objective
    """Training objective; it decides the model family."""
    data: Data = "raw"
    """Training targets: the references (raw); the teacher's translations (distilled); both (mixed); or, of the
    hypotheses in the teacher's beam, the one with the best sentence BLEU against the reference (interpolated).
    Systems of the EM loop have its texts: the translations of an iteration's autoregressive model (em), or the
    candidates chosen for it (selected); that of pretraining, its text (monolingual)."""
    mixture: DataMixture | None = None
    """How mixed data are used; null: union."""
    self_paced: SelfPaced | None = None
    """Samples that wait until the model is ready for them; null: none."""
    checkpoint: str | None = None
    """Directory of a trained checkpoint to use instead of training."""
    seeds: list[int] | None = Field(None, min_length=1)
    """Seeds of this system; null: the top-level seeds."""
    model: Model = Model()
    """Shape; keys left out come from the top-level model section."""
    training: Training = Training()
    """Training; keys left out come from the top-level training section."""
    searches: dict[Name, Search] = {}
    """How it is decoded, by name; the first one also validates. Empty: its objective's usual ones."""

    @model_validator(mode="after")
    def _searches_fit(self) -> System:
        allowed = SEARCHES_OF_OBJECTIVE[self.objective.name]
        for name, search in self.searches.items():
            if search.kind not in allowed:
                raise ValueError(
                    f"search {name!r} is {search.kind}, which objective {self.objective.name} cannot use; "
                    f"it can use {' or '.join(allowed)}"
                )
        if self.model.family == "gru" and self.objective.name not in AUTOREGRESSIVE:
            raise ValueError(f"a recurrent model cannot be trained as {self.objective.name}; say {OR_AUTOREGRESSIVE}")
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> System:
        name, mixture, paced = self.objective.name, self.mixture, self.self_paced
        if mixture and self.data != "mixed":
            raise ValueError(f"mixture is of data: mixed, found data: {self.data}")
        if name not in WEIGHTED and (paced or (mixture and mixture.kind != "union")):
            what = "self_paced" if paced else f"a {mixture.kind if mixture else ''} mixture"
            raise ValueError(f"objective {name} gives samples no weights, as {what} needs; say {' or '.join(WEIGHTED)}")
        if paced and paced.criterion == "agreement" and name not in AGREEING:
            raise ValueError(f"objective {name} has no slots that agree with a target; say {' or '.join(AGREEING)}")
        if paced and paced.criterion == "similarity" and self.data != "mixed":
            raise ValueError(f"similarity is that of the two targets of data: mixed, found data: {self.data}")
        return self

    def unshareable(self, processes: int) -> str:
        """Why so many processes cannot train it together; empty if they can."""
        accumulate = self.training.accumulate
        if accumulate % processes:
            return (
                f"{processes} GPUs cannot share the {accumulate} batches of an update evenly; set training.accumulate "
                f"to a multiple of {processes} (and batch_tokens to suit), or give the training another number of GPUs"
            )
        if processes > 1 and self.self_paced:
            return "self_paced compares each batch with those before it, which one process must see; give it one GPU"
        return ""


class Pretraining(Section):
    """Pre-training on monolingual text (BART-JANUS: Liang et al. 2022; BANG: Qi et al. 2021). Systems whose
    training.warm_start is pretrained start from it, of whatever family."""

    texts: list[TextSource] = []
    """Text of any of the two languages, one sentence a line, in the order of the documents. It is cleaned as
    cleaning says. None: the sources of the training corpus, and then its targets."""
    block_tokens: int = Field(128, ge=4)
    """Consecutive lines are joined to at most so many tokens; a longer line is cut into pieces of that."""
    valid_blocks: int = Field(200, ge=1)
    """Blocks that validate, spread over the text."""
    system: System = System(objective=BartJanus(name="bart_janus"))
    """Objective, shape and training, once, with its first seed. Checkpoints are chosen by the loss."""


class Guards(Section):
    """Bounds of the EM loop (the pseudo-bound of the paper, which gives no numbers; these are ours). The candidates
    chosen for an iteration are compared with the first teacher's own translations of the same sentences; the first
    bound that they miss ends the loop before that iteration."""

    length: float = Field(0.85, ge=0)
    """Least mean length in tokens, as a ratio."""
    distinct_words: float = Field(0.65, ge=0)
    """Least number of distinct words, as a ratio."""
    quality: float = Field(0.8, ge=0)
    """Least BLEU against the references, as a ratio."""
    likelihood: float = Field(0.5, ge=0)
    """Largest loss of mean log-probability under the first teacher, in nats a token."""
    sentences: int = Field(2000, ge=1)
    """Sentences of which the log-probability is taken."""


class Em(Section):
    """The loop between autoregressive and parallel models (Sun and Yang 2020). Iteration 1 is sequence-level
    distillation. For iteration t the candidates of the autoregressive model of t - 1 that the parallel model of t - 1
    finds likeliest train the next autoregressive model, whose translations train the next parallel model."""

    iterations: int = Field(0, ge=0)
    """Iterations; 0 leaves the loop out. Raising it runs the new iterations only."""
    candidates: int = Field(20, ge=1)
    """Size of the beam, and number of candidates a source. Of the search only this differs from distillation.search."""
    choose_by: Literal["parallel", "difference", "autoregressive"] = "parallel"
    """Candidates are chosen by log p of the parallel model, length included, as the paper's code does; by log p of the
    parallel model minus log p of the autoregressive one that made them, as its derivation has it; or, a control
    without EM, by log p of the autoregressive one alone."""
    normalise: bool = False
    """Divide that score by the length in tokens."""
    likelihood_floor: float | None = Field(None, ge=0)
    """Drop candidates whose log p a token under the first teacher is more than so many nats below the best
    candidate's; null keeps all."""
    held_out: int = Field(1000, ge=1)
    """Training pairs of each iteration's corpus that train no parallel model: multi-modality is measured on them."""
    student: System = System(objective=Vanilla(name="vanilla"))
    """The parallel system of every iteration, named em1, em2, ..."""
    teacher: System = System(objective=Autoregressive(name="autoregressive"))
    """The autoregressive system of iteration 2 and later, named em2-teacher, ...; keys of model and training left out
    come from the teacher."""
    student_start: Literal["cold", "warm"] = "cold"
    """cold: each iteration's student starts as its training.warm_start says, so that all have trained equally long.
    warm: it goes on from the iteration before."""
    teacher_start: Literal["cold", "warm"] = "warm"
    """The same for the teacher; warm: it goes on from the iteration before, the first one from the teacher."""
    batch_tokens: int = Field(1024, ge=16)
    """Padded source tokens of a batch that is decoded to candidates."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights while candidates are decoded."""
    guards: Guards = Guards()
    """When the loop ends early."""

    @model_validator(mode="after")
    def _fits(self) -> Em:
        if left_to_right(self.student.objective):
            raise ValueError("student must be a parallel system, such as objective: {name: vanilla}")
        if self.teacher.objective.name != "autoregressive":
            raise ValueError(f"teacher must be autoregressive, not {self.teacher.objective.name}")
        return self


def em_student(iteration: int) -> str:
    """Name of an iteration's parallel system."""
    return f"em{iteration}"


def em_teacher(iteration: int) -> str:
    """Name of the autoregressive system that translates the training text of an iteration, from 2 on."""
    return f"em{iteration}-teacher"


def em_iteration(system: str) -> int:
    """Iteration of a system of the EM loop; 0 for all others."""
    number = system.removeprefix("em").removesuffix("-teacher")
    return int(number) if system.startswith("em") and number.isdecimal() else 0


def em_systems(em: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The systems of an ``em`` section, as plain values by name, in the order of their training."""
    systems = {}
    for t in range(1, int(em.get("iterations", 0)) + 1):
        roles = [("teacher", em_teacher(t), "selected"), ("student", em_student(t), "em")]
        for role, name, data in roles if t > 1 else roles[1:]:
            training = em[role]["training"]
            if t > 1 and em[f"{role}_start"] == "warm":
                training = {**training, "warm_start": "previous"}
            systems[name] = {**em[role], "data": data, "training": training}
    return systems
