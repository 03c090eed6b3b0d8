"""A language model behind an endpoint that is compatible with OpenAI's.

No kept answer is paid again: each is handed over as it comes, and kept before the next one is. When the teacher must
stop, the requests in flight are waited for, and their answers are kept too.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import logging
import math
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from retort.config.addresses import request_of
from retort.config.external import SOURCE, OpenAITeacher
from retort.errors import RetortError
from retort.teachers.base import Answer, Output, Question, Teacher, one_line, secret_of

log = logging.getLogger(__name__)

RETRIED = (408, 429)
"""Statuses after which an attempt is repeated, besides 5xx."""
LONGEST_WAIT = 60.0
LONGEST_RETRY_AFTER = 3600.0
"""Longest waits in seconds: after a failed attempt, and because the server says so."""
LARGEST_ANSWER = 64 << 20
SHOWN = 500
"""Characters of a server's message that an error shows."""


class _Again(Exception):
    """An attempt failed in a way that a later one may not."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class OpenAI(Teacher):
    """Sends one request per question, several at the same time."""

    def __init__(self, section: OpenAITeacher, key: str | None, spent: tuple[int, int]) -> None:
        self.section, self._key = section, key
        self.url = f"{request_of(section.base_url)[0].rstrip('/')}/chat/completions"
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._requests, self._tokens = spent

    def answer(self, questions: Sequence[Question]) -> Iterator[Answer]:
        waiting, running = iter(questions), set[Future[Answer]]()
        failure: RetortError | None = None
        with ThreadPoolExecutor(self.section.concurrency) as pool:
            try:
                while True:
                    while failure is None and len(running) < self.section.concurrency:
                        question = next(waiting, None)
                        if question is None:
                            break
                        running.add(pool.submit(self._ask, question))
                    if not running:
                        break
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        try:
                            answer = future.result()
                        except RetortError as error:
                            failure = failure or error
                            self._stop.set()
                            continue
                        yield answer
            finally:
                self._stop.set()
        self._stop.clear()
        if failure:
            raise failure

    def helpers_seconds(self) -> float | None:
        return None

    def _ask(self, question: Question) -> Answer:
        """An answer, after as many attempts as are allowed."""
        where = self._where(question)
        requests = 0
        while True:
            self._spend_request()
            requests += 1
            try:
                outputs, tokens = self._attempt(question)
            except _Again as again:
                if requests > self.section.retries:
                    raise RetortError(
                        f"{where}: no answer after {requests} requests; the last one: {again}. Answers so far are "
                        f"kept; run again to go on"
                    ) from None
                seconds = self._pause(requests, again.after)
                log.info("%s: %s; again in %.1f s", where, again, seconds)
                if self._stop.wait(seconds):
                    raise RetortError(f"{where}: given up, because another request failed") from None
            else:
                return Answer(question, outputs, requests=requests, tokens=tokens)

    def _spend_request(self) -> None:
        section = self.section
        with self._lock:
            for name, spent, ceiling in (
                ("max_requests", self._requests, section.max_requests),
                ("max_total_tokens", self._tokens, section.max_total_tokens),
            ):
                if ceiling is not None and spent >= ceiling:
                    raise RetortError(
                        f"{self.url}: {spent} of external_teacher.{name} {ceiling} are spent; answers so far are kept: "
                        f"raise it and run again to go on"
                    )
            self._requests += 1

    def _attempt(self, question: Question) -> tuple[list[Output], int]:
        deadline = time.monotonic() + self.section.timeout
        request = urllib.request.Request(self.url, self._body(question.source), self._headers(), method="POST")
        try:
            with self._opener.open(request, timeout=self.section.timeout) as response:
                body = _read(response, deadline)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, question, _beginning(error))
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"{type(error).__name__}: {error}") from None
        return self._parsed(body)

    def _where(self, question: Question) -> str:
        return f"{self.url}: source {question.id}, {question.source[:80]!r}"

    def _refused(self, error: urllib.error.HTTPError, question: Question, message: str) -> None:
        """Raises what a status means: another attempt, or an end."""
        if error.code in RETRIED or error.code >= 500:
            raise _Again(f"status {error.code}: {self._safe(message)}", _retry_after(error.headers.get("Retry-After")))
        variable = self.section.key_variable
        advice = {
            401: f"the key in {variable} is not accepted" if variable else "it wants a key: set key_variable",
            403: f"the key in {variable} may not do this" if variable else "it wants a key: set key_variable",
            404: f"correct base_url, or the model {self.section.model!r}",
        }.get(error.code, "correct what it names, or leave this source out of the corpus")
        raise RetortError(f"{self._where(question)}: status {error.code}: {self._safe(message)}; {advice}") from None

    def _parsed(self, body: bytes) -> tuple[list[Output], int]:
        try:
            answer = json.loads(body)
            tokens = int((answer.get("usage") or {}).get("total_tokens") or 0)
            # they are paid for, whatever the answer is
            with self._lock:
                self._tokens += tokens
            choices = [(choice["message"]["content"], choice.get("finish_reason")) for choice in answer["choices"]]
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise _Again(f"an answer that is not one ({type(error).__name__}: {error})") from None
        if len(choices) != self.section.outputs:
            raise _Again(f"{len(choices)} outputs; expected {self.section.outputs}")
        if not all(value is None or isinstance(value, str) for choice in choices for value in choice):
            raise _Again("an output, or the reason for its end, that is no text")
        return [Output(one_line(text or ""), reason) for text, reason in choices], tokens

    def _body(self, source: str) -> bytes:
        section = self.section
        system = [] if section.system is None else [{"role": "system", "content": section.system}]
        body: dict[str, Any] = {
            "model": section.model,
            "messages": [*system, {"role": "user", "content": section.prompt.replace(SOURCE, source)}],
            "temperature": section.temperature,
            "max_tokens": section.max_tokens,
            **({"n": section.outputs} if section.outputs > 1 else {}),
        }
        return json.dumps(body, ensure_ascii=False).encode()

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return {"Content-Type": "application/json", "User-Agent": "retort", **key}

    def _safe(self, message: str) -> str:
        """A server's message without the key, which some servers repeat."""
        return message.replace(self._key, "<key>") if self._key else message

    def _pause(self, requests: int, after: float | None) -> float:
        if after is not None:
            return min(after, LONGEST_RETRY_AFTER)
        return min(2.0 ** (requests - 1), LONGEST_WAIT) * random.uniform(0.75, 1.25)


def open_teacher(section: OpenAITeacher, split: str, threads: int, spent: tuple[int, int]) -> OpenAI:
    """The endpoint; raises RetortError if the environment lacks the key."""
    return OpenAI(section, secret_of(section), spent)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes nowhere but to the named address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _read(response: Any, deadline: float) -> bytes:
    """The whole body by the deadline, however slowly it comes."""
    parts, size = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise _Again(f"an answer of more than {LARGEST_ANSWER} bytes")
        if time.monotonic() > deadline:
            raise _Again("no whole answer within external_teacher.timeout")
    if response.length:
        raise _Again(f"a connection that ended {response.length} bytes early")
    return b"".join(parts)


def _beginning(error: urllib.error.HTTPError) -> str:
    try:
        return one_line(error.read(8 * SHOWN).decode("utf-8", errors="replace"))[:SHOWN] or error.reason
    except (OSError, http.client.HTTPException):
        return str(error.reason)


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
