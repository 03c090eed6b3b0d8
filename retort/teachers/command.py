"""A program as a teacher: lines on its standard input, lines on its standard output."""

from __future__ import annotations

import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO

from retort.config.external import CommandTeacher
from retort.data.lines import MAX_LINE_BYTES
from retort.data.programs import called, decoded, killed, shown, started
from retort.errors import RetortError
from retort.teachers.base import Answer, Output, Question, Teacher, one_line
from retort.teachers.processes import processor_seconds

WAITING = 1000
"""Lines of a program that streams that are read before they are asked for."""


class Command(Teacher):
    """Runs the program once for each group of lines, or once for all if it streams."""

    def __init__(self, section: CommandTeacher) -> None:
        self.section = section
        self._stream: _Stream | None = None

    def answer(self, questions: Sequence[Question]) -> Iterator[Answer]:
        for start in range(0, len(questions), self.section.lines):
            group = questions[start : start + self.section.lines]
            lines = self._exchange([one_line(question.source) for question in group])
            for question, line in zip(group, lines, strict=True):
                texts = line.split("\t") if self.section.outputs > 1 else [line]
                if len(texts) > self.section.outputs:
                    raise RetortError(
                        f"{self._command}: {len(texts)} outputs, separated by tabs, for {question.source!r}; expected "
                        f"at most the {self.section.outputs} of external_teacher.outputs"
                    )
                yield Answer(question, [Output(one_line(text)) for text in texts])

    def helpers_seconds(self) -> float | None:
        return processor_seconds(self._stream.process.pid) if self._stream else None

    def close(self) -> None:
        if self._stream:
            stream, self._stream = self._stream, None
            stream.close()

    @property
    def _command(self) -> str:
        return f"command {self.section.arguments!r}"

    def _exchange(self, lines: list[str]) -> list[str]:
        if not self.section.streams:
            return self._call(lines)
        self._stream = self._stream or _Stream(self.section, self._command)
        return self._stream.exchange(lines)

    def _call(self, lines: list[str]) -> list[str]:
        late = _too_slow(self._command, len(lines), self.section.timeout)
        answers, errors = called(self.section.arguments, lines, self._command, self.section.timeout, late)
        if len(answers) != len(lines):
            raise RetortError(
                f"{self._command}: {len(answers)} lines out for {len(lines)} lines in; expected one line per source, "
                f"in their order. None of these {len(lines)} is kept; earlier answers are. Correct the program and "
                f"run again. It wrote to standard error: {errors}"
            )
        return answers


class _Stream:
    """A program that stays and answers each line at once."""

    def __init__(self, section: CommandTeacher, command: str) -> None:
        self.section, self.command = section, command
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = started(section.arguments, command, stdin=subprocess.PIPE, stderr=self.errors)
        assert self.process.stdin and self.process.stdout
        self.stdin: IO[bytes] = self.process.stdin
        self.lines: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self.given = self.written = 0
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def exchange(self, lines: list[str]) -> list[str]:
        """As many lines as were given. Raises RetortError if that many do not come, or more came before."""
        self._check_count()
        self.given += len(lines)
        threading.Thread(target=self._write, args=(lines,), daemon=True).start()
        answers: list[str] = []
        end = time.monotonic() + self.section.timeout
        for _ in lines:
            try:
                line = self.lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                killed(self.process)
                raise RetortError(
                    f"{_too_slow(self.command, len(lines), self.section.timeout)} {len(answers)} lines came. A "
                    f"stream must answer each line at once, and flush; otherwise set streams: false"
                ) from None
            if line is None:
                status = self.process.wait()
                raise RetortError(
                    f"{self.command}: ended with status {status} after {len(answers)} of {len(lines)} lines; expected "
                    f"one line per source. None of these is kept; earlier answers are. Standard error: "
                    f"{self._errors()}"
                )
            answers.append(decoded(line, self.command))
        return answers

    def close(self) -> None:
        """End the program. Raises RetortError if it wrote more lines than it was given."""
        with suppress(OSError):
            self.stdin.close()
        with suppress(queue.Empty):
            for _ in range(WAITING):
                if self.lines.get(timeout=min(self.section.timeout, 10)) is None:
                    break
        killed(self.process)
        self.errors.close()
        self._check_count()

    def _check_count(self) -> None:
        if self.written > self.given:
            raise RetortError(
                f"{self.command}: wrote {self.written} lines for {self.given}; expected one line per source, so its "
                f"answers may be shifted. None of these is kept. Correct the program and run again"
            )

    def _write(self, lines: list[str]) -> None:
        try:
            for line in lines:
                self.stdin.write(f"{line}\n".encode())
                self.stdin.flush()
        except (OSError, ValueError):
            return  # the end of its output tells the reader

    def _read(self, stdout: IO[bytes]) -> None:
        while line := stdout.readline(MAX_LINE_BYTES):
            self.written += 1
            self.lines.put(line.removesuffix(b"\n"))
        self.lines.put(None)

    def _errors(self) -> str:
        self.errors.seek(0)
        return shown(self.errors.read())


def open_teacher(section: CommandTeacher, split: str, threads: int, spent: tuple[int, int]) -> Command:
    """The program, which starts with the first question."""
    return Command(section)


def _too_slow(command: str, lines: int, seconds: float) -> str:
    return (
        f"{command}: no answer to {lines} lines within external_teacher.timeout, {seconds:g} seconds. None of these is "
        f"kept; earlier answers are. Raise timeout, or lower external_teacher.lines, after which answers are kept."
    )
