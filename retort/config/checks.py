"""Checks of a configuration across sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retort.config.corpus import Corpus, CorpusSection, TextCorpus, Vocabulary
from retort.config.em import Em, em_iteration, em_student
from retort.config.evaluation import Distillation, Evaluation
from retort.config.external import EXTERNAL, ExternalSection, ExternalTeacher, TableTeacher
from retort.config.model import Model
from retort.config.objectives import names_where
from retort.config.objectives_left_to_right import Autoregressive
from retort.config.objectives_of_two_modes import Bang
from retort.config.problems import Problem, nearest
from retort.config.starts import config_differences, difference_checks, start_checks
from retort.config.systems import PRETRAINED, Pretraining, System

LABELLED = ("raw", "distilled", "interpolated")
"""Data that the teacher's labels are stored for, and whose targets are counted."""


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


def cross_checks(raw: Mapping[str, Any], sections: Sections) -> Iterator[Problem]:
    """Problems that involve several ``sections``; those that are broken themselves are skipped.

    ``raw`` is what the user wrote.
    """
    yield from _name_checks(sections)
    yield from _baseline_checks(sections)
    yield from _teacher_checks(sections)
    yield from _external_checks(sections)
    yield from _source_only_checks(sections)
    yield from _pretraining_checks(sections)
    yield from _exposure_checks(sections)
    yield from _em_checks(sections)
    for path, system in sections.systems.items():
        yield from _vocabulary_checks(path, system, raw=raw, vocabulary=sections.vocabulary)
        yield from _data_checks(path, system, sections)
        yield from _search_checks(path, system, sections)
        yield from _evaluator_checks(path, system, sections.students)
        yield from _length_checks(path, system, sections.teacher)
        yield from _truncation_checks(path, system, sections.model)
        yield from _warm_start_checks(path, system, sections)
        yield from start_checks(path, system, sections.named)


def valid_sections(whole: Mapping[str, Any]) -> Sections:
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
    )


def _valid(model: Any, value: Any) -> Any:
    try:
        return TypeAdapter(model).validate_python(value)
    except ValidationError:
        return None


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
    first = [*([EXTERNAL] if sections.has_external else []), *(["teacher"] if sections.has_teacher else [])]
    systems = [*first, *sections.student_names, *([em_student(1)] if sections.em else [])]
    baseline = sections.evaluation.baseline
    if baseline is not None and baseline not in systems:
        yield Problem("evaluation.baseline", f"no system is named {baseline!r}; {nearest(baseline, systems)}")
    for system, baselines in sections.evaluation.baselines.items():
        where = f"evaluation.baselines.{system}"
        if not baselines:
            yield Problem(where, "names no system; name one, or drop the line")
        for given in (system, baselines) if isinstance(baselines, str) else (system, *baselines):
            name, _, search = given.partition("/")
            if name not in systems:
                yield Problem(where, f"no system is named {name!r}; {nearest(name, systems)}")
            elif search and name in sections.named and search not in sections.named[name].searches:
                hint = nearest(search, sections.named[name].searches)
                yield Problem(where, f"{name} has no search {search!r}; {hint}")


def _teacher_checks(sections: Sections) -> Iterator[Problem]:
    kind = sections.distillation.search.kind if sections.distillation else None
    if kind is not None and kind not in Autoregressive.searches():
        yield Problem("distillation.search.kind", f"an autoregressive teacher cannot use {kind}; use beam or greedy")
    teacher = sections.teacher
    if teacher is None:
        return
    objective = teacher.objective
    if not objective.can_teach:
        able = names_where(lambda o: o.can_teach).replace(" or ", ", or ")
        yield Problem("teacher.objective.name", f"the teacher must be {able}, not {objective.name}")
    elif not objective.left_to_right:
        yield Problem("teacher.objective.nar_ratio", "the teacher decodes from left to right; use 0")
    if isinstance(objective, Bang) and objective.needs_teacher:
        yield Problem("teacher.objective.teacher_weight", "the teacher has no teacher; use 0")
    if teacher.model.family == "gru":
        yield Problem("teacher.model.family", "the teacher must be a Transformer; give the students their own family")
    if teacher.data in ("mixed", "interpolated") or (teacher.data == "distilled" and not sections.has_external):
        yield Problem("teacher.data", f"the teacher makes the {teacher.data} data, so it must learn from raw")
    if teacher.training.warm_start not in ("none", PRETRAINED):
        yield Problem(
            "teacher.training.warm_start", "the teacher cannot start from itself or a student; use none or pretrained"
        )


def _external_checks(sections: Sections) -> Iterator[Problem]:
    """Problems of a run with an external teacher, and of one without a teacher of its own."""
    if isinstance(sections.external, TableTeacher) and sections.external.key == "id":
        for what in _renumbered(sections.corpus):
            message = f"{what}, so that an id is no line number of the source file; use key: source"
            yield Problem("external_teacher.key", message)
    if sections.has_external and sections.distillation is not None and sections.distillation.corpus:
        message = "the external teacher makes the distilled text; remove one of the two"
        yield Problem("distillation.corpus", f"{message}, or give this file as external_teacher: {{kind: table}}")
    for path, system in sections.rivals.items():
        if sections.has_external and system.data == "interpolated":
            message = "no beam of an external teacher is known; use data: distilled, external_teacher.outputs and "
            yield Problem(f"{path}.data", message + "external_teacher.choose: reference")
        if not sections.has_teacher:
            yield from _own_teacher_checks(path, system, sections)
    if sections.em and sections.em.iterations > 1 and not sections.has_teacher:
        yield Problem("em.iterations", f"from iteration 2 on the loop goes on from a teacher of its own; {_PROXY}")
    if not sections.has_teacher and sections.evaluation and sections.evaluation.exposure.systems:
        yield Problem("evaluation.exposure.systems", f"a teacher of this run completes their outputs; {_PROXY}")
    if not (sections.has_teacher or sections.has_external or sections.student_names):
        yield Problem("teacher", "missing; give teacher or external_teacher, or at least one student")


def _renumbered(corpus: CorpusSection | None) -> Iterator[str]:
    """Why the ids of a corpus are not the line numbers of its files."""
    if isinstance(corpus, TextCorpus):
        if corpus.carve is not None:
            yield "corpus.carve numbers each split from 0"
        if len(corpus.train.source) > 1 or corpus.monolingual:
            yield "corpus.train is read from several files"


def _source_only_checks(sections: Sections) -> Iterator[Problem]:
    """Problems of splits without references."""
    unreferenced = sections.corpus.unreferenced if sections.corpus else ()
    held_out = tuple(name for name in unreferenced if name != "train")
    if held_out and not sections.has_external:
        message = "have no target, and no external teacher whose outputs could be their references; give target"
        yield Problem("corpus", f"{', '.join(held_out)} {message}")
    elif held_out and sections.external and not sections.external.answers_splits(held_out):
        yield Problem("external_teacher.held_out", f"{', '.join(held_out)} have no target; name a table for each")
    referenced = ("raw", "references", "mixed", "interpolated")
    for path, system in sections.systems.items() if "train" in unreferenced else ():
        if system.data in referenced and not system.checkpoint and path not in sections.loop:
            yield Problem(f"{path}.data", f"corpus.train has no target for {system.data}; give one, or use distilled")


_PROXY = "give teacher, of which data: distilled makes a copy of the external teacher"
"""What to do where weights or distributions of a teacher are needed."""


def _own_teacher_checks(path: str, system: System, sections: Sections) -> Iterator[Problem]:
    """What a system needs of a teacher whose weights are at hand, where there is none."""
    objective, distils = system.objective, sections.distillation is not None and sections.distillation.corpus
    if objective.needs_teacher or objective.needs_labels:
        what = "labels of each token" if objective.needs_labels else "the distribution of each token"
        yield Problem(f"{path}.objective", f"{objective.name} needs {what}, which only an own teacher gives; {_PROXY}")
    if system.training.warm_start == "teacher_encoder" and not system.checkpoint:
        message = "there is no teacher of this run to start from; use none"
        yield Problem(f"{path}.training.warm_start", f"{message}, or {_PROXY}")
    for name in system.searches:
        if system.asks_teacher(name):
            message = f"a teacher of this run scores its candidates; set rescore: false, or {_PROXY}"
            yield Problem(f"{path}.searches.{name}", message)
    if system.data in ("distilled", "mixed", "interpolated") and not (sections.has_external or distils):
        yield Problem(f"{path}.data", f"nobody makes {system.data} text; give teacher or external_teacher")


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
    if sections.vocabulary is not None and not sections.vocabulary.joint:
        yield Problem("vocabulary.joint", "pretraining has one text for both sides and needs a joint vocabulary")


def _exposure_checks(sections: Sections) -> Iterator[Problem]:
    """Problems of the systems whose exposure bias is to be measured."""
    names = sections.evaluation.exposure.systems if sections.evaluation else []
    left_to_right = [name for name, s in sections.students.items() if "next_token" in s.objective.predicts]
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
    if em.teacher_start == "warm" and em.iterations > 1:
        for key, _, needed in config_differences("previous", em.teacher.model, teacher.model):
            own = getattr(em.teacher.model, key)
            yield Problem(f"em.teacher.model.{key}", f"em.teacher_start warm needs {needed!r}, found {own!r}")
    if em.student.model.max_length < teacher.model.max_length:
        least = f"it scores the teacher's outputs: needs at least the teacher's {teacher.model.max_length} tokens"
        yield Problem("em.student.model.max_length", f"{least}, found {em.student.model.max_length}")
    if em.teacher_start == "cold" and em.iterations > 1 and em.teacher.model.max_length > teacher.model.max_length:
        most = f"the first teacher scores its outputs: at most that one's {teacher.model.max_length} tokens"
        yield Problem("em.teacher.model.max_length", f"{most}, found {em.teacher.model.max_length}")
    for path, system in sections.loop.items():
        if system.checkpoint:
            yield Problem(f"{path}.checkpoint", "the loop trains its systems; remove it")
        if system.data != "raw":
            yield Problem(f"{path}.data", "the loop's systems have its own texts; remove it")
    if em.teacher.seeds:
        yield Problem("em.teacher.seeds", "the loop has the seeds of em.student; remove it")


def _vocabulary_checks(
    path: str, system: System, vocabulary: Vocabulary | None, raw: Mapping[str, Any]
) -> Iterator[Problem]:
    if vocabulary is None or vocabulary.joint or system.model.tied != "all" or system.checkpoint:
        return
    # the problem of a key that systems inherit is reported where it was written
    where = f"{path}.model.tied" if "tied" in _written_section(raw, path, "model") else "model.tied"
    yield Problem(where, '"all" needs vocabulary.joint: true; set tied: output, or make one vocabulary')


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
    for name, search in system.searches.items():
        if search.counted is None or search.counted.texts:
            continue
        own, trained = search.counted.data, system.data in LABELLED and path not in sections.loop
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


def _evaluator_checks(path: str, system: System, students: Mapping[str, System]) -> Iterator[Problem]:
    if system.mixture is None or system.mixture.kind != "selective":
        return
    name, where = system.mixture.evaluator, f"{path}.mixture.evaluator"
    evaluator = students.get(name)
    if evaluator is None:
        yield Problem(where, f"no student is named {name!r}; {nearest(name, students)}")
    elif evaluator.data != "distilled":
        yield Problem(where, f"an evaluator is trained on distilled data, and {name} on {evaluator.data}")
    elif not evaluator.objective.measures_agreement:
        able = names_where(lambda o: o.measures_agreement)
        yield Problem(where, f"{name} has objective {evaluator.objective.name}, which cannot evaluate; {able} can")
    elif evaluator.model.max_length < system.model.max_length:
        most = f"{name} evaluates its text: at most that one's {evaluator.model.max_length} tokens"
        yield Problem(f"{path}.model.max_length", f"{most}, found {system.model.max_length}")


def _length_checks(path: str, system: System, teacher: System | None) -> Iterator[Problem]:
    """A student may be no longer than the teacher that labels its text or scores its outputs."""
    if teacher is None or teacher.checkpoint or system.checkpoint or path == "teacher":
        return
    asks = [f"scores the candidates of {name}" for name in system.searches if system.asks_teacher(name)]
    if system.objective.needs_teacher or system.objective.needs_labels:
        asks.insert(0, "labels its text")
    if asks and teacher.model.max_length < system.model.max_length:
        most = f"the teacher {asks[0]}: at most that one's {teacher.model.max_length} tokens"
        yield Problem(f"{path}.model.max_length", f"{most}, found {system.model.max_length}")


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
    elif kind == PRETRAINED and pretraining is not None and not pretraining.system.checkpoint:
        yield from difference_checks(path, system, pretraining.system, whose="pretraining.system's ")
    elif kind == "teacher_encoder" and path != "teacher" and teacher is not None and not teacher.checkpoint:
        yield from difference_checks(path, system, teacher, whose="the teacher's ")
