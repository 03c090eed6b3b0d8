"""Checks of each system against the sections that it depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from retort.config.checks.sections import Sections
from retort.config.model import Model
from retort.config.objectives import names_where
from retort.config.problems import Problem, nearest
from retort.config.search import MAX_NGRAM_VOCABULARY
from retort.config.starts import difference_checks, start_checks
from retort.config.systems import PRETRAINED, System

LABELLED = ("raw", "distilled", "interpolated")
"""Data that the teacher's labels are stored for, and whose targets are counted."""


def system_checks(raw: Mapping[str, Any], sections: Sections) -> Iterator[Problem]:
    """Problems of single systems; ``raw`` is what the user wrote."""
    for path, system in sections.systems.items():
        yield from _vocabulary_checks(path, system, raw=raw, sections=sections)
        yield from _data_checks(path, system, sections)
        yield from _search_checks(path, system, sections)
        yield from _size_checks(path, system, sections)
        yield from _evaluator_checks(path, system, sections)
        yield from _length_checks(path, system, sections)
        yield from _truncation_checks(path, system, sections.model)
        yield from _warm_start_checks(path, system, sections)
        yield from start_checks(path, system, sections.named, sections.known)


def _vocabulary_checks(path: str, system: System, sections: Sections, raw: Mapping[str, Any]) -> Iterator[Problem]:
    if sections.joint is not False or system.model.tied != "all" or system.checkpoint:
        return
    # the problem of a key that systems inherit is reported where it was written
    where = f"{path}.model.tied" if "tied" in _written_section(raw, path, "model") else "model.tied"
    given = sections.vocabulary and sections.vocabulary.path
    joint = f"one model for both sides, and those in {given} differ" if given else "vocabulary.joint: true"
    yield Problem(where, f'"all" needs {joint}; set tied: output, or make one vocabulary')


def _written_section(raw: Mapping[str, Any], path: str, section: str) -> Mapping[str, Any]:
    """What the user wrote in this section of the system at ``path``."""
    system: Any = raw
    for key in [*path.split(".", 1), section]:
        system = system.get(key) if isinstance(system, dict) else None
    return system if isinstance(system, dict) else {}


def _data_checks(path: str, system: System, sections: Sections) -> Iterator[Problem]:
    where, distillation = f"{path}.data", sections.distillation
    if system.data in ("em", "selected"):
        yield Problem(where, f"{system.data} is made by the EM loop; use raw or distilled")
    if system.data == "references" and not (sections.em and sections.em.iterations):
        yield Problem(where, "references leaves out the pairs that an EM loop holds out, and none runs; use raw")
    if system.data == "monolingual":
        yield Problem(where, "monolingual text has no translations; use raw or distilled")
    if system.data == "interpolated" and distillation is not None and distillation.search.kind != "beam":
        yield Problem(where, f"interpolated needs distillation.search.kind beam, not {distillation.search.kind}")
    if system.objective.needs_labels and system.data not in LABELLED:
        yield Problem(where, f"no labels are stored for {system.data} text; use {' or '.join(LABELLED)}")


def _search_checks(path: str, system: System, sections: Sections) -> Iterator[Problem]:
    first = next(iter(system.searches.items()), None)
    if first and not first[1].can_validate:
        where = f"{path}.searches.{first[0]}"
        message = "the first search validates the training, where there is no teacher and no table of n-grams"
        yield Problem(where, f"{message}; put another one first")
    for name in system.searches:
        counted = system.counted_by(name)
        if counted is None or counted.texts:
            continue
        own, trained = counted.data, system.data in LABELLED and path not in sections.loop
        if trained and not own and not system.checkpoint:
            continue  # a training on it has been checked
        if lack := _lack_of_text(own or (system.data if trained else "raw"), sections):
            yield Problem(f"{path}.searches.{name}.ngrams.data", f"{lack}; count another text, or give ngrams.texts")


def _lack_of_text(data: str, sections: Sections) -> str:
    """Why there are no targets of this kind; empty if there are."""
    distillation, unreferenced = sections.distillation, sections.corpus.unreferenced if sections.corpus else ()
    if "train" in unreferenced and data != "distilled":
        return f"corpus.train has no target for {data}"
    if data == "interpolated":
        if not sections.has_teacher or sections.has_external:
            return "only the beam of a run's own teacher makes interpolated text"
        if distillation is not None and distillation.search.kind != "beam":
            return f"interpolated needs distillation.search.kind beam, not {distillation.search.kind}"
    given = distillation is not None and distillation.corpus
    if data == "distilled" and not (sections.has_teacher or sections.has_external or given):
        return "nobody makes distilled text, as there is no teacher"
    return ""


def _size_checks(path: str, system: System, sections: Sections) -> Iterator[Problem]:
    """Problems of what a system makes of a vocabulary that is learned, and so has the size that is asked for."""
    if (vocabulary := sections.vocabulary) is None or vocabulary.path:
        return
    top_k, size = system.objective.stored_top_k, vocabulary.size
    if top_k is not None and top_k > size and not system.checkpoint:
        message = f"{top_k:,} tokens per position are more than the vocabulary has (vocabulary.size {size:,}); lower it"
        yield Problem(f"{path}.objective.top_k", message)
    for name in system.searches:
        if size > MAX_NGRAM_VOCABULARY and system.counted_by(name):
            most = f"n-grams have at most {MAX_NGRAM_VOCABULARY:,} different tokens, and vocabulary.size is {size:,}"
            yield Problem(f"{path}.searches.{name}", f"{most}; lower it, or set lm_weight to 0")


def _evaluator_checks(path: str, system: System, sections: Sections) -> Iterator[Problem]:
    if system.mixture is None or system.mixture.kind != "selective":
        return
    name, where = system.mixture.evaluator, f"{path}.mixture.evaluator"
    evaluator = sections.students.get(name)
    if evaluator is None:
        yield Problem(where, f"no student is named {name!r}; {nearest(name, sections.students)}")
    elif evaluator.data != "distilled":
        yield Problem(where, f"an evaluator is trained on distilled data, and {name} on {evaluator.data}")
    elif not evaluator.objective.measures_agreement:
        able = names_where(lambda o: o.measures_agreement)
        yield Problem(where, f"{name} has objective {evaluator.objective.name}, which cannot evaluate; {able} can")
    elif (known := sections.known(evaluator)) and known.model.max_length < system.model.max_length:
        most = f"{name} evaluates its text: at most that one's {known.model.max_length} tokens"
        yield Problem(f"{path}.model.max_length", f"{most}, found {system.model.max_length}")


def _length_checks(path: str, system: System, sections: Sections) -> Iterator[Problem]:
    """A student may be no longer than the teacher that labels its text or scores its outputs."""
    teacher, student = sections.teacher and sections.known(sections.teacher), sections.known(system)
    if teacher is None or student is None or path == "teacher":
        return
    asks = [f"scores the candidates of {name}" for name in system.searches if system.asks_teacher(name)]
    if not system.checkpoint and (system.objective.needs_teacher or system.objective.needs_labels):
        asks.insert(0, "labels its text")
    if asks and teacher.model.max_length < student.model.max_length:
        most = f"the teacher {asks[0]}: at most that one's {teacher.model.max_length} tokens"
        where = f"{path}.checkpoint" if system.checkpoint else f"{path}.model.max_length"
        yield Problem(where, f"{most}, found {student.model.max_length}")


def _truncation_checks(path: str, system: System, shared: Model | None) -> Iterator[Problem]:
    """Encoded sources are cut once, for all systems."""
    if shared is None or system.checkpoint:
        return
    for key in ("truncate_sources", "max_length") if shared.truncate_sources else ("truncate_sources",):
        own, needed = getattr(system.model, key), getattr(shared, key)
        if own != needed:
            cut = "sources are cut for all systems alike" if shared.truncate_sources else "sources are not cut"
            yield Problem(f"{path}.model.{key}", f"{cut}: needs model.{key}, which is {needed!r}, found {own!r}")


def _warm_start_checks(path: str, system: System, sections: Sections) -> Iterator[Problem]:
    """Problems of a system that starts from part of the teacher's weights, of the pre-trained ones, or in the loop."""
    kind, where = system.training.warm_start, f"{path}.training.warm_start"
    if kind == "previous":
        yield Problem(where, "set em.student_start: warm or em.teacher_start: warm instead")
    if system.checkpoint:
        return
    pretraining, teacher = sections.pretraining, sections.teacher
    if kind == PRETRAINED and pretraining is None:
        yield Problem(where, "there is no pretraining section to start from")
    elif kind == PRETRAINED and pretraining is not None and (start := sections.known(pretraining.system)):
        yield from difference_checks(path, system, start, whose="pretraining.system's ")
    elif kind == "teacher_encoder" and path != "teacher" and teacher is not None and (start := sections.known(teacher)):
        yield from difference_checks(path, system, start, whose="the teacher's ")
