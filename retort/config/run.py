"""A whole run: the ``Config`` of all sections, and how a raw configuration becomes one.

The top-level ``model`` and ``training`` sections are what each system starts from; a system's own sections override
them key by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import Field

from retort.config.base import Name, Section
from retort.config.corpus import Cleaning, Corpus, Vocabulary
from retort.config.em import Em, em_iteration, em_systems
from retort.config.evaluation import Distillation, Evaluation, Latency, Report
from retort.config.metrics import LEADING_METRICS
from retort.config.model import Model
from retort.config.objectives import objective_named
from retort.config.search import SearchSection
from retort.config.systems import PRETRAINED, Pretraining, System
from retort.config.training import Training


class Config(Section):
    """A run of Retort."""

    name: Name
    """Name of the run: everything is written below results/<name>."""
    seeds: list[int] = Field([1], min_length=1)
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
    teacher: System
    """The autoregressive teacher."""
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
        """Every system by name: the teacher, the students, and those of the EM loop."""
        loop = {name: System.model_validate(s) for name, s in em_systems(self.em.model_dump()).items()}
        return {"teacher": self.teacher, **self.students, **loop}

    @cached_property
    def trained(self) -> dict[str, System]:
        """Every system by name, with the pre-trained one, which is no rival of the others."""
        return {**({PRETRAINED: self.pretraining.system} if self.pretraining else {}), **self.systems}

    def seeds_of(self, system: str) -> list[int]:
        """Seeds a system is trained with; a given checkpoint counts once, under the first of them."""
        if em_iteration(system) and system not in self.students:
            return self.em.student.seeds or self.seeds
        section = self.trained[system]
        seeds = section.seeds or self.seeds
        return seeds[:1] if section.checkpoint or system == PRETRAINED else seeds


def leading_metric(raw: dict[str, Any]) -> str | None:
    """The first of the metrics in a raw configuration; None where they cannot be read."""
    evaluation = raw.get("evaluation") or {}
    metrics = evaluation.get("metrics") if isinstance(evaluation, dict) else None
    first = metrics[0] if isinstance(metrics, list) and metrics else None
    return first if first in LEADING_METRICS else None


def complete(raw: dict[str, Any]) -> dict[str, Any]:
    """A raw configuration with every system completed from the top-level model and training sections, unvalidated."""
    raw = dict(raw)
    leading = leading_metric(raw)
    if leading and isinstance(raw.get("training") or {}, dict):
        raw["training"] = {"select_by": leading, **(raw.get("training") or {})}

    def complete_system(system: Any, base: Any = raw, searches: Any = _default_searches) -> Any:
        if not isinstance(system, dict) or not isinstance(base, dict):
            return system
        system = dict(system)
        for section in ("model", "training"):
            inherited, own = base.get(section) or {}, system.get(section) or {}
            if isinstance(inherited, dict) and isinstance(own, dict):
                system[section] = {**inherited, **own}
        objective = system.get("objective")
        if isinstance(objective, dict) and not system.get("searches"):
            system["searches"] = searches(objective)
        return system

    if "teacher" in raw:
        raw["teacher"] = complete_system(raw["teacher"])
    if isinstance(raw.get("students"), dict):
        raw["students"] = {name: complete_system(system) for name, system in raw["students"].items()}
    if isinstance(raw.get("pretraining"), dict):
        own = raw["pretraining"].get("system") or {}
        if isinstance(own, dict):
            training = {"select_by": "loss", "decode_sentences": 0}
            base = {**raw, "training": {**(raw.get("training") or {}), **training, "warm_start": "none"}}
            system = {"objective": {"name": "bart_janus"}, "data": "monolingual", **own}
            raw["pretraining"] = {**raw["pretraining"], "system": complete_system(system, base)}
    if isinstance(raw.setdefault("em", {}), dict):
        student, teacher = raw["em"].get("student", {}), raw["em"].get("teacher", {})
        raw["em"] = {
            **raw["em"],
            "student": complete_system(
                {"objective": {"name": "vanilla"}, **student} if isinstance(student, dict) else student,
                searches=_em_searches,
            ),
            "teacher": complete_system(
                {"objective": {"name": "autoregressive"}, **teacher} if isinstance(teacher, dict) else teacher,
                base=raw.get("teacher"),
            ),
        }
    return raw


def resolve(raw: dict[str, Any]) -> Config:
    """Validate a raw configuration, every system completed from the top-level model and training sections.

    Raises pydantic.ValidationError.
    """
    return Config.model_validate(complete(raw))


def _default_searches(objective: Mapping[str, Any]) -> dict[str, SearchSection]:
    """The usual searches of an objective's section, which may be invalid."""
    declared = objective_named(objective.get("name"))
    return declared.default_searches(objective) if declared else {}


def _em_searches(objective: Mapping[str, Any]) -> dict[str, SearchSection]:
    """The same of a student of the EM loop."""
    declared = objective_named(objective.get("name"))
    return dict(declared.em_searches) if declared and declared.em_searches else _default_searches(objective)
