"""Names of the engines that run systems. Exported systems run without the packages of the configuration, which has
these names too.
"""

from __future__ import annotations

from typing import Literal, get_args

ExportEngine = Literal["onnx", "ctranslate2"]
"""Engines that systems are exported to: each is a module or package below ``retort.export``, as of its
``base.Exporter``, and a module ``retort.runtime.<name>_engine`` with ``open_bundle``."""
Engine = Literal["torch", ExportEngine]

EXPORT_ENGINES: tuple[ExportEngine, ...] = get_args(ExportEngine)
ENGINES: tuple[Engine, ...] = get_args(Engine)
