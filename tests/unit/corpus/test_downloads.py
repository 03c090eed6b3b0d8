import argparse
import base64
import contextlib
import http.server
import io
import os
import shutil
import socketserver
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from retort.config import TextSource
from retort.config.addresses import base_name, check_location, is_address, request_of
from retort.config.problems import shown
from retort.corpus import downloads
from retort.corpus.downloads import cached_path, download
from retort.errors import RetortError
from retort.workflow.scripting import section

BODY = b"one\ntwo\n" * 1000


@contextmanager
def serving(*answers: str) -> Iterator[tuple[str, list[str]]]:
    """A server that gives the answers in turn, the last one for ever: ok, cut or a status; and its requests."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers[min(len(requests), len(answers) - 1)]
            requests.append(self.path)
            if answer.isdigit():
                self.send_error(int(answer))
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY if answer == "ok" else BODY[:-100])

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/texts/train.en.gz?version=2", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_download_is_kept_and_taken_from_the_cache(tmp_path):
    with serving("ok", "404") as (address, requests):
        path = download(address, tmp_path / "cache")
        assert path.read_bytes() == BODY
        assert path == cached_path(address, tmp_path / "cache")
        assert path.name.endswith("-train.en.gz")
        assert download(address, tmp_path / "cache") == path
        assert requests == ["/texts/train.en.gz?version=2"]
    assert os.listdir(tmp_path / "cache") == [path.name]


def test_a_missing_file_is_not_asked_for_again(tmp_path):
    with serving("404") as (address, requests):
        with pytest.raises(RetortError, match="HTTP Error 404.*RETORT_MIRROR") as failed:
            download(address, tmp_path, backoff=0)
        assert str(failed.value).startswith(address)
        assert len(requests) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("trouble", ["500", "503", "cut"])
def test_passing_trouble_is_retried(tmp_path, trouble):
    with serving(trouble, trouble, "ok") as (address, requests):
        assert download(address, tmp_path, backoff=0).read_bytes() == BODY
        assert len(requests) == 3


@pytest.mark.parametrize(("trouble", "said"), [("500", "HTTP Error 500"), ("cut", "received 7900 of 8000 bytes")])
def test_lasting_trouble_is_told_and_leaves_nothing(tmp_path, trouble, said):
    with serving(trouble) as (address, requests):
        with pytest.raises(RetortError, match=f"after 3 attempts.*{said}"):
            download(address, tmp_path, attempts=3, backoff=0)
        assert len(requests) == 3
    assert os.listdir(tmp_path) == []


def test_no_server(tmp_path):
    with serving("ok") as (address, _):
        pass
    with pytest.raises(RetortError, match="after 2 attempts"):
        download(address, tmp_path, attempts=2, backoff=0)


SLOW = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
REDIRECTS = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "


@contextmanager
def answering(*answers: Iterable[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends these pieces of bytes as they are, one list per connection, the last one for ever; and the
    requests. It ends an answer when the client goes."""
    requests: list[bytes] = []
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            answer = answers[min(len(requests), len(answers) - 1)]
            requests.append(self.request.recv(65536))
            with contextlib.suppress(OSError):
                for piece in answer:
                    if over.is_set():
                        return
                    self.request.sendall(piece)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", requests
        finally:
            over.set()
            server.shutdown()


class Endless:
    """One piece after the other, with a pause."""

    def __init__(self, start: bytes, piece: bytes, pause: float = 0.0) -> None:
        self.start, self.piece, self.pause = start, piece, pause

    def __iter__(self) -> Iterator[bytes]:
        yield self.start
        while True:
            yield self.piece
            time.sleep(self.pause)


def failure(address: str, cache: Path, attempts: int = 1) -> str:
    """What a download says that fails; it leaves nothing."""
    with pytest.raises(RetortError) as failed:
        download(address, cache, attempts=attempts, backoff=0)
    assert not cache.exists() or os.listdir(cache) == []
    return str(failed.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nbody", "Content-Length is 'abc', expected a number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 9\r\n\r\nbody-more", "Content-Length is '4, 9'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nbody", "Content-Length is '-4', expected a number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "Content-Length is '9"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 18 + b"\r\n\r\n", "the server announces 999,999,999,"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nbody\r\n", "the download failed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbody\r\n", "the download failed"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "HTTP status 204, expected 200 with the whole file"),
        (b"HTTP/1.1 206 Partial\r\nContent-Length: 4\r\n\r\nbody", "HTTP status 206, expected 200"),
        (b"HTTP/1.1 abc\r\n\r\n", "the download failed"),
        (b"no HTTP at all", "the download failed"),
        (b"", "the download failed"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200, "got more than 100 headers"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 70000, "got more than 65536 bytes"),
        (REDIRECTS + b"file:///etc/passwd\r\n\r\n", "Redirection to url"),
        (REDIRECTS + b"ftp://127.0.0.1/a\r\n\r\n", "redirected from http to ftp://127.0.0.1; expected http again"),
        (REDIRECTS + b"http://[::1\r\n\r\n", "the download failed"),
        (REDIRECTS + b"http://a..b/\r\n\r\n", "the download failed"),
        (REDIRECTS + b"http:///a\r\n\r\n", "the download failed"),
        (REDIRECTS + b"/\r\n\r\n", "infinite loop"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "HTTP Error 302"),
    ],
)
def test_odd_answers_of_a_server(tmp_path, answer, said):
    with answering([answer]) as (address, _):
        message = failure(f"{address}/a.txt", tmp_path / "cache")
    assert message.startswith(f"{address}/a.txt: the download failed: ") and said in message
    assert "\n" not in message and "RETORT_MIRROR to a directory that holds a.txt" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        Endless(SLOW, b"x", 0.02),
        Endless(b"HTTP/1.1 200 OK\r\n", b"a", 0.02),
        Endless(b"", b"H", 0.02),
        Endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", 0.02),
        Endless(REDIRECTS.replace(b"Content-Length: 0", b"Content-Length: 99999") + b"/a\r\n\r\n", b"x", 0.02),
    ],
    ids=["body", "header", "status", "chunk", "redirect"],
)
def test_a_server_that_trickles_is_given_up(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(downloads, "SLOW_SECONDS", 0.3)
    with answering(answer) as (address, requests):
        start = time.monotonic()
        message = failure(f"{address}/a.txt", tmp_path / "cache", attempts=2)
        assert time.monotonic() - start < 5
        assert "bytes in 0.3 s" in message or "infinite loop" in message
        assert len(requests) == 2 or "infinite loop" in message


def test_a_slow_disk_is_no_slow_server(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "SLOW_SECONDS", 0.2)
    fsync = os.fsync
    monkeypatch.setattr(downloads.os, "fsync", lambda handle: (time.sleep(0.6), fsync(handle)))
    with answering([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwords"]) as (address, requests):
        assert download(f"{address}/a", tmp_path / "cache", backoff=0).read_bytes() == b"words"
        assert len(requests) == 1


def test_a_body_without_an_end_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_BYTES", 10**7)
    with answering(Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)) as (address, requests):
        assert "the body has more than 10,000,000 bytes" in failure(f"{address}/a", tmp_path / "cache", attempts=3)
        assert len(requests) == 1
    with answering([b"HTTP/1.1 200 OK\r\nContent-Length: 10000001\r\n\r\n"]) as (address, _):
        message = failure(f"{address}/a", tmp_path / "cache")
        assert "the server announces 10,000,001 bytes, and at most 10,000,000 are downloaded" in message


def test_a_body_that_the_disk_has_no_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100_000, 93_000, 7_000))
    with answering(Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000)) as (address, _):
        assert "the body has more than 2,000 bytes" in failure(f"{address}/a", tmp_path / "cache")
    with answering([b"HTTP/1.1 200 OK\r\nContent-Length: 2001\r\n\r\n"]) as (address, _):
        assert "announces 2,001 bytes, and 2,000 are free in" in failure(f"{address}/a", tmp_path / "cache")


def test_a_download_that_never_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_SECONDS", 0.3)
    with answering(Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 20_000, 0.01)) as (address, requests):
        assert "not complete within" in failure(f"{address}/a", tmp_path / "cache", attempts=9)
        assert len(requests) == 1


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with (
        serving("ok") as (address, requests),
        pytest.raises(RetortError, match="cannot be written .*it is taken"),
    ):
        download(address, tmp_path / "cache")
    assert requests == []


def test_credentials_are_sent_and_never_shown(tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("WHO", "me")
    monkeypatch.setenv("PASSWORD", "p@ss/wo rd")
    monkeypatch.setenv("TOKEN", "se?cret")
    with answering([b"HTTP/1.1 503 No\r\n\r\n"], [OK]) as (address, requests):
        location = address.replace("://", "://${WHO}:${PASSWORD}@") + "/a.txt?token=${TOKEN}&v=1"
        path = download(location, tmp_path, backoff=0)
    assert path.read_bytes() == b"body" and path.name.endswith("-a.txt")
    asked = requests[-1].decode()
    assert asked.startswith("GET /a.txt?token=se%3Fcret&v=1 HTTP/1.1")
    assert f"Authorization: Basic {base64.b64encode(b'me:p@ss/wo rd').decode()}" in asked
    assert "@" not in asked.replace(asked.partition("Authorization")[2], "")
    with answering([b"HTTP/1.1 404 not se?cret se%3Fcret p@ss/wo rd\r\n\r\n"]) as (address, _):
        message = failure(address.replace("://", "://${WHO}:${PASSWORD}@") + "/${TOKEN}", tmp_path / "other")
    assert "not ${TOKEN} ${TOKEN} ${PASSWORD}" in message
    for text in (message, caplog.text, path.name):
        assert not any(secret in text for secret in ("p@ss", "p%40ss", "se?cret", "se%3Fcret"))


def test_literal_credentials_are_not_shown_either(tmp_path, caplog):
    caplog.set_level("DEBUG")
    with answering([b"HTTP/1.1 404 No\r\n\r\n"]) as (address, _):
        message = failure(address.replace("://", "://me:hidden1@") + "/a?x=1&api_key=hidden2", tmp_path / "cache")
    assert "://***@127.0.0.1" in message and "a?x=1&api_key=***" in message
    assert "hidden" not in message + caplog.text


def test_credentials_stay_with_their_host(tmp_path, monkeypatch):
    monkeypatch.setenv("PASSWORD", "hidden")
    with answering([OK]) as (there, foreign):
        to = [REDIRECTS + f"{there}/b\r\n\r\n".encode()]
        with answering([REDIRECTS + b"/b\r\n\r\n"], to) as (here, own):
            download(here.replace("://", "://me:${PASSWORD}@") + "/a", tmp_path)
    assert len(own) == 2 and all(b"Authorization: Basic" in request for request in own)
    assert len(foreign) == 1 and b"Authorization" not in foreign[0]


def test_a_variable_that_is_not_set(tmp_path):
    assert "has ${NOT_SET_ANYWHERE}, and the environment has no" in failure(
        "http://127.0.0.1:9/${NOT_SET_ANYWHERE}", tmp_path / "cache"
    )


def test_no_way_from_https_to_http():
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(downloads._Final, match="redirected from https to http://example.com; expected https again"):
        downloads._Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://example.com/a?key=x")


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("http://bücher.example/données.txt?q=é", "http://xn--bcher-kva.example/donn%C3%A9es.txt?q=%C3%A9"),
        ("HTTPS://Example.org:8443/a%20b#part", "https://example.org:8443/a%20b"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("https://example.org", "https://example.org/"),
        ("https://example.org/path@v1/b+c?u=a@b", "https://example.org/path@v1/b+c?u=a@b"),
    ],
)
def test_what_is_asked_for(location, asked):
    check_location(location)
    assert request_of(location) == (asked, None)


BAD = [
    ("http://[::1", "cannot be read; expected https://host/path"),
    ("http://a..b/c", "cannot be read; expected https://host/path"),
    ("http://a:b/c", "cannot be read; expected https://host/path"),
    ("http://a:99999/c", "cannot be read; expected https://host/path"),
    ("http:///c", "an address without a host"),
    ("http://", "an address without a host"),
    ("http://host/a b", "an address has no ' '; write %20"),
    ("http://host/a\nb", "write %0A"),
    ("ftp://host/a", "expected an http or https address, or a path"),
    ("file:///etc/passwd", "expected an http or https address, or a path"),
    ("http://me:hidden@host/a", r"http://\*\*\*@host/a holds a password or key.*variable instead, such as \$\{TOKEN\}"),
    ("http://me@host/a", "holds a password or key"),
    ("http://me:hid/den@host/a", "an address with a user cannot be read"),
    ("http://host/a?access_token=hidden", r"\?access_token=\*\*\* holds a password or key"),
    ("https://host/a?X-Amz-Credential=hidden&X-Amz-Signature=hidden", "holds a password or key"),
    ("https://host/a?sv=1&sig=hidden", "holds a password or key"),
    ("", "expected the path of a file, found ''"),
    ("a\0b", "expected the path of a file, found"),
    ("d/" + "x" * 256, "a name in the path has more than 255 bytes"),
]


@pytest.mark.parametrize(("location", "said"), BAD, ids=[location[:30] for location, _ in BAD])
def test_locations_that_are_refused_when_they_are_read(location, said):
    with pytest.raises(ValidationError, match=said) as failed:
        TextSource(location=location)
    (problem,) = failed.value.errors()
    assert "hid" not in problem["msg"]


def test_a_wrong_configuration_shows_no_credentials():
    text = '[{"location": "http://me:hidden@host/a"}, {"location": 5}, "http://me:hidden@host/a?token=hidden"]'
    with pytest.raises(argparse.ArgumentTypeError) as failed:
        section(list[TextSource])(text)
    assert "hidden" not in str(failed.value) and "***@host" in str(failed.value)
    assert "hidden" not in shown({"a": ["http://me:hidden" + "x" * 100 + "@host"]})


def test_addresses_and_names():
    assert is_address("https://example.org/a")
    assert not is_address("data/a.gz")
    assert base_name("https://example.org/some%20dir/a%20b.gz?x=1/2") == "a b.gz"
    assert base_name("data/a.gz") == "a.gz"
    assert base_name("https://example.org/") == base_name("https://example.org/a/%2e%2e") == "download"
    assert base_name("http://host/a%00b") == "a_b"
    assert len(base_name("http://host/" + "ü" * 300).encode()) <= 180
    with pytest.raises(RetortError, match="expected an http or https address"):
        is_address("ftp://example.org/a")


def test_files_of_one_name_have_their_own_places_in_the_cache(tmp_path):
    addresses = [f"https://example.org/{year}/train.en.gz" for year in (2024, 2025)]
    assert len({cached_path(address, tmp_path) for address in addresses}) == 2
