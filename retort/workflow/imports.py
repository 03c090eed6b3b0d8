"""Names of the modules that are imported by a name of the configuration, which no import statement shows.

The digest of a job's code needs them: without them an edit of a model, an objective, a search, a metric or a kind of
corpus would run nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from retort.config import Distillation, Metric, ObjectiveSection, SearchSection, System, metric_named
from retort.engines import EXPORT_ENGINES, Engine
from retort.models.families import family_module


def objective_module(objective: ObjectiveSection) -> str:
    """Module of an objective."""
    return f"retort.objectives.{objective.name}"


def search_module(search: SearchSection) -> str:
    """Module of a search."""
    return f"retort.search.{search.kind}"


def decoding_modules(settings: Distillation, search: SearchSection | None = None) -> set[str]:
    """Modules that decode training text besides the model: the search (default: the section's) and the engine."""
    modules = {search_module(search or settings.search)}
    return modules | {settings.engine_module} if settings.engine_module else modules


def model_module(system: System) -> str:
    """Module of the family of a system's model."""
    return family_module(system.objective, system.model)


def metric_modules(metrics: Iterable[Metric]) -> set[str]:
    """Modules of metrics."""
    return {metric_named(metric).module for metric in metrics}


def training_modules(system: System) -> set[str]:
    """Modules of a training: the model, the objective, and for validation the first search and the metrics."""
    search = next(iter(system.searches.values()))
    modules = {model_module(system), objective_module(system.objective), search_module(search)}
    return modules | metric_modules(system.training.validation_metrics)


def scoring_modules(system: System) -> set[str]:
    """Modules of a system that scores text with its objective."""
    return {model_module(system), objective_module(system.objective)}


def engine_modules(engine: Engine, systems: Iterable[System]) -> set[str]:
    """Modules that export systems to an engine and run them there."""
    modules = {f"retort.runtime.{engine}_engine"}
    if engine in EXPORT_ENGINES:
        modules.add(f"retort.export.{engine}")
    if engine == "onnx":
        for system in systems:
            kinds = {search.kind for search in system.searches.values()}
            searches = {name for kind in kinds if find_spec(name := f"retort.runtime.search.{kind}")}
            if searches and find_spec(family := f"retort.export.onnx.{system.objective.family}"):
                modules |= {*searches, family}
    return modules
