"""``retort serve`` and the signals that end it, as a process, with a made-up system."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# a thread that waits for standard input stands for one within an engine
PROGRAM = """
import signal, sys
from types import SimpleNamespace
from retort import cli
from retort.runtime import opening
from retort.runtime.system import Output

class Slow:
    engine, precision, batch_size, vocabulary = "onnx", "int8", 1, SimpleNamespace(target_pieces=[])

    def translate(self, texts, batch_size):
        print("decoding", flush=True)
        sys.stdin.readline()
        return [Output(text.upper(), [], False, 1) for text in texts]

signal.signal(signal.SIGINT, signal.default_int_handler)
opening.open_system = lambda *_, **__: Slow()
cli.serve.SECONDS_TO_FINISH = float(sys.argv.pop(1))
cli.main()
"""


@contextmanager
def served(seconds: float) -> Iterator[tuple[subprocess.Popen[str], HTTPConnection]]:
    """A server that waits so long when it is asked to end, and a client whose request is being decoded."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds), "serve", "model", "--port", "0"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        port = int(process.stdout.readline().rsplit(":", 1)[1].split("/")[0])
        client = HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("POST", "/translate", json.dumps({"texts": ["a"]}), {"Content-Type": "application/json"})
        assert process.stdout.readline() == "decoding\n"
        try:
            yield process, client
        finally:
            client.close()
            process.kill()


def wait_until_closed(port: int) -> None:
    """Until nobody listens any more: the first signal has come."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass  # it came as the port was being closed
        time.sleep(0.02)
    raise AssertionError("still listens")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_what_is_being_decoded_is_answered(number: signal.Signals, status: int) -> None:
    with served(seconds=30) as (process, client):
        process.send_signal(number)
        wait_until_closed(client.port)
        _, errors = process.communicate("\n", timeout=30)
        answer = client.getresponse()
        assert answer.status == 200 and json.load(answer)["translations"][0]["text"] == "A"
        assert process.returncode == status and errors.count("\n") == 1 and '" 200 -' in errors


def test_what_takes_too_long_is_lost_without_a_crash() -> None:
    with served(seconds=0.05) as (process, client):
        process.terminate()
        assert process.wait(30) == 0
        with pytest.raises((RemoteDisconnected, ConnectionResetError)):
            client.getresponse()
        assert process.stderr and process.stderr.read().startswith("warning: retort: requests were not answered")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_second_signal_does_not_wait(number: signal.Signals, status: int) -> None:
    with served(seconds=100) as (process, client):
        process.send_signal(number)
        wait_until_closed(client.port)
        process.terminate()
        assert process.wait(30) == status
