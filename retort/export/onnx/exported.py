"""What a model family gives to a bundle for ONNX Runtime."""

from __future__ import annotations

from typing import Any, NamedTuple

import onnx


class Exported(NamedTuple):
    """The graphs of a model."""

    graphs: dict[str, onnx.ModelProto]
    """By file name."""
    facts: dict[str, Any]
    """What its searches need to know besides; ``forbidden`` ids have no column in the graphs' scores."""
