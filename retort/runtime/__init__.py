"""Translating with a trained or exported system: one interface to all engines.

    from retort.runtime import open_system

    system = open_system("bundle")
    print(system.translate(["A dog runs."])[0].text)

Opening an exported bundle imports numpy, sentencepiece and the bundle's engine, and nothing else of weight.
"""

from __future__ import annotations

from retort.runtime.opening import open_system
from retort.runtime.system import System

__all__ = ["System", "open_system"]
