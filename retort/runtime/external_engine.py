"""An external teacher as something to time: text to text, whatever runs it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from retort.data.vocabulary import Vocabulary
from retort.teachers.base import Question, Teacher


@dataclass
class ExternalSystem:
    """An external teacher that is ready, and the vocabulary that its tokens are counted with: the students'."""

    teacher: Teacher
    vocabulary: Vocabulary
    engine: str
    """What runs it: its kind, such as command."""
    precision: str = "its own"
    has_shortlist: bool = False

    def translate(self, texts: Sequence[str]) -> tuple[list[str], float, float]:
        """The first output of each text, and the seconds that they took by the clock and on processors. Where those of
        processors are not known, as with a server, the clock's count."""
        questions = [*map(Question, range(len(texts)), texts)]
        before, start, own_start = self.teacher.helpers_seconds(), time.perf_counter(), time.process_time()
        outputs = {answer.question.id: answer.outputs for answer in self.teacher.answer(questions)}
        seconds, own = time.perf_counter() - start, time.process_time() - own_start
        after = self.teacher.helpers_seconds()
        processor = seconds if before is None or after is None else own + after - before
        return [outputs[i][0].text for i in range(len(texts))], seconds, processor
