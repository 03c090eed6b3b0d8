"""What every external teacher does: it answers questions, as many at once and in whatever order it likes."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from retort.config.external import ExternalSection
from retort.errors import RetortError

STOP, LENGTH = "stop", "length"
"""Why an output ended: by itself, or at the length limit."""
WHOLE = (None, STOP, "eos_token")
"""Ends of whole outputs; versions of Text Generation Inference before 2.3 name theirs eos_token."""


class Question(NamedTuple):
    """A source, and its id in its split."""

    id: int
    source: str


class Output(NamedTuple):
    """One output of a source."""

    text: str
    """On one line, stripped."""
    ended: str | None = None
    """Why it ended, as the teacher says; None: not known."""
    score: float = 0.0
    """The teacher's own score, higher is better; 0 where it has none."""


class Answer(NamedTuple):
    """The outputs of one question, the best one first, and what they cost."""

    question: Question
    outputs: list[Output]
    requests: int = 0
    tokens: int = 0


class Teacher(ABC):
    """An external teacher that is ready."""

    @abstractmethod
    def answer(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """Answers as they come, in any order; each question gets one. Raises RetortError when it cannot go on; what
        was answered before is valid."""

    def helpers_seconds(self) -> float | None:
        """Time on processors so far of other processes that work for it; None where it is not known."""
        return 0.0

    def close(self) -> None:  # noqa: B027
        """Free what it holds, if anything. Raises RetortError where its answers turn out to be wrong, all since it was
        opened."""


def open_external(section: ExternalSection, split: str, threads: int = 1, spent: tuple[int, int] = (0, 0)) -> Teacher:
    """The external teacher of a configuration, for the sources of a split (train, valid or a test set's name).

    ``spent``: requests and tokens that earlier jobs spent on it. Raises RetortError if it cannot be used.
    """
    module: Any = import_module(teacher_module(section))
    return module.open_teacher(section, split, threads, spent)  # type: ignore[no-any-return]


def secret_of(section: ExternalSection) -> str | None:
    """The secret that an external teacher is asked with, if it needs one; raises RetortError if the environment lacks
    it, or holds what cannot be one."""
    if section.secret is None:
        return None
    secret, where = os.environ.get(section.secret, "").strip(), "external_teacher.key_variable"
    if not secret:
        raise RetortError(f"{where}: the environment has no {section.secret}; export the key in it")
    if not secret.isascii() or not secret.isprintable():
        raise RetortError(f"{where}: {section.secret} holds what cannot be a key")
    return secret


def teacher_module(section: ExternalSection) -> str:
    """Module of an external teacher."""
    return f"retort.teachers.{section.kind}"


def one_line(text: str) -> str:
    """The text on one line: runs of white space are single spaces, and half a surrogate pair is U+FFFD."""
    if not text.isascii():
        # JSON may hold halves, and pairs as two halves
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return " ".join(text.split())
