import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from retort.corpus.downloads import base_name, cached_path, download, is_address
from retort.errors import RetortError

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


def test_addresses_and_names():
    assert is_address("https://example.org/a")
    assert not is_address("data/a.gz")
    assert base_name("https://example.org/some%20dir/a%20b.gz?x=1/2") == "a b.gz"
    assert base_name("data/a.gz") == "a.gz"
    with pytest.raises(RetortError, match="expected an http or https address"):
        is_address("ftp://example.org/a")
