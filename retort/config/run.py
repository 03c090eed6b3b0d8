"""A whole run: the ``Config`` of all sections.

Every system starts from the top-level ``model`` and ``training`` sections; its own sections override them key by key.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import Field

from retort.config.base import Name, Section, Seeds
from retort.config.completion import complete
from retort.config.corpus import Cleaning, Corpus, Vocabulary
from retort.config.em import Em, em_iteration, em_systems
from retort.config.evaluation import Distillation, Evaluation, Latency, Report
from retort.config.external import EXTERNAL, ExternalTeacher
from retort.config.model import Model
from retort.config.systems import PRETRAINED, Pretraining, System
from retort.config.training import Training


class Config(Section):
    """A run of Retort."""

    name: Name
    """Name of the run: everything is written below results/<name>."""
    seeds: Seeds = Field([1], min_length=1)
    """Seeds: each system is trained once with each."""
    corpus: Corpus
    """Where the parallel text comes from."""
    cleaning: Cleaning = Cleaning()
    """Which pairs are dropped."""
    vocabulary: Vocabulary = Vocabulary()
    """sentencepiece vocabulary."""
    model: Model = Model()
    """Shape every system starts from."""
    training: Training = Training()
    """Training every system starts from."""
    teacher: System | None = None
    """The autoregressive teacher; null: none is trained, and an external one, a table of outputs or nobody teaches."""
    external_teacher: ExternalTeacher | None = None
    """A teacher that somebody else made. Its outputs are the distilled text; null: the run's own teacher makes it."""
    distillation: Distillation = Distillation()
    """Decoding of the distilled corpus."""
    students: dict[Name, System] = {}
    """The students, by name."""
    em: Em = Em()
    """The EM loop."""
    pretraining: Pretraining | None = None
    """Pre-training on monolingual text; null: none."""
    evaluation: Evaluation = Evaluation()
    """Scoring."""
    latency: Latency = Latency()
    """Timing."""
    report: Report = Report()
    """The HTML report."""

    @cached_property
    def systems(self) -> dict[str, System]:
        """Every system by name: the teacher, if one is trained, the students, and those of the EM loop."""
        loop = {name: System.model_validate(s) for name, s in em_systems(self.em.model_dump()).items()}
        return {**self.own_teachers, **self.students, **loop}

    @property
    def own_teachers(self) -> dict[str, System]:
        """The run's own teacher by its name; empty where there is none."""
        return {"teacher": self.teacher} if self.teacher else {}

    @property
    def external_is_scored(self) -> bool:
        """Whether there is an external teacher that can translate the test sets."""
        external = self.external_teacher
        return external is not None and external.answers_splits(self.corpus.test_names)

    @property
    def external_is_timed(self) -> bool:
        """Whether the external teacher is one of the systems whose latency is measured."""
        return self.external_is_scored and self.external_teacher is not None and self.external_teacher.is_timed

    @property
    def filled(self) -> tuple[str, ...]:
        """Validation and test sets whose references are the external teacher's outputs."""
        return tuple(name for name in self.corpus.unreferenced if name != "train")

    @property
    def baseline(self) -> str:
        """The system that all others are compared with: the one that is named, or else the external teacher, the
        teacher or the first system."""
        named = self.evaluation.baseline
        return named or next(iter([*([EXTERNAL] if self.external_is_scored else []), *self.systems]))

    @property
    def reference(self) -> tuple[str, str]:
        """System and search that speed-ups are over: the external teacher if it is timed, or else the first system,
        which is the run's own teacher where there is one; its first beam search, or its first search when it has no
        beam."""
        if self.external_is_timed or not self.systems:
            return EXTERNAL, self.searches_of(EXTERNAL)[0]
        name, system = next(iter(self.systems.items()))
        beams = [search for search, section in system.searches.items() if section.kind == "beam"]
        return name, next(iter([*beams, *system.searches]), "")

    @property
    def original(self) -> tuple[str, str]:
        """System and search whose quality the others are judged by: the external teacher where it is scored, timed or
        not; or else what speed-ups are over."""
        return (EXTERNAL, self.searches_of(EXTERNAL)[0]) if self.external_is_scored else self.reference

    @cached_property
    def trained(self) -> dict[str, System]:
        """Every system by name, with the pre-trained one, which is no rival of the others."""
        return {**({PRETRAINED: self.pretraining.system} if self.pretraining else {}), **self.systems}

    @property
    def starts_pretrained(self) -> bool:
        """Whether a system that is trained starts from the pre-trained one."""
        return any(s.training.warm_start == PRETRAINED and not s.checkpoint for s in self.systems.values())

    def searches_of(self, system: str) -> list[str]:
        """Names of a system's searches, the one that validates it first; of the external teacher, its kind; none of a
        system that is not of this run."""
        if system == EXTERNAL and self.external_teacher:
            return [self.external_teacher.kind]
        return list(self.trained[system].searches) if system in self.trained else []

    def seeds_of(self, system: str) -> list[int]:
        """Seeds a system is trained with; a given checkpoint counts once, under the first of them."""
        if system == EXTERNAL:
            return [0]
        if em_iteration(system) and system not in self.students:
            return self.em.student.seeds or self.seeds
        section = self.trained[system]
        seeds = section.seeds or self.seeds
        return seeds[:1] if section.checkpoint or system == PRETRAINED else seeds


def resolve(raw: dict[str, Any]) -> Config:
    """Complete and validate a raw configuration; raises pydantic.ValidationError."""
    return Config.model_validate(complete(raw))
