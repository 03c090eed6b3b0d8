"""Graphs of JANUS's parallel mode, which is an ordinary model of the parallel family."""

from __future__ import annotations

from retort.export.onnx.parallel import export

__all__ = ["export"]
