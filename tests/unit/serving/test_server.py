"""``retort serve``: answers, refusals and limits, by real requests to a server of a made-up system."""

from __future__ import annotations

import errno
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any

import pytest

import retort
from retort.runtime.results import Hypothesis, Token, Translation
from retort.serving import server as serving
from retort.serving.server import Incoming, Limits, Server

JSON = {"Content-Type": "application/json"}


class Upper:
    """Translates into capitals; waits for ``gate`` before it does."""

    engine, precision, search = "onnx", "int8", {"kind": "argmax"}

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.decoded: list[str] = []

    def segments(self, text: str) -> list[str]:
        return text.split()

    def translate(self, texts: list[str], *, n_best: int, scores: bool) -> list[Translation]:
        self.decoded += texts
        assert self.gate.wait(10)
        if n_best > 2:
            raise retort.RetortError(f"{n_best} outputs per line: the search ranks 2")
        if "fail" in texts:
            raise RuntimeError("a secret path")
        if "bug" in texts:
            raise ValueError("a bug")
        if "lost" in texts:
            raise FileNotFoundError(errno.ENOENT, "No such file", "/x")
        tokens = (Token("X", 0.5),) if scores else None
        return [Translation(t, (Hypothesis(t.upper(), False, -1.0, tokens),) * n_best, 0) for t in texts]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server("127.0.0.1", 0, Upper(), Limits(bytes=300, texts=3, at_once=1, connections=3)) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def connection(server: Server) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)


def post(server: Server, body: Any, path: str = "/translate", headers: dict[str, str] = JSON) -> tuple[int, Any]:
    connected = connection(server)
    connected.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
    response = connected.getresponse()
    try:
        return response.status, json.loads(response.read())
    finally:
        connected.close()


def test_what_is_served(server: Server) -> None:
    connected = connection(server)
    for _ in range(2):  # one connection, several requests
        connected.request("GET", "/")
        response = connected.getresponse()
        facts = {"retort": retort.__version__, "engine": "onnx", "precision": "int8", "search": {"kind": "argmax"}}
        assert (response.status, json.loads(response.read())) == (200, facts)
    connected.close()
    texts = {"texts": [{"location": "/srv/secret/mono.txt"}]}
    search = {"kind": "ctc_beam", "table": "/srv/secret/a.ngrams", "ngrams": texts}
    server.translator.search = search  # type: ignore[misc]
    assert b'"search": {"kind": "ctc_beam", "table": "a.ngrams"}' in raw(server, "GET / HTTP/1.0\r\n\r\n")
    assert server.address == f"http://127.0.0.1:{server.server_address[1]}"


def test_translations_come_in_the_order_of_the_texts(server: Server) -> None:
    status, answer = post(server, {"texts": ["ein ß", "", "zwei"]})
    facts = {"truncated": False, "source_cut": 0}
    assert status == 200
    assert answer["translations"] == [{"source": t, "text": t.upper(), **facts} for t in ("ein ß", "", "zwei")]
    assert post(server, {"texts": []}) == (200, {"translations": []})


def test_scores_and_several_outputs(server: Server) -> None:
    _, answer = post(server, {"texts": ["a"], "scores": True, "n_best": 2})
    scored = {"text": "A", "truncated": False, "score": -1.0, "confidence": pytest.approx(0.5)}
    scored["tokens"] = [{"text": "X", "probability": 0.5}]
    assert answer["translations"] == [{"source": "a", **scored, "source_cut": 0, "hypotheses": [scored, scored]}]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not JSON"),
        (b"[" * 299, 400, "not JSON"),
        (b'{"texts": ["\xff"]}', 400, "not JSON"),
        (["a"], 400, "list, expected an object"),
        ({"text": ["a"]}, 400, "text: no such key; there are texts, n_best, scores, running_text"),
        ({"\ud800": 1}, 400, "?: no such key"),
        ({}, 400, "texts: expected a list of strings"),
        ({"texts": "a"}, 400, "texts: expected a list of strings"),
        ({"texts": ["a", 1]}, 400, "texts: expected a list of strings"),
        ({"texts": ["a"] * 4}, 413, "texts: 4, at most 3"),
        ({"texts": ["a. b.", "c. d."], "running_text": True}, 413, "texts: 4 sentences, at most 3"),
        ({"texts": ["a" * 300]}, 413, "more than 300 bytes"),
        ({"texts": ["a"], "n_best": True}, 400, "n_best: expected a whole number"),
        ({"texts": ["a"], "scores": 1}, 400, "scores: expected true or false"),
        ({"texts": ["a"], "n_best": 3}, 400, "the search ranks 2"),
        ({"texts": ["a"], "n_best": 2, "running_text": True}, 400, "running text has one translation"),
        ({"texts": ["a", "\ud800"]}, 400, "text 2: half of a surrogate pair"),
        ({"texts": ["fail"]}, 500, "the server's log has the reason"),
    ],
)
def test_refusals_say_why(server: Server, body: Any, status: int, reason: str) -> None:
    found, answer = post(server, body)
    assert found == status and reason in answer["error"] and "secret" not in answer["error"]
    assert post(server, {"texts": ["a"]})[0] == 200


def test_other_paths_types_and_lengths(server: Server) -> None:
    assert post(server, {"texts": []}, path="/")[0] == post(server, {"texts": []}, path="/translate/de")[0] == 404
    # what a form of another site's page can send
    assert post(server, {"texts": []}, headers={"Content-Type": "text/plain"})[0] == 415
    assert post(server, b"", headers=JSON | {"Transfer-Encoding": "chunked"})[0] in (411, 400)
    assert post(server, b"{}", headers=JSON | {"Content-Length": "-1"})[0] == 411
    assert post(server, b"{}", headers=JSON | {"Content-Length": "9" * 5000})[0] == 413
    assert post(server, b"{}", headers=JSON | {"Content-Length": "\xb2"})[0] == 411


def test_a_type_may_name_its_characters_and_a_body_be_as_long_as_allowed(server: Server) -> None:
    body = json.dumps({"texts": ["a" * 285]}).encode()
    assert len(body) == server.limits.bytes
    assert post(server, body, headers={"Content-Type": "application/json; charset=utf-8"})[0] == 200


def test_bodies_of_two_lengths_and_slow_ones_are_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SECONDS_TO_SEND", 0.2)
    for lengths in ("Content-Length: 2\r\nContent-Length: 9", "Content-Length: 2\r\nTransfer-Encoding: chunked"):
        assert b"411" in raw(
            server, f"POST /translate HTTP/1.1\r\nContent-Type: application/json\r\n{lengths}\r\n\r\n{{}}"
        )
    head = "POST /translate HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 200\r\n"
    slow = raw(server, f"{head}\r\n", " " * 40)
    assert b" 408 " in slow and b"the request did not come within 0.2 seconds" in slow
    # the head of a request has no more time than its body
    start = time.monotonic()
    assert b" 408 " in raw(server, f"{head}X:", " " * 500)
    assert time.monotonic() - start < 9


def test_a_body_that_ends_early_is_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10) as client:
        client.sendall(b"POST /translate HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n{}")
        client.shutdown(socket.SHUT_WR)
        assert b"2 of 200 bytes came" in client.makefile("rb").read()


def test_an_answer_has_more_time_than_its_request_had_left() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"a")
        incoming = Incoming(ours)
        incoming.end = time.monotonic() + 5
        assert incoming.readinto(bytearray(1)) == 1 and ours.gettimeout() == serving.SECONDS_TO_SEND


@pytest.mark.slow
def test_each_request_of_a_connection_has_the_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SECONDS_TO_SEND", 2.0)
    held = connection(server)
    for _ in range(5):
        time.sleep(0.6)
        held.request("POST", "/translate", b'{"texts": []}', JSON)
        assert held.getresponse().read() == b'{"translations": []}\n'
    held.close()


def test_a_client_that_goes_is_no_error(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    gone = socket.create_connection(("127.0.0.1", server.server_address[1]))
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    gone.close()
    assert post(server, {"texts": ["a"]})[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def raw(server: Server, text: str, dripping: str = "") -> bytes:
    """The answer to this text; what drips comes byte by byte, each after 0.02 seconds."""
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10) as client:
        with suppress(OSError):
            client.sendall(text.encode())
            for byte in dripping:
                time.sleep(0.02)
                client.sendall(byte.encode())
        answer = b""
        with suppress(OSError):
            while received := client.recv(9999):
                answer += received
        return answer


def test_who_waits_too_long_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SECONDS_TO_WAIT", 0.05)
    server.translator.gate.clear()  # type: ignore[attr-defined]
    first = SimpleNamespace(status=0)
    thread = threading.Thread(target=lambda: setattr(first, "status", post(server, {"texts": ["a"]})[0]))
    thread.start()
    while server.decoding.acquire(blocking=False):  # until the first one is being decoded
        server.decoding.release()
    assert post(server, {"texts": ["b"]}) == (503, {"error": "too many requests are waiting; try again later"})
    server.translator.gate.set()  # type: ignore[attr-defined]
    thread.join()
    assert first.status == 200


def test_nothing_is_decoded_for_who_has_gone_while_waiting(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    decoded, gate = server.translator.decoded, server.translator.gate  # type: ignore[attr-defined]
    acquire, waiting = server.decoding.acquire, []

    def waited(blocking: bool = True, timeout: float | None = None) -> bool:
        waiting.extend([timeout] if blocking else [])
        return acquire(blocking, timeout)

    server.decoding.acquire = waited  # type: ignore[method-assign]
    gate.clear()
    held, gone, stays = (connection(server) for _ in range(3))
    for number, connected in enumerate((held, gone, stays)):
        connected.request("POST", "/translate", json.dumps({"texts": [str(number)]}), JSON)
        while len(decoded) + len(waiting) <= number:
            time.sleep(0.001)
    gone.close()
    gate.set()
    assert [c.getresponse().status for c in (held, stays)] == [200, 200]
    assert sorted(decoded) == ["0", "2"] and not capfd.readouterr().err.count("Traceback")
    for connected in (held, stays):
        connected.close()


def test_no_answer_waits_for_the_client_to_acknowledge_its_headers(server: Server) -> None:
    """Which takes 40 ms where headers and body are sent apart and the system collects small parts."""
    connected, seconds = connection(server), []
    for _ in range(9):
        start = time.perf_counter()
        connected.request("GET", "/")
        connected.getresponse().read()
        seconds.append(time.perf_counter() - start)
    connected.close()
    assert sorted(seconds)[1] < 0.02


def test_a_connection_says_whether_it_stays_open(server: Server) -> None:
    old = raw(server, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n")
    assert old.count(b" 200 ") == 2 and old.count(b"Connection: keep-alive\r\n") == old.count(b"Connection: ") - 1 == 1
    assert b"Connection: close\r\n" in raw(server, "GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")


def test_the_length_of_a_body_may_begin_with_zeros(server: Server) -> None:
    body = '{"texts": ["a"]}'
    head = f"POST /translate HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {'0' * 30}{len(body)}"
    answer = raw(server, f"{head}\r\n\r\n{body}")
    assert answer.count(b"HTTP/1.1 ") == 1 and b'"text": "A"' in answer


def test_a_burst_of_requests_is_answered() -> None:
    limits = Limits(bytes=300, texts=3, at_once=1, connections=99)
    with Server("127.0.0.1", 0, Upper(), limits) as server:  # type: ignore[arg-type]
        # all are there before the first one is accepted
        waiting = [connection(server) for _ in range(60)]
        for connected in waiting:
            connected.request("GET", "/")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        assert {connected.getresponse().status for connected in waiting} == {200}
        for connected in waiting:
            connected.close()
        server.shutdown()
        thread.join()


def test_more_connections_than_allowed_are_closed(server: Server) -> None:
    held = [connection(server) for _ in range(3)]
    for connected in held:
        connected.request("GET", "/")
        connected.getresponse().read()
    with pytest.raises((ConnectionError, OSError)):
        post(server, {"texts": ["a"]})
    for connected in held:
        connected.close()


def test_a_port_that_is_taken(server: Server) -> None:
    port = server.server_address[1]
    with pytest.raises(retort.RetortError, match=f"127.0.0.1, port {port}: .*in use.*choose another"):
        Server("127.0.0.1", port, Upper(), server.limits)  # type: ignore[arg-type]
    with pytest.raises(retort.RetortError, match="port 70000: .*choose another"):
        Server("127.0.0.1", 70000, Upper(), server.limits)  # type: ignore[arg-type]


def test_an_address_of_version_6_is_in_brackets() -> None:
    server = Server.__new__(Server)
    server.address_family, server.server_address = socket.AF_INET6, ("::1", 8080, 0, 0)
    assert server.address == "http://[::1]:8080"


def test_a_name_that_no_host_can_have(server: Server) -> None:
    with pytest.raises(retort.RetortError, match="\udcff, port 0: .*choose another --host"):
        Server("\udcff", 0, Upper(), server.limits)  # type: ignore[arg-type]


def test_a_signal_while_a_connection_is_accepted_cuts_it_off_not() -> None:
    class Signalled(Server):
        def process_request(self, request: Any, client_address: Any) -> None:
            self.ask_to_end(7)
            super().process_request(request, client_address)

    with Signalled("127.0.0.1", 0, Upper(), Limits(bytes=300, texts=3, at_once=1, connections=3)) as server:  # type: ignore[arg-type]
        client = connection(server)
        client.request("POST", "/translate", b'{"texts": ["a"]}', JSON)
        with pytest.raises(SystemExit, match="7"):
            server.serve_forever(0.01)
        # what has not begun is refused
        assert client.getresponse().status in (200, 503)
        client.close()


def test_further_requests_are_refused_at_the_end(server: Server) -> None:
    held = connection(server)
    held.request("GET", "/")
    held.getresponse().read()
    server.shutdown()
    assert server.finish(10)
    held.request("POST", "/translate", b'{"texts": ["a"]}', JSON)
    response = held.getresponse()
    assert (response.status, json.load(response)) == (503, {"error": "the server ends; try again later"})
    held.close()


class Full(io.StringIO):
    """A stream that nobody can write."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, f"no space for {text!r}")


@pytest.mark.parametrize("stream", [None, Full()])
def test_a_log_that_cannot_be_written_hinders_no_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch, stream: Any
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    assert post(server, {"texts": ["a"]})[0] == 200
    assert post(server, {"texts": ["fail"]})[0] == 500
    assert post(server, {"texts": ["bug"]})[0] == 500
    assert post(server, {"texts": ["a"]})[0] == 200


def test_the_log_has_requests_and_what_failed(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    raw(server, "GET /\x1b[2J HTTP/1.0\r\n\r\n")
    for text in ("bug", "fail", "lost"):
        assert post(server, {"texts": [text]}) == (
            500,
            {"error": "the system failed; the server's log has the reason"},
        )
    found = capfd.readouterr().err
    assert r'] "GET /\x1b[2J HTTP/1.0" 404 -' in found
    assert "error: retort: a request from 127.0.0.1:\nTraceback" in found
    assert all(f"Error: {reason}\n" in found for reason in ("a bug", "a secret path", "[Errno 2] No such file: '/x'"))


def test_a_thread_that_cannot_be_started_takes_no_place(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        for _ in range(3):
            with pytest.raises((ConnectionError, OSError)):
                post(server, {"texts": ["a"]})
    assert post(server, {"texts": ["a"]})[0] == 200


def test_who_sends_all_of_a_refused_body_sees_the_answer(server: Server) -> None:
    body = b" " * 5_000_000
    assert post(server, body) == (413, {"error": "more than 300 bytes; send several requests"})
    assert post(server, body, path="/")[0] == 404
    connected = connection(server)
    connected.request("POST", "/translate", iter([body, body]), JSON, encode_chunked=True)
    assert connected.getresponse().status == 411
    connected.close()


def test_no_more_of_a_refused_body_is_read_than_a_bound(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_DISCARDED", 1000)
    head = f"POST /translate HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {10**9}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10) as client:
        client.sendall(head.encode())
        assert b" 413 " in client.recv(9999)
        with pytest.raises(ConnectionError):
            for _ in range(10**9 // 2**16):
                client.sendall(b" " * 2**16)


def test_the_body_of_another_request_is_no_request(server: Server) -> None:
    for lengths in ("Content-Length: 18\r\n", "Content-Length: 18\r\n" * 2):
        answer = raw(server, f"GET / HTTP/1.1\r\n{lengths}\r\nGET / HTTP/1.1\r\n\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1 and b" 200 " in answer


@pytest.mark.parametrize(
    ("request_line", "status", "reason"),
    [
        ("PUT /translate HTTP/1.1", 501, "Unsupported method ('PUT')"),
        ("HEAD / HTTP/1.1", 501, None),
        ("GET / x HTTP/1.1", 400, "Bad request syntax ('GET / x HTTP/1.1')"),
        (f"GET /{'a' * 70_000} HTTP/1.1", 414, HTTPStatus(414).phrase),
        (f"GET / HTTP/1.1\r\nX: {'a' * 70_000}", 431, "Line too long"),
    ],
)
def test_what_is_no_request_is_refused_in_json_too(
    server: Server, request_line: str, status: int, reason: str | None
) -> None:
    head, body = raw(server, f"{request_line}\r\n\r\n").split(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()) and b"Content-Type: application/json" in head
    if reason is None:
        assert not body
    else:
        assert json.loads(body) == {"error": f"{reason}; there are GET / and POST /translate"}
