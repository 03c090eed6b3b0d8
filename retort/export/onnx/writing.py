"""Writes the graphs of a model, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from retort.config import Model, ObjectiveSection
from retort.data.files import write_bytes
from retort.data.vocabulary import BLANK, Vocabulary
from retort.export.onnx.exported import Exported
from retort.export.onnx.graph import Form
from retort.export.precision import Precision
from retort.export.shortlist import Shortlist
from retort.models.base import EncoderDecoder
from retort.runtime.candidates import Candidates
from retort.runtime.names import SHORTLIST

TITLE = "ONNX Runtime"
PACKAGES = ("onnx", "onnxruntime")
IS_EXACT = True


def searches(objective: ObjectiveSection) -> tuple[str, ...]:
    """The searches of an objective that numpy and graphs can do; none where no module writes its family."""
    if not find_spec(f"retort.export.onnx.{objective.family}"):
        return ()
    return tuple(kind for kind in type(objective).searches() if find_spec(f"retort.runtime.search.{kind}"))


def unsupported(objective: ObjectiveSection, model: Model) -> str | None:
    """Families without a module here: those that decode from left to right alone."""
    return None if searches(objective) else f"{TITLE} has no graphs of the family {objective.family}"


def caveat(search: Mapping[str, Any]) -> str | None:
    """None: the searches are torch's, step by step."""
    return None


def write(
    model: EncoderDecoder,
    vocabulary: Vocabulary,
    directory: Path,
    precision: Precision,
    shortlist: Shortlist | None = None,
) -> dict[str, Any]:
    """Write the graphs, and the shortlist, into a directory; returns what the runtime needs to know besides."""
    form = Form(precision, shortlist is not None)
    exported: Exported = import_module(f"retort.export.onnx.{model.family}").export(model, form)
    for name, graph in exported.graphs.items():
        write_bytes(directory / name, graph.SerializeToString())
    if shortlist:
        special = [i for i in range(BLANK + 1) if i not in exported.facts["forbidden"]]
        candidates = Candidates.of_rows([np.union1d(shortlist.frequent, special), *shortlist.by_source])
        write_bytes(directory / SHORTLIST, candidates.to_bytes())
    return {"graphs": list(exported.graphs), **exported.facts}
