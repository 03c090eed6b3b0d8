"""Graphs for ONNX Runtime, written node by node from a model's weights; one module per model family."""

from __future__ import annotations

from retort.export.onnx.writing import IS_EXACT, PACKAGES, TITLE, caveat, searches, unsupported, write

__all__ = ["IS_EXACT", "PACKAGES", "TITLE", "caveat", "searches", "unsupported", "write"]
