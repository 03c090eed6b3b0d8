"""Answers that are kept as they come: none is lost, none is asked twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from retort.config.external import CommandTeacher, TableTeacher
from retort.errors import RetortError
from retort.teachers import asking
from retort.teachers.answers import Answers
from retort.teachers.asking import outputs_of, teacher_facts, translations_part
from retort.teachers.base import Answer, Output, Question

SECTION = CommandTeacher(kind="command", arguments=["none"])


class Fake:
    """Answers in reverse order, and breaks down where it is told to."""

    def __init__(self, breaks_after: int = 10**9) -> None:
        self.asked: list[str] = []
        self.breaks_after = breaks_after

    def answer(self, questions: Sequence[Question]) -> Iterator[Answer]:
        for question in reversed(questions):
            if len(self.asked) == self.breaks_after:
                raise RetortError("broken")
            self.asked.append(question.source)
            yield Answer(question, [Output(question.source.upper(), "stop", -0.5)], requests=2, tokens=7)

    def close(self) -> None:
        pass


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def outputs(teacher: Fake, sources: list[str], job: str = "train"):
        monkeypatch.setattr(asking, "open_external", lambda *_, **__: teacher)
        questions = [Question(i, source) for i, source in enumerate(sources)]
        return outputs_of(SECTION, questions, split="train", directory=tmp_path / "answers", job=job)

    return outputs


def test_equal_sources_are_asked_once_and_answers_go_to_all_jobs(ask) -> None:
    first, second = Fake(), Fake()
    assert [output[0].text for output in ask(first, ["a", "b", "a"]).values()] == ["A", "B", "A"]
    assert ask(second, ["b", "c"], job="other")[0] == [Output("B", "stop", -0.5)]
    assert (first.asked, second.asked) == (["b", "a"], ["c"])


def test_an_interrupted_job_goes_on_where_it_was(ask, tmp_path: Path) -> None:
    sources = [f"s{i}" for i in range(10)]
    with pytest.raises(RetortError, match="broken"):
        ask(Fake(breaks_after=4), sources)
    path = tmp_path / "answers/train.jsonl"
    path.write_bytes(path.read_bytes() + b'{"source": "s1", "outp')  # the kill came while it wrote
    rest = Fake()
    assert len(ask(rest, sources)) == 10
    assert sorted(rest.asked) == [f"s{i}" for i in range(6)]
    assert len(path.read_text().splitlines()) == 10


def test_what_was_spent_is_known(ask, tmp_path: Path) -> None:
    ask(Fake(), ["a", "b"])
    with Answers(tmp_path / "answers", "new", []) as answers:
        assert (answers.requests, answers.tokens, answers.known) == (4, 14, {})


def test_a_damaged_line_is_named(ask, tmp_path: Path) -> None:
    ask(Fake(), ["a", "b"])
    path = tmp_path / "answers/train.jsonl"
    path.write_text(path.read_text().replace('"outputs"', '"output"', 1))
    with pytest.raises(RetortError, match=r"train.jsonl: line 1: not an answer \(KeyError"):
        ask(Fake(), ["a"])


@pytest.mark.parametrize(
    "line",
    [
        "[" * 99_999,
        '{"source": "s", "outputs": [[5]], "requests": 1, "tokens": 1}',
        '{"source": "s", "outputs": [["a", null, "b"]], "requests": 1, "tokens": 1}',
        '{"source": "s", "outputs": [["a", 1, 2, 3]], "requests": 1, "tokens": 1}',
        '{"source": "s", "outputs": [["a"]], "requests": 1e999, "tokens": 1}',
    ],
    ids=lambda line: line[:40],
)
def test_what_is_no_answer_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "other.jsonl").write_text(f"{line}\n")
    with pytest.raises(RetortError, match=r"other.jsonl: line 1: not an answer"):
        Answers(tmp_path, "train", ["s"])


def test_rows_name_the_teacher_and_have_no_tokens() -> None:
    outputs = {3: [Output("x", "length"), Output("")], 1: [Output("y")]}
    rows = translations_part(SECTION, [3, 1], outputs, "train").to_pylist()
    assert [(r["id"], r["rank"], r["text"], r["truncated"], r["empty"], r["ended"]) for r in rows] == [
        (3, 0, "x", True, False, "length"),
        (3, 1, "", False, True, None),
        (1, 0, "y", False, False, None),
    ]
    assert {(r["system"], r["search"], r["tokens"], r["rejected"]) for r in rows} == {
        ("external", "command", None, None)
    }


@pytest.mark.parametrize(
    ("ended", "is_cut"),
    [(None, False), ("stop", False), ("eos_token", False), ("length", True), ("content_filter", True)],
)
def test_an_output_is_whole_only_where_it_ended_by_itself(ended: str | None, is_cut: bool) -> None:
    (row,) = translations_part(SECTION, [0], {0: [Output("x", ended)]}, "train").to_pylist()
    assert (row["truncated"], row["ended"]) == (is_cut, ended)


def test_answers_depend_on_files_and_not_on_how_they_are_asked(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("1")
    first = CommandTeacher(kind="command", arguments=["python", str(program)])
    same = CommandTeacher(kind="command", arguments=["python", str(program)], lines=3, jobs=4, choose="first")
    facts = teacher_facts(first, ["train"])
    assert facts == teacher_facts(same, ["train"])
    program.write_text("2")
    assert teacher_facts(first, ["train"])["files"] != facts["files"] and first.files == {"arguments[1]": str(program)}
    assert teacher_facts(first.model_copy(update={"outputs": 2}), ["train"]) != teacher_facts(first, ["train"])
    (tmp_path / "train.tsv").write_text("a\tb\n")
    files = {"path": str(tmp_path / "train.tsv"), "held_out.t": str(tmp_path / "none.tsv")}
    table = TableTeacher(kind="table", path=files["path"], held_out={"t": files["held_out.t"]})
    assert table.files == files
    assert set(teacher_facts(table, ["train"])["files"]) == {"path"}, "a table of a test is not even read"
