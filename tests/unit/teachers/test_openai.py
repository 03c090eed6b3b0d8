"""An endpoint like OpenAI's with faults: every row is answered once, and the key appears nowhere."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from retort.config.external import OpenAITeacher
from retort.data.parquet import read_table, write_table
from retort.data.references import corpus_table
from retort.data.tables import CORPUS, TRANSLATIONS
from retort.errors import RetortError
from retort.teachers import openai
from retort.teachers.asking import outputs_of
from retort.teachers.base import Question, open_external
from tests.unit.teachers.fakes_openai import Server

ROOT = Path(__file__).resolve().parents[3]
KEY = "sk-secret-0123456789"
QUESTIONS = [Question(i, f"word {i}") for i in range(12)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback without a proxy, and short waits."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(openai, "LONGEST_WAIT", 0.02)
    monkeypatch.setenv("TEACHER_KEY", KEY)


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Server] = []

    def start(*faults: str) -> Server:
        server = Server(list(faults))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def section(url: str, **keys: Any) -> OpenAITeacher:
    whole = {"model": "m", "prompt": "Translate: {source}", "timeout": 2.0, "key_variable": "TEACHER_KEY", **keys}
    return OpenAITeacher(kind="openai", base_url=url, **whole)


def texts(teacher: OpenAITeacher, questions: list[Question] = QUESTIONS) -> dict[int, list[str]]:
    found = open_external(teacher, "train").answer(questions)
    return {answer.question.id: [output.text for output in answer.outputs] for answer in found}


EXPECTED = {question.id: [question.source[::-1]] for question in QUESTIONS}


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults", [["busy", "broken", "late", "cut", "malformed", "longer"], ["deep", "endless", "reasons"]]
)
def test_every_fault_is_tried_again(serve: Any, faults: list[str]) -> None:
    server = serve(*faults)
    assert texts(section(server.url)) == EXPECTED
    assert Counter(server.answered) == Counter(question.source for question in QUESTIONS)
    assert set(server.attempts.values()) == {len(faults) + 1}


def test_tokens_of_refused_answers_are_spent(serve: Any) -> None:
    server = serve(*["longer"] * 9)
    with pytest.raises(RetortError, match="30 of external_teacher.max_total_tokens 25 are spent"):
        texts(section(server.url, max_total_tokens=25, retries=9), QUESTIONS[:1])
    assert sum(server.attempts.values()) == 3


def test_an_address_may_have_other_letters_and_no_variables(serve: Any) -> None:
    assert texts(section(f"{serve().url}/v\u00e9"), QUESTIONS[:1]) == {QUESTIONS[0].id: EXPECTED[QUESTIONS[0].id]}
    with pytest.raises(ValidationError, match="has no variables"):
        section("https://${HOST}/v1")


def test_half_a_surrogate_pair_is_replaced(serve: Any) -> None:
    assert texts(section(serve("half").url), QUESTIONS[:1]) == {QUESTIONS[0].id: ["half \ufffd"]}


@pytest.mark.parametrize("url", ["http://a..b/v1", f"http://{'a' * 99}.b/v1"])
def test_what_is_no_address_is_named(url: str) -> None:
    with pytest.raises(ValidationError, match="cannot be read; expected https://host/path"):
        section(url)


def test_the_request_is_what_the_configuration_says(serve: Any) -> None:
    server = serve()
    teacher = section(server.url + "/", system="You {translate}.", outputs=2, temperature=0.5, max_tokens=9)
    assert texts(teacher, [Question(0, "a {b} ä")]) == {0: ["ä }b{ a", "ä }b{ a 1"]}
    assert server.bodies == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "You {translate}."},
                {"role": "user", "content": "Translate: a {b} ä"},
            ],
            "temperature": 0.5,
            "max_tokens": 9,
            "n": 2,
        }
    ]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    texts(section(server.url, key_variable=None), QUESTIONS[:1])
    assert "Authorization" not in server.headers[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unauthorised", "status 401: wrong key: Bearer <key>; the key in TEACHER_KEY is not accepted"),
        ("unknown", "status 404: no such model; correct base_url, or the model 'm'"),
        ("elsewhere", "status 307"),
        ("broken", "no answer after 3 requests; the last one: status 500: oops"),
    ],
)
def test_what_cannot_go_on_is_one_error_without_the_key(
    serve: Any, fault: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RetortError) as error:
        texts(section(serve(*[fault] * 20).url, retries=2))
    assert message in str(error.value) and KEY not in str(error.value) + caplog.text


def test_a_source_that_is_refused_is_named(serve: Any) -> None:
    server = serve("filtered")
    message = "source 3, 'word 3': status 400: content filter; correct what it names, or leave this source out of"
    with pytest.raises(RetortError, match=rf"^{server.url}/chat/completions: {message}"):
        texts(section(server.url), QUESTIONS[3:4])


def test_answers_in_flight_are_kept_when_one_request_fails(serve: Any, tmp_path: Path) -> None:
    server = serve()
    ask: dict[str, Any] = {"split": "train", "directory": tmp_path, "job": "train"}
    teacher = section(server.url, max_requests=5, concurrency=3)
    with pytest.raises(RetortError, match="5 of external_teacher.max_requests 5 are spent; answers so far are kept"):
        outputs_of(teacher, QUESTIONS, **ask)
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == len(server.answered) == 5
    # the ceiling is that of all jobs
    with pytest.raises(RetortError, match="5 of external_teacher.max_requests 5"):
        outputs_of(teacher, QUESTIONS, **ask)
    with pytest.raises(RetortError, match="max_total_tokens 70"):
        outputs_of(section(server.url, max_total_tokens=70, concurrency=1), QUESTIONS, **ask)
    outputs = outputs_of(section(server.url), QUESTIONS, **ask)
    assert {i: [o.text for o in outputs[i]] for i in outputs} == EXPECTED
    assert Counter(server.answered) == Counter(question.source for question in QUESTIONS)
    assert KEY not in (tmp_path / "train.jsonl").read_text()


def test_nobody_there_and_no_key(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    url = server.url
    server.server_close()
    with pytest.raises(RetortError, match="no answer after 2 requests; the last one: URLError"):
        texts(section(url, retries=1), QUESTIONS[:1])
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(RetortError, match="the environment has no TEACHER_KEY; export the key in it"):
        texts(section(url))


def test_retry_after_is_seconds_or_a_date() -> None:
    assert openai._retry_after("3") == 3
    assert openai._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert openai._retry_after("soon") is openai._retry_after(None) is openai._retry_after("nan") is None


@pytest.mark.slow
def test_a_job_that_is_killed_goes_on_and_pays_no_row_twice(tmp_path: Path) -> None:
    fake = ROOT / "tests/unit/teachers/fakes_openai.py"
    port, log = tmp_path / "url", tmp_path / "log"
    server = subprocess.Popen([sys.executable, str(fake), str(port), str(log)])
    try:
        while not (port.exists() and port.read_text()):
            time.sleep(0.05)
        sources = [f"word {i % 40}" for i in range(45)]
        corpus = corpus_table(range(45), sources, [["x"]] * 45)
        write_table(tmp_path / "train.parquet", CORPUS, corpus)
        teacher = section(port.read_text(), concurrency=4, retries=9).model_dump(mode="json")
        command = [
            sys.executable,
            "-c",
            PATIENCE.format(ROOT),
            "--teacher",
            json.dumps(teacher),
        ]
        command += ["--corpora", str(tmp_path / "train.parquet"), "--answers", str(tmp_path / "answers")]
        command += ["--output", str(tmp_path / "out.parquet")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while len(kept(tmp_path)) < 8:
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait()
        before = kept(tmp_path)
        assert 8 <= len(before) < 40
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    finally:
        server.kill()
        server.wait()
    rows = read_table(tmp_path / "out.parquet", TRANSLATIONS).sort_by("id")
    assert rows["text"].to_pylist() == [source[::-1] for source in sources]
    answered = Counter(log.read_text().splitlines())
    assert all(answered[source] == 1 for source in before) and len(answered) == 40
    # only what was on its way when the kill came can have been answered twice
    assert answered.total() - 40 <= 4
    everything = done.stderr + "".join(p.read_text() for p in (tmp_path / "answers").rglob("*.jsonl"))
    facts = pq.read_schema(tmp_path / "out.parquet").metadata
    assert KEY not in everything + str(facts)


PATIENCE = """
import runpy
from retort.teachers import openai
openai.LONGEST_WAIT = 0.02
runpy.run_path("{}/workflow_scripts/ask_teacher.py", run_name="__main__")
"""
"""The script with short waits."""


def kept(directory: Path) -> list[str]:
    lines = [line for path in (directory / "answers").rglob("*.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line)["source"] for line in lines if line.endswith("}")]
