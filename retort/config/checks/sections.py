"""The valid sections of a configuration, which the checks compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retort.config.checks.given import as_trained, vocabulary_in
from retort.config.corpus import Corpus, CorpusSection, Vocabulary
from retort.config.em import Em
from retort.config.evaluation import Distillation, Evaluation
from retort.config.external import ExternalSection, ExternalTeacher
from retort.config.model import Model
from retort.config.systems import Pretraining, System


@dataclass(frozen=True)
class Sections:
    """The sections that are valid by themselves; None for one that is not, or that is left out."""

    corpus: CorpusSection | None
    vocabulary: Vocabulary | None
    model: Model | None
    distillation: Distillation | None
    evaluation: Evaluation | None
    pretraining: Pretraining | None
    teacher: System | None
    """None where there is none, too."""
    has_teacher: bool
    """Whether there is one, valid or not."""
    external: ExternalSection | None
    has_external: bool
    students: Mapping[str, System]
    """By name, without those that are not valid."""
    em: Em | None
    """None where there is no iteration, too."""
    student_names: tuple[str, ...]
    """Names of all students, valid or not."""
    with_files: bool
    """Whether what is named by a path can be looked at."""

    @property
    def by_ctranslate2(self) -> bool:
        """Whether CTranslate2 must decode the training text."""
        return self.distillation is not None and self.distillation.engine == "ctranslate2"

    @property
    def loop(self) -> dict[str, System]:
        """Systems of the EM loop by their path."""
        return {"em.student": self.em.student, "em.teacher": self.em.teacher} if self.em else {}

    @property
    def rivals(self) -> dict[str, System]:
        """Students and systems of the EM loop by their path."""
        return {**{f"students.{name}": system for name, system in self.students.items()}, **self.loop}

    @property
    def systems(self) -> dict[str, System]:
        """The same, with the teacher."""
        return {**({"teacher": self.teacher} if self.teacher else {}), **self.rivals}

    @property
    def named(self) -> dict[str, System]:
        """Teacher and students by their names."""
        return {**({"teacher": self.teacher} if self.teacher else {}), **self.students}

    @property
    def joint(self) -> bool | None:
        """Whether both sides have the same vocabulary; None where that is not known."""
        if self.vocabulary is None:
            return None
        if self.vocabulary.path is None:
            return self.vocabulary.joint
        models = vocabulary_in(self.vocabulary.path) if self.with_files else None
        return None if models is None else len(set(models)) == 1

    def known(self, system: System) -> System | None:
        """A system with the objective and the model that it has, which are its checkpoint's if that is given; None
        where these are not known, or where the checkpoint is of another objective, which is a problem of its own."""
        if system.checkpoint and not self.with_files:
            return None
        try:
            trained = as_trained(system)
        except ValueError:
            return None
        return trained if trained.objective.name == system.objective.name else None


def valid_sections(whole: Mapping[str, Any], with_files: bool) -> Sections:
    """The valid sections of a complete configuration."""
    students = whole.get("students")
    students = students if isinstance(students, dict) else {}
    em = _valid(Em, whole.get("em", {}))
    return Sections(
        corpus=_valid(Corpus, whole.get("corpus")),
        vocabulary=_valid(Vocabulary, whole.get("vocabulary", {})),
        model=_valid(Model, whole.get("model", {})),
        distillation=_valid(Distillation, whole.get("distillation", {})),
        evaluation=_valid(Evaluation, whole.get("evaluation", {})),
        pretraining=_valid(Pretraining, whole.get("pretraining")),
        teacher=_valid(System, whole.get("teacher")),
        has_teacher=whole.get("teacher") is not None,
        external=_valid(ExternalTeacher, whole.get("external_teacher")),
        has_external=whole.get("external_teacher") is not None,
        students={name: system for name, value in students.items() if (system := _valid(System, value))},
        em=em if em is not None and em.iterations else None,
        student_names=tuple(map(str, students)),
        with_files=with_files,
    )


def _valid(model: Any, value: Any) -> Any:
    try:
        return TypeAdapter(model).validate_python(value)
    except ValidationError:
        return None
