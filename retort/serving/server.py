"""``retort serve``: HTTP on the standard library. It has no encryption and knows no users: see docs/translate.md."""

from __future__ import annotations

import io
import json
import select
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import retort
from retort.data.streams import complain
from retort.errors import RetortError, refusal
from retort.runtime.translator import Translator
from retort.serving.protocol import Asked, Refused, answer, check_sentences, parsed

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PATH = "/translate"
SECONDS_TO_SEND = 30
"""A connection that sends nothing for so long is closed, and so is one whose request takes longer from its first byte
to its last."""
MOST_DISCARDED = 64 * 2**20
"""Bytes of a refused request that are read all the same: a client that is cut off while it sends sees no answer."""
_PART = 2**16
SECONDS_TO_WAIT = 30
"""A request that waits longer for the others is refused."""


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take."""

    bytes: int
    texts: int
    at_once: int
    """Requests that are decoded at the same time; the others wait."""
    connections: int = 100


class Server(ThreadingHTTPServer):
    """Answers requests with one system, each connection in a thread of its own."""

    daemon_threads = True
    request_queue_size = 128
    """Connections that the system keeps until they are accepted; a burst of more than the library's 5 was reset."""
    ending = False
    """Whether further requests are refused."""
    _asked_to_end: int | None = None

    def __init__(self, host: str, port: int, translator: Translator, limits: Limits) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.translator, self.limits = translator, limits
        self.decoding = threading.BoundedSemaphore(limits.at_once)
        self.answering = threading.BoundedSemaphore(limits.connections)
        self._connections = threading.BoundedSemaphore(limits.connections)
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError, TypeError) as error:
            # a TypeError where the name has characters that no host's has
            raise RetortError(f"{host}, port {port}: {error}; choose another --host or --port") from None

    @property
    def address(self) -> str:
        """Such as http://127.0.0.1:8080."""
        host, port = self.server_address[:2]
        name = f"[{host!s}]" if self.address_family == socket.AF_INET6 else host
        return f"http://{name!s}:{port}"

    def ask_to_end(self, status: int) -> None:
        """Have ``serve_forever`` raise SystemExit with this status between two connections: in the midst of one that
        would cut it off. For handlers of signals."""
        self._asked_to_end = status

    def service_actions(self) -> None:
        super().service_actions()
        if self._asked_to_end is not None:
            raise SystemExit(self._asked_to_end)

    def finish(self, seconds: float) -> bool:
        """Refuse further requests, and wait for at most ``seconds`` until those that have begun are answered; whether
        they are. To be called when ``serve_forever`` has ended."""
        self.server_close()
        self.ending = True
        end = time.monotonic() + seconds
        answered = (
            self.answering.acquire(timeout=max(0.0, end - time.monotonic())) for _ in range(self.limits.connections)
        )
        return all(answered)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One connection; it is closed at once where there are too many."""
        if not self._connections.acquire(blocking=False):
            return self.shutdown_request(request)
        try:
            super().process_request(request, client_address)
        except Exception:
            # its thread was not started
            self._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error of the server."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            complain(f"error: retort: a request from {client_address[0]}:\n{traceback.format_exc().rstrip()}")


def _slow() -> tuple[int, str]:
    """Status and reason for a request that takes too long."""
    return 408, f"the request did not come within {SECONDS_TO_SEND} seconds; send it faster"


class Incoming(socket.SocketIO):
    """What a client sends. Raises TimeoutError where a request takes longer than SECONDS_TO_SEND."""

    end: float | None = None
    """When a request has to be complete, by the monotonic clock; None: nothing of it has come."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection, "rb")
        self._connection = connection

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        left = SECONDS_TO_SEND if self.end is None else self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the request did not come within {SECONDS_TO_SEND} seconds")
        self._connection.settimeout(left)
        try:
            return super().readinto(buffer)
        finally:
            # that of answers
            self._connection.settimeout(SECONDS_TO_SEND)
            if self.end is None:
                self.end = time.monotonic() + SECONDS_TO_SEND


class Handler(BaseHTTPRequestHandler):
    """One connection, which may send several requests."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "retort", ""
    disable_nagle_algorithm = True
    """Else the system holds a body back until the client acknowledges the headers, which takes 40 ms."""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._incoming = Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        self._incoming.end, self._unread = None, 0
        super().handle_one_request()
        if self._unread:
            self._discard()

    def parse_request(self) -> bool:
        """Also how many bytes the body has; None: that is not known."""
        try:
            if not super().parse_request():
                return False
        except TimeoutError:
            self._refuse(*_slow())
            return False
        lengths, chunked = self.headers.get_all("Content-Length", []), "Transfer-Encoding" in self.headers
        known = len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdigit() and not chunked
        # Python takes no number of thousands of digits
        self._length = int(lengths[0].lstrip("0")[:20] or 0) if known else None
        self._unread = self._length if self._length is not None else MOST_DISCARDED * bool(lengths or chunked)
        return True

    def do_GET(self) -> None:
        """What is served."""
        if self.path != "/":
            return self._refuse(404, f"{self.path}: no such path; there are GET / and POST {PATH}")
        system = self.server.translator
        facts = {"retort": retort.__version__, "engine": system.engine, "precision": system.precision}
        # where the server has its files is nothing to clients: neither the table nor the texts that were counted for it
        search = {key: value for key, value in system.search.items() if key != "ngrams"}
        if search.get("table"):
            search["table"] = PurePath(search["table"]).name
        return self._write(200, {**facts, "search": search})

    def do_POST(self) -> None:
        """Translations."""
        if self.server.ending:
            return self._refuse(503, "the server ends; try again later")
        with self.server.answering:
            return self._translate()

    def _translate(self) -> None:
        try:
            asked = parsed(self._content(), self.server.limits.texts)
            check_sentences(self.server.translator, asked, self.server.limits.texts)
            found = self._answer(asked)
        except Refused as error:
            return self._refuse(error.status, str(error))
        except RetortError as error:
            return self._refuse(400, str(error))
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is answered
            self.server.handle_error(self.connection, self.client_address)
            # a file's name is nothing to clients
            reason = None if isinstance(error, OSError) else refusal(error)
            return self._refuse(500, reason or "the system failed; the server's log has the reason")
        return self._write(200, found)

    def _answer(self, asked: Asked) -> dict[str, Any]:
        """Raises ConnectionError for a client that has gone while it waited for others."""
        decoding = self.server.decoding
        waits = not decoding.acquire(blocking=False)
        if waits and not decoding.acquire(timeout=SECONDS_TO_WAIT):
            raise Refused(503, "too many requests are waiting; try again later")
        try:
            if waits and self._has_gone():
                raise ConnectionAbortedError
            return answer(self.server.translator, asked)
        finally:
            decoding.release()

    def _has_gone(self) -> bool:
        """Whether the client has closed the connection, at least for what it sends."""
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        try:
            return bool(poller.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is refused before it comes to a method: what is no HTTP, and other methods."""
        self._refuse(code, f"{message or self.responses[HTTPStatus(code)][0]}; there are GET / and POST {PATH}")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """To standard error, if that can be written: a request is answered all the same."""
        message = (format % args).encode("unicode_escape").decode("ascii")
        complain(f"{self.address_string()} - - [{self.log_date_time_string()}] {message}")

    def _content(self) -> bytes:
        if self.path != PATH:
            raise Refused(404, f"{self.path}: no such path; there are GET / and POST {PATH}")
        # a page of another site cannot send this type without being asked for permission, which is not given
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "expected Content-Type: application/json")
        if self._length is None:
            raise Refused(411, "expected one Content-Length, in bytes, and no Transfer-Encoding")
        if self._length > self.server.limits.bytes:
            raise Refused(413, f"more than {self.server.limits.bytes} bytes; send several requests")
        try:
            content = self.rfile.read(self._length)
        except TimeoutError:
            raise Refused(*_slow()) from None
        self._unread = 0
        if len(content) < self._length:
            raise Refused(400, f"{len(content)} of {self._length} bytes came")
        return content

    def _discard(self) -> None:
        """What a request still holds is no further request."""
        self.close_connection = True
        left = min(self._unread, MOST_DISCARDED)
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (part := self.rfile.read1(min(left, _PART))):  # type: ignore[attr-defined]
                left -= len(part)

    def _refuse(self, status: int, reason: str) -> None:
        self.close_connection = True
        self._write(status, {"error": reason})

    def _write(self, status: int, facts: dict[str, Any]) -> None:
        # what is refused may hold half of a surrogate pair
        content = json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.close_connection |= bool(self._unread)
        if self.close_connection:
            self.send_header("Connection", "close")
        elif self.request_version == "HTTP/1.0":
            self.send_header("Connection", "keep-alive")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
