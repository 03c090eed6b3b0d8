"""What ``retort serve`` makes of its arguments."""

from __future__ import annotations

from typing import Any

import pytest

from retort import cli
from retort.errors import RetortError
from retort.runtime import opening


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
