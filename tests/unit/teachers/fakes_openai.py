"""An endpoint like OpenAI's on loopback, with faults, run as a process or in a thread.

As a program: ``fakes_openai.py PORT_FILE LOG_FILE``. It logs each source that it answered well.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, faults: list[str], log: Path | None = None, slowness: float = 0.0) -> None:
        """``faults`` are those of the first attempts at each source, one after the other."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.log, self.slowness = faults, log, slowness
        self.attempts: Counter[str] = Counter()
        self.answered: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        source = body["messages"][-1]["content"].removeprefix("Translate: ")
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            attempt = self.server.attempts[source]
            self.server.attempts[source] += 1
        fault = self.server.faults[attempt] if attempt < len(self.server.faults) else "none"
        time.sleep(self.server.slowness)
        getattr(self, fault)(source, body)

    def none(self, source: str, body: Any) -> None:
        texts = [source[::-1] if i == 0 else f"{source[::-1]} {i}" for i in range(body.get("n", 1))]
        with self.server.lock:
            self.server.answered.append(source)
            if self.server.log:
                with self.server.log.open("a") as log:
                    print(source, file=log, flush=True)
        self.send(200, self.answer(texts))

    def answer(self, texts: list[str]) -> bytes:
        choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
        return json.dumps({"choices": choices, "usage": {"total_tokens": 10}}).encode()

    def busy(self, source: str, body: Any) -> None:
        self.send(429, b"slow down", {"Retry-After": "0.01"})

    def broken(self, source: str, body: Any) -> None:
        self.send(500, b"oops")

    def late(self, source: str, body: Any) -> None:
        time.sleep(2.5)
        self.send(200, self.answer(["too late"]))

    def cut(self, source: str, body: Any) -> None:
        self.send(200, self.answer(["cut"])[:-10], {"Content-Length": "500"})
        self.close_connection = True

    def malformed(self, source: str, body: Any) -> None:
        self.send(200, b'{"choices": [')

    def deep(self, source: str, body: Any) -> None:
        self.send(200, b"[" * 99_999)

    def endless(self, source: str, body: Any) -> None:
        self.send(200, self.answer([source]).replace(b"10", b"1e999"))

    def reasons(self, source: str, body: Any) -> None:
        self.send(200, self.answer([source]).replace(b'"stop"', b'["stop"]'))

    def half(self, source: str, body: Any) -> None:
        self.send(200, self.answer(["half \ud83d"]))

    def longer(self, source: str, body: Any) -> None:
        self.send(200, self.answer(["one", "two", "three", "four"]))

    def unauthorised(self, source: str, body: Any) -> None:
        self.send(401, f"wrong key: {self.headers['Authorization']}".encode())

    def unknown(self, source: str, body: Any) -> None:
        self.send(404, b"no such model")

    def filtered(self, source: str, body: Any) -> None:
        self.send(400, b"content filter")

    def elsewhere(self, source: str, body: Any) -> None:
        self.send(307, b"", {"Location": "http://127.0.0.1:9/v1"})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    faulty = ["busy", "broken", "cut", "malformed", "longer"]
    server = Server(faulty, Path(sys.argv[2]), slowness=0.02)
    Path(sys.argv[1]).write_text(server.url)
    server.serve_forever()
