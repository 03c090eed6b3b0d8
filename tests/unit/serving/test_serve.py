"""What ``retort serve`` makes of its arguments."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retort import cli
from retort.cli import serve
from retort.errors import RetortError
from retort.runtime import opening
from retort.serving import server


def test_requests_at_once_are_calls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, Any] = {}

    def open_system(*_: Any, **options: Any) -> Any:
        opened.update(options)
        raise RetortError("enough")

    monkeypatch.setattr(opening, "open_system", open_system)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    args = cli.parser().parse_args(["serve", "model", "--at-once", "3"])
    with pytest.raises(RetortError, match="enough"):
        args.call(args)
    assert opened["at_once"] == 3


def test_every_option_reaches_the_system_or_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def open_system(*arguments: Any, **options: Any) -> Any:
        given["system"] = (arguments, options)
        return SimpleNamespace(vocabulary=SimpleNamespace(target_pieces=[]), batch_size=1)

    def served(*arguments: Any) -> None:
        given["server"] = arguments
        raise RetortError("enough")

    monkeypatch.setattr(opening, "open_system", open_system)
    monkeypatch.setattr(server, "Server", served)
    monkeypatch.setattr(serve, "chosen_search", lambda args: args.search)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    options = "--host ::1 --port 8 --threads 2 --at-once 3 --max-bytes 40 --max-texts 5 --device cpu --batch-size 7"
    args = cli.parser().parse_args(["serve", "model", *options.split(), "--search", '{"kind": "greedy"}'])
    with pytest.raises(RetortError, match="enough"):
        args.call(args)
    (model, search, threads), others = given["system"]
    assert (model, search, threads, others) == (Path("model"), args.search, 2, {"device": "cpu", "at_once": 3})
    host, port, translator, limits = given["server"]
    assert translator._system.batch_size == 7
    assert (host, port, limits) == ("::1", 8, server.Limits(bytes=40, texts=5, at_once=3))
    assert cli.parser().parse_args(["serve", "model"]).host == "127.0.0.1"


def test_an_interrupt_that_a_shell_has_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr("signal.getsignal", lambda n: signal.SIG_IGN if n == signal.SIGINT else signal.SIG_DFL)
    monkeypatch.setattr("signal.signal", lambda number, _: taken.append(number))
    serve._at_signals(sys.exit)
    assert taken == [signal.SIGTERM]
