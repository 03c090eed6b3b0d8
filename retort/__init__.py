"""Retort distils a slow autoregressive sequence generator into fast students.

    import retort

    print(retort.load("ctc").translate("A dog runs.").text)

The Python interface is that of ``retort.runtime.translator``; it is imported where it is first used. Its names and
types are in ``__init__.pyi``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"
__all__ = [
    "Hypothesis",
    "Latency",
    "RetortError",
    "TextTranslation",
    "Token",
    "Translation",
    "Translator",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'retort' has no attribute {name!r}")
    return getattr(import_module("retort.errors" if name == "RetortError" else "retort.runtime.translator"), name)
