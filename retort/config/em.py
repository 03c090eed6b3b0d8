"""The EM loop between autoregressive and parallel models, and the systems that it trains."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from retort.config.base import Section
from retort.config.objectives import Vanilla
from retort.config.objectives_left_to_right import Autoregressive
from retort.config.systems import System

EM_SYSTEM = re.compile(r"em([0-9]{1,9})(?:-teacher)?")
"""Names of the loop's systems: ``em_student`` and ``em_teacher`` write them."""

CHOOSING = ("choose_by", "posterior_weight", "token_bonus", "normalise", "likelihood_floor")
"""Keys of the section that decide which candidates are chosen."""


class Guards(Section):
    """Bounds of the EM loop (the pseudo-bound of the paper, which gives no numbers; these are ours). The candidates
    chosen for an iteration are compared with the first teacher's own translations of the same sentences; the first
    bound that they miss ends the loop before that iteration."""

    length: float = Field(0.85, ge=0, le=1_000_000)
    """Least mean length in tokens, as a ratio."""
    distinct_words: float = Field(0.65, ge=0, le=1_000_000)
    """Least number of distinct words, as a ratio."""
    quality: float = Field(0.8, ge=0, le=1_000_000)
    """Least BLEU against the references, as a ratio."""
    likelihood: float = Field(0.5, ge=0, le=1_000_000)
    """Largest loss of mean log-probability under the first teacher, in nats per token."""
    sentences: int = Field(2000, ge=1, le=1_000_000_000)
    """Sentences whose log-probability is measured."""


class Em(Section):
    """The loop between autoregressive and parallel models (Sun and Yang 2020). Iteration 1 is sequence-level
    distillation. For iteration t the candidates of the autoregressive model of t - 1 that the parallel model of t - 1
    finds likeliest train the next autoregressive model, whose translations train the next parallel model."""

    iterations: int = Field(0, ge=0, le=1000)
    """Iterations; 0 leaves the loop out. Raising it runs the new iterations only."""
    candidates: int = Field(20, ge=1, le=10_000)
    """Size of the beam, and number of candidates per source. The rest of the search is distillation.search."""
    choose_by: Literal["parallel", "posterior", "difference", "autoregressive"] = "parallel"
    """Candidates are chosen by log p of the parallel model, length included, as the paper's code does (parallel); by
    that plus posterior_weight x log p of the first teacher plus token_bonus x tokens, the mode of the derivation's
    regularised posterior (posterior); by log p of the parallel model minus log p of the autoregressive one that made
    them, which weighs that one's samples in a gradient and is no posterior (difference); or, a control without EM, by
    log p of the autoregressive one alone."""
    posterior_weight: float = Field(1.0, ge=0, le=1_000_000)
    """Weight of log p under the first teacher in choose_by: posterior; 0 leaves the choice to the parallel model."""
    token_bonus: float = Field(0.0, ge=-1_000_000, le=1_000_000)
    """Nats per token, eos included, in choose_by: posterior; sums of log-probabilities prefer short candidates."""
    normalise: bool = False
    """Divide that score by the length in tokens."""
    likelihood_floor: float | None = Field(None, ge=0, le=1_000_000)
    """Drop candidates whose log p per token under the first teacher is more than this many nats below the best
    candidate's; null keeps all."""
    held_out: int = Field(1000, ge=1, le=1_000_000_000)
    """Training pairs of each iteration's corpus that train no parallel model: multi-modality is measured on them. They
    are the same sources in all iterations, and for systems on data: references; if any have references, only these."""
    student: System = System(objective=Vanilla(name="vanilla"))
    """The parallel system of every iteration, named em1, em2, ..."""
    teacher: System = System(objective=Autoregressive(name="autoregressive"))
    """The autoregressive system of iteration 2 and later, named em2-teacher, ...; keys of model and training left out
    come from the teacher."""
    student_start: Literal["cold", "warm"] = "cold"
    """cold: each iteration's student starts from its training.warm_start, so that all have trained equally long.
    warm: it goes on from the iteration before."""
    teacher_start: Literal["cold", "warm"] = "warm"
    """The same for the teacher; warm: it goes on from the iteration before, the first one from the teacher."""
    batch_tokens: int = Field(1024, ge=16, le=100_000_000)
    """Padded source tokens of a batch that is decoded to candidates."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights while candidates are decoded."""
    guards: Guards = Guards()
    """When the loop ends early."""

    @model_validator(mode="after")
    def _fits(self) -> Em:
        if self.student.objective.left_to_right:
            raise ValueError("student must be a parallel system, such as objective: {name: vanilla}")
        if not isinstance(self.teacher.objective, Autoregressive):
            raise ValueError(f"teacher must be autoregressive, not {self.teacher.objective.name}")
        return self

    @model_validator(mode="after")
    def _choice_fits(self) -> Em:
        fields = type(self).model_fields
        for key in ("posterior_weight", "token_bonus"):
            if self.choose_by != "posterior" and getattr(self, key) != fields[key].default:
                raise ValueError(f"{key} is of choose_by: posterior, found choose_by: {self.choose_by}")
        if self.normalise and self.token_bonus:
            raise ValueError("token_bonus adds the same to all candidates with normalise: true; remove one of the two")
        return self


def em_student(iteration: int) -> str:
    """Name of an iteration's parallel system."""
    return f"em{iteration}"


def em_teacher(iteration: int) -> str:
    """Name of the autoregressive system that translates the training text of an iteration, from 2 on."""
    return f"em{iteration}-teacher"


def em_iteration(system: str) -> int:
    """Iteration of a system of the EM loop; 0 for all others."""
    named = EM_SYSTEM.fullmatch(system)
    return int(named[1]) if named else 0


def em_systems(em: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The systems of an ``em`` section, as plain values by name, in the order of their training."""
    systems = {}
    for t in range(1, int(em.get("iterations", 0)) + 1):
        roles = [("teacher", em_teacher(t), "selected"), ("student", em_student(t), "em")]
        for role, name, data in roles if t > 1 else roles[1:]:
            training = em[role]["training"]
            if t > 1 and em[f"{role}_start"] == "warm":
                chosen = {"start_encoder_layers": None, "start_decoder_layers": None}
                training = {**training, **chosen, "warm_start": "previous"}
            systems[name] = {**em[role], "data": data, "training": training}
    return systems
