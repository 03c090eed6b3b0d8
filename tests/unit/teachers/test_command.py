"""A program as a teacher: one answer per line, whatever it does wrong."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from retort.config.external import CommandTeacher
from retort.data import programs
from retort.errors import RetortError
from retort.teachers.asking import outputs_of
from retort.teachers.base import Question, open_external

BACKWARDS = "import sys\nfor line in sys.stdin:\n    print(line.strip()[::-1], flush=True)\n"
LATE = "import sys\nlines = sys.stdin.readlines()\nprint(*(line.strip()[::-1] for line in lines), sep='\\n')\n"
DROPS = (
    "import sys\nfor line in sys.stdin:\n    if 'lost' not in line:\n        print(line.strip()[::-1], flush=True)\n"
)
QUESTIONS = [Question(i, f"word {i} ä") for i in range(25)]


def command(tmp_path: Path, program: str, **keys: Any) -> CommandTeacher:
    path = tmp_path / "program.py"
    path.write_text(program)
    return CommandTeacher(kind="command", arguments=[sys.executable, str(path)], **keys)


def texts(section: CommandTeacher, questions: list[Question] = QUESTIONS) -> list[list[str]]:
    teacher = open_external(section, "train")
    result = [[output.text for output in answer.outputs] for answer in teacher.answer(questions)]
    teacher.close()
    return result


@pytest.mark.parametrize(("program", "streams"), [(BACKWARDS, True), (BACKWARDS, False), (LATE, False)])
@pytest.mark.parametrize("lines", [1, 7, 1000])
def test_every_line_gets_its_answer(tmp_path: Path, program: str, streams: bool, lines: int) -> None:
    if lines == 1 and not streams:
        pytest.skip("a process per line")
    section = command(tmp_path, program, streams=streams, lines=lines)
    assert texts(section) == [[question.source[::-1]] for question in QUESTIONS]


def test_outputs_are_separated_by_tabs(tmp_path: Path) -> None:
    section = command(tmp_path, "import sys\nfor line in sys.stdin:\n    print('a  b\\tc')\n", outputs=2)
    assert texts(section, QUESTIONS[:1]) == [["a b", "c"]]
    with pytest.raises(RetortError, match="3 outputs, separated by tabs, for 'word 0 ä'"):
        texts(command(tmp_path, "print('a\\tb\\tc')", outputs=2), QUESTIONS[:1])


@pytest.mark.slow
@pytest.mark.parametrize("streams", [True, False])
def test_a_line_too_few_is_an_error_and_earlier_answers_stay(tmp_path: Path, streams: bool) -> None:
    questions = [*QUESTIONS[:10], Question(10, "lost"), *QUESTIONS[11:]]
    section = command(tmp_path, DROPS, streams=streams, lines=4, timeout=1)
    message = "no answer to 4 lines within .*3 lines came" if streams else "3 lines out for 4 lines in"
    with pytest.raises(RetortError, match=message):
        outputs_of(section, questions, split="train", directory=tmp_path / "answers", job="train")
    kept = (tmp_path / "answers/train.jsonl").read_text().splitlines()
    assert len(kept) == 8 and '"word 7 ä"' in kept[-1]
    # the program is corrected: only what is not answered is asked
    section = command(tmp_path, BACKWARDS.replace("import sys", "import sys; log = open(sys.argv[0] + '.log', 'a')"))
    outputs = outputs_of(section, questions, split="train", directory=tmp_path / "answers", job="train")
    assert [outputs[question.id][0].text for question in questions] == [q.source[::-1] for q in questions]
    assert len((tmp_path / "answers/train.jsonl").read_text().splitlines()) == 25


def test_a_line_too_many_is_an_error(tmp_path: Path) -> None:
    twice = "import sys\nfor line in sys.stdin:\n    print(1); print(2, flush=True)\n"
    with pytest.raises(RetortError, match="50 lines out for 25 lines in"):
        texts(command(tmp_path, twice))
    with pytest.raises(RetortError, match="wrote 50 lines for 25; expected one line per source"):
        texts(command(tmp_path, twice, streams=True))


def test_nothing_is_kept_of_a_stream_that_wrote_a_line_too_many(tmp_path: Path) -> None:
    def outputs(section: CommandTeacher, count: int) -> list[str]:
        asked = QUESTIONS[:count]
        found = outputs_of(section, asked, split="train", directory=tmp_path / "answers", job="train")
        return [found[question.id][0].text for question in asked]

    backwards = [question.source[::-1] for question in QUESTIONS]
    assert outputs(command(tmp_path, BACKWARDS, streams=True), 5) == backwards[:5]
    banner = command(tmp_path, f"print('model loaded', flush=True)\n{BACKWARDS}", streams=True)
    with pytest.raises(RetortError, match="wrote 21 lines for 20"):
        outputs(banner, 25)
    # answers of an earlier process stay
    assert len((tmp_path / "answers/train.jsonl").read_text().splitlines()) == 5
    assert outputs(command(tmp_path, BACKWARDS, streams=True), 25) == backwards


def test_a_line_too_many_is_seen_at_the_next_exchange(tmp_path: Path) -> None:
    twice = "import sys\nfor line in sys.stdin:\n    print('1\\n2', flush=True)\n"
    section = command(tmp_path, twice, streams=True, lines=5)
    teacher = open_external(section, "train")
    found = teacher.answer(QUESTIONS)
    for _ in range(5):
        next(found)
    time.sleep(0.3)
    with pytest.raises(RetortError, match=r"wrote \d+ lines for 5"):
        next(found)
    with pytest.raises(RetortError, match=r"wrote \d+ lines for 5"):
        teacher.close()


@pytest.mark.parametrize("streams", [True, False])
def test_a_program_that_fails_is_named_with_what_it_wrote(tmp_path: Path, streams: bool) -> None:
    with pytest.raises(RetortError, match="ended with status 3.*no model here"):
        texts(command(tmp_path, "import sys\nsys.stderr.write('no model here')\nsys.exit(3)\n", streams=streams))
    with pytest.raises(RetortError, match=r"command \['no-such-program'\]: cannot be started"):
        texts(CommandTeacher(kind="command", arguments=["no-such-program"], streams=streams))
    with pytest.raises(RetortError, match="its output is not UTF-8"):
        texts(command(tmp_path, "import sys\nsys.stdout.buffer.write(b'\\xff\\n')\n", streams=streams), QUESTIONS[:1])


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    message = (
        "no answer to 25 lines within external_teacher.timeout, 0.5 seconds. None of these is kept; earlier answers "
        "are. Raise timeout, or lower external_teacher.lines, after which answers are kept."
    )
    with pytest.raises(RetortError, match=message):
        texts(command(tmp_path, "import time\ntime.sleep(60)\n", timeout=0.5))


ENDLESS = {
    "lines": "import os\nwhile True:\n    os.write(1, b'a\\n' * 9999)\n",
    "one line": "import os\nwhile True:\n    os.write(1, b'a' * 9999)\n",
    "errors": "import os\nwhile True:\n    os.write(2, b'a' * 9999)\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
def test_a_program_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(programs, "SPARE_BYTES", 99_999)
    message = "no answer to 25 lines within" if name == "errors" else "more than .* bytes for 25 lines; have it end"
    with pytest.raises(RetortError, match=message):
        texts(command(tmp_path, ENDLESS[name], timeout=1))


def test_a_stream_without_an_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(RetortError, match=r"wrote \d+ lines for"):
        texts(command(tmp_path, ENDLESS["lines"], streams=True))


def test_all_lines_together_have_the_time(tmp_path: Path) -> None:
    slow = "import sys, time\nfor line in sys.stdin:\n    time.sleep(0.2)\n    print(1, flush=True)\n"
    with pytest.raises(RetortError, match="no answer to 25 lines within external_teacher.timeout, 0.5 seconds"):
        texts(command(tmp_path, slow, streams=True, timeout=0.5))


@pytest.mark.parametrize("streams", [True, False])
def test_what_a_late_program_started_ends_with_it(tmp_path: Path, streams: bool) -> None:
    """A shell's child, which would hold its memory until it is done."""
    child = tmp_path / "child"
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(child)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(RetortError, match="no answer"):
        texts(command(tmp_path, program, streams=streams, timeout=2))
    end = time.monotonic() + 10
    while runs(int(child.read_text())):
        assert time.monotonic() < end
        time.sleep(0.05)


def runs(process: int) -> bool:
    """Whether it is there and no zombie that nobody waits for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_there_is_no_shell(tmp_path: Path) -> None:
    section = CommandTeacher(kind="command", arguments=["printf", "%s\\n", "$(touch executed); `id`"])
    assert texts(section, QUESTIONS[:1]) == [["$(touch executed); `id`"]]
