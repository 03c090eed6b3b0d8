"""Asking an external teacher about the sources of corpus tables; the outputs are a translations table."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from retort.config.external import EXTERNAL, ExternalSection
from retort.data.provenance import file_digest, value_digest
from retort.data.runs import Run
from retort.data.tables import TRANSLATIONS
from retort.errors import RetortError
from retort.teachers.answers import Answers
from retort.teachers.base import WHOLE, Output, Question, Teacher, one_line, open_external

log = logging.getLogger(__name__)

SEED = 0
"""Seed of an external teacher in tables; it has none."""
LOGGED = 1000
"""Answers between messages."""


def teacher_facts(section: ExternalSection, splits: Collection[str]) -> dict[str, Any]:
    """What an external teacher's answers to these splits depend on, besides the code: its settings and the files it
    reads."""
    files = section.files_about(splits)
    return {
        "asked": section.asked_about(splits),
        "files": {key: path_digest(Path(path)) for key, path in files.items()},
    }


def path_digest(path: Path) -> str:
    """SHA-256 in hex of a file, or of the names and contents of the files of a directory."""
    if not path.is_dir():
        return file_digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return value_digest([[file.relative_to(path).as_posix(), file_digest(file)] for file in files])


def outputs_of(
    section: ExternalSection, questions: Sequence[Question], *, split: str, directory: Path, job: str, threads: int = 1
) -> dict[int, list[Output]]:
    """The outputs of every question by its id, the best one first; each distinct source is asked once, ever,
    or once by each of several jobs that run at the same time.

    ``directory`` holds the answers that earlier jobs with the same teacher and settings got, ``job`` names the file for
    those of this one. Raises RetortError when the teacher cannot go on; answers up to then are kept. Those of a
    teacher that fails when it is closed are not: see ``Teacher.close``.
    """
    # as the teacher reads it
    questions = [Question(question.id, one_line(question.source)) for question in questions]
    distinct = {question.source: question for question in questions}
    with Answers(directory, job, distinct) as answers:
        waiting = [question for source, question in distinct.items() if source not in answers.known]
        log.info("%d sources, %d of them answered before", len(distinct), len(distinct) - len(waiting))
        if waiting:
            teacher = open_external(section, split, threads=threads, spent=(answers.requests, answers.tokens))
            _ask(teacher, waiting, answers)
        return {question.id: answers.known[question.source] for question in questions}


def ready_outputs(teacher: Teacher, questions: Sequence[Question]) -> dict[int, list[Output]]:
    """The outputs of every question by its id, of a teacher that need not remember them.

    Raises RetortError where it has none.
    """
    return {answer.question.id: _checked(answer.outputs, answer.question) for answer in teacher.answer(questions)}


def _ask(teacher: Teacher, waiting: Sequence[Question], answers: Answers) -> None:
    try:
        for number, answer in enumerate(teacher.answer(waiting), start=1):
            answers.add(answer._replace(outputs=_checked(answer.outputs, answer.question)))
            if number % LOGGED == 0:
                log.info("%d of %d sources", number, len(waiting))
    except BaseException:
        try:
            _close(teacher, answers)
        except RetortError as error:
            log.warning("%s", error)
        raise
    _close(teacher, answers)


def _close(teacher: Teacher, answers: Answers) -> None:
    try:
        teacher.close()
    except RetortError:
        answers.drop_added()
        raise


def _checked(outputs: list[Output], question: Question) -> list[Output]:
    if not outputs:
        raise RetortError(f"external teacher: no output for source {question.id}, {question.source!r}; expected one")
    return outputs


def translations_part(
    section: ExternalSection, ids: Iterable[int], outputs: dict[int, list[Output]], test_set: str
) -> pa.Table:
    """TRANSLATIONS rows of the outputs of these ids, in their order; without tokens, which only students have."""
    run = Run(EXTERNAL, SEED, section.kind)
    return TRANSLATIONS.of_rows(
        {
            **vars(run),
            "id": i,
            "test_set": test_set,
            "rank": rank,
            "text": output.text,
            "score": output.score,
            "truncated": output.ended not in WHOLE,
            "empty": not output.text,
            "passes": 0,
            "ended": output.ended,
        }
        for i in ids
        for rank, output in enumerate(outputs[i])
    )
