"""What callers of the Python interface give, checked before anything is done with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from retort.data.limits import MOST_THREADS
from retort.errors import RetortError

PRECISIONS, DEVICES = ("float32", "bfloat16"), ("cpu", "cuda")
_HALF = re.compile("[\ud800-\udfff]")


def checked_texts(texts: Any) -> list[str]:
    """The texts. Raises RetortError for what is none, and for half of a surrogate pair, which is no character."""
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise RetortError(f"texts: {type(texts).__name__}, expected a string, or several")
    given = [texts] if isinstance(texts, str) else list(texts)
    for number, text in enumerate(given, start=1):
        if not isinstance(text, str):
            raise RetortError(f"text {number}: {type(text).__name__}, expected a string")
        if found := _HALF.search(text):
            raise RetortError(f"text {number}: half of a surrogate pair at {found.start()}, which is no character")
    return given


def check_counts(**counts: Any) -> None:
    """Raises RetortError for what is no whole number from 1 on."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise RetortError(f"{name}: {value!r:.80}, expected a whole number")
        if value < 1:
            raise RetortError(f"{name}: {value} is below 1")


def check_opening(path: Any, search: Any, precision: Any, device: Any, teacher: Any, **threads: Any) -> None:
    """Raises RetortError for what cannot open a system. ``threads``: numbers of threads, by name."""
    _check_path(path, "")
    if teacher is not None:
        _check_path(teacher, "teacher: ")
    if search is not None and not isinstance(search, str | Mapping):
        raise RetortError(f"search: {search!r:.80}, expected text, or a section of the configuration")
    check_counts(**threads)
    for name, value in threads.items():
        if value > MOST_THREADS:
            raise RetortError(f"{name}: {value} is above {MOST_THREADS}; use as many as there are processors")
    for name, value, known in (("precision", precision, PRECISIONS), ("device", device, DEVICES)):
        if value is not None and value not in known:
            raise RetortError(f"{name}: {value!r:.80}, expected {' or '.join(known)}")


def _check_path(path: Any, what: str) -> None:
    if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in str(path):
        raise RetortError(f"{what}{path!r:.80}: expected the path of a directory with a system")
