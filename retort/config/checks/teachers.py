"""Checks of the teachers: the own, the external, and of what a run without one of them cannot do."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from retort.config.checks.sections import Sections
from retort.config.corpus import CorpusSection, TextCorpus
from retort.config.external import TableTeacher
from retort.config.objectives import names_where
from retort.config.objectives_left_to_right import Autoregressive
from retort.config.objectives_of_two_modes import Bang
from retort.config.problems import Problem, nearest
from retort.config.systems import PRETRAINED, System

_PROXY = "give teacher, of which data: distilled makes a copy of the external teacher"
"""What to do where weights or distributions of a teacher are needed."""


def teacher_checks(sections: Sections) -> Iterator[Problem]:
    """Problems of the run's own teacher, and of the search that it distils by."""
    kind = sections.distillation.search.kind if sections.distillation else None
    if kind is not None and kind not in Autoregressive.searches():
        yield Problem("distillation.search.kind", f"an autoregressive teacher cannot use {kind}; use beam or greedy")
    teacher = sections.teacher
    if teacher is None:
        return
    objective = teacher.objective
    given = sections.known(teacher) if teacher.checkpoint else None
    if not objective.can_teach:
        able = names_where(lambda o: o.can_teach).replace(" or ", ", or ")
        yield Problem("teacher.objective.name", f"the teacher must be {able}, not {objective.name}")
    elif not objective.left_to_right:
        yield Problem("teacher.objective.nar_ratio", "the teacher decodes from left to right; use 0")
    elif given and not given.objective.learns_left_to_right:
        found = f"{teacher.checkpoint} was trained in parallel alone, and the teacher decodes from left to right"
        yield Problem("teacher.checkpoint", f"{found}; give one with nar_ratio below 1")
    if isinstance(objective, Bang) and objective.teacher_weight:
        yield Problem("teacher.objective.teacher_weight", "the teacher has no teacher; use 0")
    if teacher.model.family == "gru":
        yield Problem("teacher.model.family", "the teacher must be a Transformer; give the students their own family")
    elif given and given.model.family == "gru":
        yield Problem("teacher.checkpoint", f"{teacher.checkpoint} is recurrent; the teacher must be a Transformer")
    if (
        sections.by_ctranslate2
        and objective.can_teach
        and objective.family != Autoregressive.family
        and _decodes(sections)
    ):
        message = (
            f"CTranslate2 decodes autoregressive Transformers, and the teacher is of the {objective.family} family"
        )
        yield Problem("distillation.engine", f"{message}; use auto or torch")
    if teacher.data in ("mixed", "interpolated") or (teacher.data == "distilled" and not sections.has_external):
        yield Problem("teacher.data", f"the teacher makes the {teacher.data} data, so it must learn from raw")
    if teacher.training.warm_start not in ("none", PRETRAINED):
        yield Problem(
            "teacher.training.warm_start", "the teacher cannot start from itself or a student; use none or pretrained"
        )


def _decodes(sections: Sections) -> bool:
    """Whether a system of the run needs text that its own teacher makes."""
    made = sections.has_external or (sections.distillation is not None and sections.distillation.corpus is not None)
    needed = {system.data for system in sections.rivals.values() if not system.checkpoint}
    for system in sections.rivals.values():
        counted = [system.counted_by(name) for name in system.searches]
        needed |= {ngrams.data or system.data for ngrams in counted if ngrams and not ngrams.texts}
    return "interpolated" in needed or (not made and bool(needed & {"distilled", "mixed"}))


def external_checks(sections: Sections) -> Iterator[Problem]:
    """Problems of a run with an external teacher, and of one without a teacher of its own."""
    if isinstance(sections.external, TableTeacher) and sections.external.key == "id":
        for what in _renumbered(sections.corpus, {"train", *sections.external.held_out}):
            message = f"{what}, so that an id is no line number of the source file; use key: source"
            yield Problem("external_teacher.key", message)
    if isinstance(sections.external, TableTeacher) and sections.corpus:
        splits = ("valid", *sections.corpus.test_names)
        for name in (name for name in sections.external.held_out if name not in splits):
            message = f"the corpus has no test set {name}; {nearest(name, splits)}"
            yield Problem(f"external_teacher.held_out.{name}", message)
    if sections.has_external and sections.distillation is not None and sections.distillation.corpus:
        message = "the external teacher makes the distilled text; remove one of the two"
        yield Problem("distillation.corpus", f"{message}, or give this file as external_teacher: {{kind: table}}")
    for path, system in sections.rivals.items():
        if sections.has_external and system.data == "interpolated" and not system.checkpoint:
            message = "no beam of an external teacher is known; use data: distilled, external_teacher.outputs and "
            yield Problem(f"{path}.data", message + "external_teacher.choose: reference")
        if not sections.has_teacher:
            yield from _own_teacher_checks(path, system, sections)
    given = sections.distillation is not None and sections.distillation.corpus is not None
    if sections.em and not (sections.has_teacher or sections.has_external or given):
        message = "nobody makes the text of its first iteration; give teacher, external_teacher or distillation.corpus"
        yield Problem("em", message)
    elif sections.em and sections.em.iterations > 1 and not sections.has_teacher:
        yield Problem("em.iterations", f"from iteration 2 on the loop goes on from a teacher of its own; {_PROXY}")
    if not sections.has_teacher and sections.evaluation and sections.evaluation.exposure.systems:
        yield Problem("evaluation.exposure.systems", f"a teacher of this run completes their outputs; {_PROXY}")
    if not (sections.has_teacher or sections.has_external or sections.student_names):
        yield Problem("teacher", "missing; give teacher or external_teacher, or at least one student")
    if not (sections.has_teacher or sections.student_names or sections.em) and sections.external and sections.corpus:
        tests = sections.corpus.test_names
        if not sections.external.answers_splits(tests):
            message = f"nothing is scored: there is no student, and the teacher has no outputs of {', '.join(tests)}"
            yield Problem("external_teacher.held_out", f"{message}; give students, or a table for each test set")


def _renumbered(corpus: CorpusSection | None, splits: Collection[str]) -> Iterator[str]:
    """Why the ids of these splits of a corpus are not the line numbers of its files."""
    if isinstance(corpus, TextCorpus):
        if corpus.carve is not None:
            yield "corpus.carve numbers each split from 0"
        if corpus.monolingual:
            yield "corpus.train is read from several files"
        for name, pair in {"train": corpus.train, "valid": corpus.valid, **corpus.tests}.items():
            if pair and len(pair.source) > 1 and name in {"train", *splits}:
                yield f"{'corpus.train' if name == 'train' else name} is read from several files"
            for layout in sorted({text.layout for text in pair.source} - {"lines"} if pair and name in splits else ()):
                yield f"{name} has sources in layout {layout}"


def source_only_checks(sections: Sections) -> Iterator[Problem]:
    """Problems of splits without references."""
    unreferenced = sections.corpus.unreferenced if sections.corpus else ()
    held_out = tuple(name for name in unreferenced if name != "train")
    if held_out and not sections.has_external:
        message = "have no target, and no external teacher whose outputs could be their references; give target"
        yield Problem("corpus", f"{', '.join(held_out)} {message}")
    if "train" in unreferenced and sections.external and sections.external.choose == "reference":
        message = "corpus.train has no target, so there is no reference to choose by; use first or mbr"
        yield Problem("external_teacher.choose", message)
    if held_out and sections.external and not sections.external.answers_splits(held_out):
        message = f"{', '.join(held_out)} have no target; name a table for each"
        carved = isinstance(sections.corpus, TextCorpus) and sections.corpus.carve is not None
        yield Problem(
            "external_teacher.held_out", message + (", the same as path where they are carved" if carved else "")
        )
    referenced = ("raw", "references", "mixed", "interpolated")
    for path, system in sections.systems.items() if "train" in unreferenced else ():
        if system.data in referenced and not system.checkpoint and path not in sections.loop:
            first = path == "teacher" and not sections.has_external
            other = "external_teacher, whose outputs it can learn from" if first else "use distilled"
            yield Problem(f"{path}.data", f"corpus.train has no target for {system.data}; give one, or {other}")


def _own_teacher_checks(path: str, system: System, sections: Sections) -> Iterator[Problem]:
    """What a system needs of a teacher whose weights are at hand, where there is none; a given one is not trained."""
    for name in system.searches:
        if system.asks_teacher(name):
            message = (
                f"a teacher of this run scores its candidates; {system.searches[name].without_teacher}, or {_PROXY}"
            )
            yield Problem(f"{path}.searches.{name}", message)
    if system.checkpoint:
        return
    objective, distils = system.objective, sections.distillation is not None and sections.distillation.corpus
    if objective.needs_teacher or objective.needs_labels:
        what = "labels of each token" if objective.needs_labels else "the distribution of each token"
        yield Problem(f"{path}.objective", f"{objective.name} needs {what}, which only an own teacher gives; {_PROXY}")
    if system.training.warm_start == "teacher_encoder":
        message = "there is no teacher of this run to start from; use none"
        yield Problem(f"{path}.training.warm_start", f"{message}, or {_PROXY}")
    if system.data in ("distilled", "mixed", "interpolated") and not (sections.has_external or distils):
        yield Problem(f"{path}.data", f"nobody makes {system.data} text; give teacher or external_teacher")
