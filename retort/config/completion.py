"""Completion of a raw configuration: every system gets the keys that it leaves out.

Nothing is validated here. What is no section stays as it is, so that the validation can name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from retort.config.corpus import CORPORA
from retort.config.metrics import LEADING_METRICS
from retort.config.objective_base import BY_NAME
from retort.config.objectives import objective_named
from retort.config.search import SearchSection
from retort.config.tokenizers import Tokenizer

SHARED_SECTIONS = ("model", "training")
"""Sections of the top level that every system starts from, key by key."""

Searches = Callable[[Mapping[str, Any]], dict[str, SearchSection]]
"""Searches by name for an objective's section, which may be invalid."""


def complete(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A raw configuration in which every system is complete, unvalidated."""
    whole = {"em": {}, **raw}
    scoring = _scoring(raw)
    if scoring and _is_section(raw.get("training")):
        whole["training"] = {**scoring, **_keys(raw.get("training"))}
    if isinstance(raw.get("corpus"), dict):
        whole["corpus"] = with_kind(raw["corpus"])
    if "teacher" in whole:
        whole["teacher"] = _completed(whole["teacher"], whole)
    if isinstance(whole.get("students"), dict):
        whole["students"] = {name: _completed(system, whole) for name, system in whole["students"].items()}
    if isinstance(whole.get("pretraining"), dict):
        whole["pretraining"] = _completed_pretraining(whole["pretraining"], whole)
    if isinstance(whole["em"], dict):
        whole["em"] = _completed_em(whole["em"], whole)
    return whole


def leading_metric(raw: Mapping[str, Any]) -> str | None:
    """The first of the metrics in a raw configuration; None where they cannot be read."""
    metrics = _keys(raw.get("evaluation")).get("metrics")
    first = metrics[0] if isinstance(metrics, list) and metrics else None
    return first if first in LEADING_METRICS else None


def _scoring(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of training that follow from the section evaluation; what is not valid there is left out."""
    tokenizer = _keys(raw.get("evaluation")).get("tokenizer")
    valid = isinstance(tokenizer, str) and tokenizer in get_args(Tokenizer)
    keys = {"select_by": leading_metric(raw), "tokenizer": tokenizer if valid else None}
    return {key: value for key, value in keys.items() if value}


def default_searches(objective: Mapping[str, Any]) -> dict[str, SearchSection]:
    """The usual searches of an objective."""
    declared = objective_named(objective.get("name"))
    return declared.default_searches(objective) if declared else {}


def _em_searches(objective: Mapping[str, Any]) -> dict[str, SearchSection]:
    """The same of a student of the EM loop."""
    declared = objective_named(objective.get("name"))
    return dict(declared.em_searches) if declared and declared.em_searches else default_searches(objective)


def _em_searches_without_teacher(objective: Mapping[str, Any]) -> dict[str, SearchSection]:
    """Those of them that no teacher of the run has a part in."""
    return {name: search for name, search in _em_searches(objective).items() if not search.needs_teacher}


def _completed(system: Any, start: Any, searches: Searches = default_searches) -> Any:
    """A system with the keys of ``start``'s shared sections that it leaves out, and with searches."""
    if not isinstance(system, dict) or not isinstance(start, dict):
        return system
    result = dict(system)
    for name in SHARED_SECTIONS:
        if _is_section(start.get(name)) and _is_section(system.get(name)):
            result[name] = {**_keys(start.get(name)), **_keys(system.get(name))}
    objective = BY_NAME.expanded(system.get("objective"))
    if objective is not None:
        result["objective"] = objective
    if isinstance(objective, dict) and not system.get("searches"):
        result["searches"] = searches(objective)
    return result


def _completed_pretraining(section: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Pre-training validates by its loss and starts from random weights, whatever other systems do."""
    if not _is_section(section.get("system")):
        return section
    fixed = {"select_by": "loss", "decode_sentences": 0, "warm_start": "none"}
    start = {**whole, "training": {**_keys(whole.get("training")), **fixed}}
    system = {"objective": {"name": "bart_janus"}, "data": "monolingual", **_keys(section.get("system"))}
    return {**section, "system": _completed(system, start)}


def _completed_em(section: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """The loop's students start from the shared sections, its autoregressive systems from the teacher."""
    searches = _em_searches_without_teacher if whole.get("teacher") is None else _em_searches
    student = _with_objective(section.get("student", {}), "vanilla")
    teacher = _with_objective(section.get("teacher", {}), "autoregressive")
    return {
        **section,
        "student": _completed(student, whole, searches),
        "teacher": _completed(teacher, whole.get("teacher")),
    }


def with_kind(corpus: Mapping[str, Any]) -> Mapping[str, Any]:
    """The corpus with the kind that its keys say; as it is where they do not say it."""
    kinds = [kind for kind in CORPORA if (needed := kind.required_keys()) and needed <= corpus.keys()]
    return {"kind": kinds[0].only_value("kind"), **corpus} if len(kinds) == 1 else corpus


def _with_objective(system: Any, name: str) -> Any:
    return {"objective": {"name": name}, **system} if isinstance(system, dict) else system


def _is_section(value: Any) -> bool:
    """Whether a value can be a section; one that is null or left out is empty."""
    return not value or isinstance(value, dict)


def _keys(section: Any) -> dict[str, Any]:
    return section if isinstance(section, dict) else {}
