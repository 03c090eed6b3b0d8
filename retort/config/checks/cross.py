"""Checks of a configuration across sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from retort.config.checks.sections import Sections
from retort.config.checks.systems import system_checks
from retort.config.checks.teachers import external_checks, source_only_checks, teacher_checks
from retort.config.em import Em, em_iteration, em_student
from retort.config.external import EXTERNAL
from retort.config.objectives import names_where
from retort.config.objectives_left_to_right import Autoregressive
from retort.config.problems import Problem, nearest
from retort.config.starts import config_differences
from retort.config.systems import PRETRAINED, System


def cross_checks(raw: Mapping[str, Any], sections: Sections) -> Iterator[Problem]:
    """Problems that involve several ``sections``; those that are broken themselves are skipped.

    ``raw`` is what the user wrote.
    """
    yield from _name_checks(sections)
    yield from _baseline_checks(sections)
    yield from teacher_checks(sections)
    yield from external_checks(sections)
    yield from source_only_checks(sections)
    yield from _pretraining_checks(sections)
    yield from _exposure_checks(sections)
    yield from _em_checks(sections)
    yield from system_checks(raw, sections)


def _name_checks(sections: Sections) -> Iterator[Problem]:
    for name in sections.student_names:
        if name == "teacher":
            yield Problem(f"students.{name}", "this name is the teacher's; choose another one")
        elif name == EXTERNAL:
            yield Problem(f"students.{name}", "this name is the external teacher's; choose another one")
        elif name == PRETRAINED:
            yield Problem(f"students.{name}", "this name is pretraining's; choose another one")
        elif em_iteration(name):
            yield Problem(f"students.{name}", "this name is one of the EM loop's; choose another one")


def _baseline_checks(sections: Sections) -> Iterator[Problem]:
    if sections.evaluation is None:
        return
    systems = _compared_systems(sections)
    baseline = sections.evaluation.baseline
    if baseline is not None and baseline not in systems:
        yield Problem("evaluation.baseline", _why_not_compared(baseline, sections, systems))
    for system, baselines in sections.evaluation.baselines.items():
        where = f"evaluation.baselines.{system}"
        if not baselines:
            yield Problem(where, "names no system; name one, or drop the line")
        if system == EXTERNAL and EXTERNAL in systems:
            yield Problem(
                where, "the external teacher is compared with evaluation.baseline alone; name the system there"
            )
        for given in (system, baselines) if isinstance(baselines, str) else (system, *baselines):
            name, _, search = given.partition("/")
            if name not in systems:
                yield Problem(where, _why_not_compared(name, sections, systems))
            elif search and (searches := systems[name]) is not None and search not in searches:
                yield Problem(where, f"{name} has no search {search!r}; {nearest(search, searches)}")


def _compared_systems(sections: Sections) -> dict[str, list[str] | None]:
    """The systems that can be baselines, with the names of their searches; None where these are not known."""
    external, corpus, known = sections.external, sections.corpus, sections.named
    scored = sections.has_external and not (external and corpus and not external.answers_splits(corpus.test_names))
    names = [*([EXTERNAL] if scored else []), *(["teacher"] if sections.has_teacher else []), *sections.student_names]
    systems = {name: list(known[name].searches) if name in known else None for name in names}
    if external and scored:
        systems[EXTERNAL] = [external.kind]
    if sections.em:
        systems[em_student(1)] = list(sections.em.student.searches)
    return systems


def _why_not_compared(name: str, sections: Sections, systems: Iterable[str]) -> str:
    """Why there is no baseline of this name, and which could be meant."""
    if name == EXTERNAL and sections.has_external:
        return "the external teacher has no outputs of all test sets; give them as external_teacher.held_out"
    if sections.em and 1 < em_iteration(name) <= sections.em.iterations:
        return f"the EM loop may end before {name}, so that nothing can be said of it here; name {em_student(1)}"
    return f"no system is named {name!r}; {nearest(name, systems)}"


def _pretraining_checks(sections: Sections) -> Iterator[Problem]:
    for path, system in sections.systems.items():
        if system.objective.pretrains:
            message = f"{system.objective.name} is for pretraining.system; use {system.objective.pretrains}"
            yield Problem(f"{path}.objective.name", message)
    pretraining = sections.pretraining
    if pretraining is None:
        return
    system = pretraining.system
    if not system.objective.pretrains:
        known = names_where(lambda o: o.pretrains)
        yield Problem("pretraining.system.objective.name", f"pre-training is by {known}, not {system.objective.name}")
    if system.data != "monolingual":
        yield Problem("pretraining.system.data", f"pre-training is on monolingual text; leave out {system.data}")
    if system.training.warm_start != "none":
        yield Problem("pretraining.system.training.warm_start", "pre-training starts from nothing; use none")
    if system.model.max_length <= pretraining.block_tokens:
        least = pretraining.block_tokens + 1
        yield Problem("pretraining.block_tokens", f"blocks with eos need model.max_length of {least} or more")
    if sections.joint is False:
        key = "path" if sections.vocabulary and sections.vocabulary.path else "joint"
        yield Problem(f"vocabulary.{key}", "pretraining has one text for both sides and needs a joint vocabulary")


def _exposure_checks(sections: Sections) -> Iterator[Problem]:
    """Problems of the systems whose exposure bias is to be measured."""
    names = sections.evaluation.exposure.systems if sections.evaluation else []
    left_to_right = [name for name, s in sections.students.items() if s.objective.learns_left_to_right]
    for name in names:
        if name not in left_to_right:
            hint = nearest(name, left_to_right)
            yield Problem("evaluation.exposure.systems", f"no student that decodes left to right is {name!r}; {hint}")
    if len(set(names)) < len(names):
        yield Problem("evaluation.exposure.systems", f"{names} repeats a name; give each once")


def _em_checks(sections: Sections) -> Iterator[Problem]:
    em, teacher = sections.em, sections.teacher
    if em is None or teacher is None:
        return
    if not isinstance(teacher.objective, Autoregressive):
        yield Problem("teacher.objective.name", f"the EM loop needs autoregressive, not {teacher.objective.name}")
    if em.teacher.model.family == "gru" != teacher.model.family:
        yield Problem("em.teacher.model.family", "the loop's autoregressive models must be Transformers")
    if em.teacher_start == "warm" and em.iterations > 1 and (first := sections.known(teacher)):
        whose = f"{teacher.checkpoint}'s " if teacher.checkpoint else ""
        for key, _, needed in config_differences("previous", em.teacher.model, first.model):
            own = getattr(em.teacher.model, key)
            yield Problem(f"em.teacher.model.{key}", f"em.teacher_start warm needs {whose}{needed!r}, found {own!r}")
    if sections.by_ctranslate2 and em.iterations > 1 and em.precision == "float32" and em.candidates == 1:
        message = "distillation.engine ctranslate2 has beams of two and more, found 1; raise it, or set engine to auto"
        yield Problem("em.candidates", message)
    yield from _em_length_checks(em, teacher)
    for path, system in sections.loop.items():
        if system.checkpoint:
            yield Problem(f"{path}.checkpoint", "the loop trains its systems; remove it")
        if system.data != "raw":
            yield Problem(f"{path}.data", "the loop's systems have its own texts; remove it")
    if em.teacher.seeds:
        yield Problem("em.teacher.seeds", "the loop has the seeds of em.student; remove it")


def _em_length_checks(em: Em, teacher: System) -> Iterator[Problem]:
    """Outputs that the loop's models cannot score. With a given teacher they are chosen last."""
    if teacher.checkpoint:
        return
    if em.student.model.max_length < teacher.model.max_length:
        least = f"it scores the teacher's outputs: needs at least the teacher's {teacher.model.max_length} tokens"
        yield Problem("em.student.model.max_length", f"{least}, found {em.student.model.max_length}")
    if em.teacher_start == "cold" and em.iterations > 1 and em.teacher.model.max_length > teacher.model.max_length:
        most = f"the first teacher scores its outputs: at most that one's {teacher.model.max_length} tokens"
        yield Problem("em.teacher.model.max_length", f"{most}, found {em.teacher.model.max_length}")
