"""What every engine that systems are exported to offers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from retort.config import Model, ObjectiveSection
from retort.data.vocabulary import Vocabulary
from retort.engines import ExportEngine
from retort.export.precision import Precision
from retort.export.shortlist import Shortlist
from retort.models.base import EncoderDecoder


class Exporter(Protocol):
    """The module or package ``retort/export/<engine>``."""

    TITLE: str
    """What the engine is called."""
    PACKAGES: tuple[str, ...]
    """What reads or writes the model; a bundle names their versions."""
    IS_EXACT: bool
    """Whether float32 weights without a shortlist give torch's outputs, so that an export which changes one is
    refused."""

    def searches(self, objective: ObjectiveSection) -> tuple[str, ...]:
        """Kinds of the searches of an objective that the engine has; none if it cannot run the models."""

    def unsupported(self, objective: ObjectiveSection, model: Model) -> str | None:
        """Why the engine cannot run the models of a checkpoint's description, whatever the search; None: it can."""

    def write(
        self,
        model: EncoderDecoder,
        vocabulary: Vocabulary,
        directory: Path,
        precision: Precision,
        shortlist: Shortlist | None = None,
    ) -> dict[str, Any]:
        """Write a model, and the shortlist, into a directory; returns what the runtime needs to know besides.

        Raises RetortError for a model that the engine cannot run, or if a package is not installed.
        """

    def caveat(self, search: Mapping[str, Any]) -> str | None:
        """In one sentence, how outputs of a search can differ whatever the precision; None: in no way."""


def exporter_of(engine: ExportEngine) -> Exporter:
    """The module of an engine."""
    return cast("Exporter", import_module(f"retort.export.{engine}"))
