"""Writes the graphs of a model, whatever its family."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from retort.config import ObjectiveSection
from retort.data.files import write_bytes
from retort.data.vocabulary import Vocabulary
from retort.export.onnx.exported import Exported
from retort.export.precision import Precision
from retort.models.base import EncoderDecoder

PACKAGES = ("onnx", "onnxruntime")
"""What reads or writes the graphs."""


def searches(objective: ObjectiveSection) -> tuple[str, ...]:
    """The searches of an objective that numpy and graphs can do."""
    return tuple(kind for kind in type(objective).searches() if find_spec(f"retort.runtime.search.{kind}"))


def write(
    model: EncoderDecoder, family: str, vocabulary: Vocabulary, directory: Path, precision: Precision
) -> dict[str, Any]:
    """Write the graphs into a directory; returns what the runtime needs to know besides."""
    exported: Exported = import_module(f"retort.export.onnx.{family}").export(model, precision)
    for name, graph in exported.graphs.items():
        write_bytes(directory / name, graph.SerializeToString())
    return {"graphs": list(exported.graphs), **exported.facts}
