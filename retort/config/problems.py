"""Turns pydantic's errors into lines a user can act on: the path of the key, what is wrong, and what would be right."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

SHARED_SECTIONS = ("model", "training")


class Problem(NamedTuple):
    """One thing that is wrong: where (students.ctc.training.dropout) and what."""

    path: str
    message: str


def problems_of(error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel]) -> list[Problem]:
    """The problems in ``error``, each once.

    ``raw`` is what the user wrote. A problem of the shared model and training sections, which every system inherits,
    is reported where it was written and not again for each system.
    """
    problems: list[Problem] = []
    for detail in error.errors():
        location = detail["loc"]
        if _is_inherited(location, raw):
            continue
        path, parent = _trace(location, model)
        problem = Problem(*_explain(path, parent, dict(detail)))
        if problem not in problems:
            problems.append(problem)
    top = {(p.path, p.message) for p in problems if p.path.split(".")[0] in SHARED_SECTIONS}
    return [p for p in problems if not ((section := _section_of_system(p.path)) and (section, p.message) in top)]


def nearest(found: str, valid: Iterable[str]) -> str:
    """A hint: the valid name nearest to ``found``, or all of them when none is near."""
    valid = [str(v) for v in valid]
    by_lower = {v.lower(): v for v in valid}
    close = difflib.get_close_matches(str(found).lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[close[0]]}?" if close else f"valid: {', '.join(valid)}"


def _is_inherited(location: tuple[Any, ...], raw: Mapping[str, Any]) -> bool:
    """Whether the key at ``location`` lies in a system's section but was written in the top-level one."""
    system: Any
    if location[:1] == ("teacher",):
        system, rest = raw.get("teacher"), location[1:]
    elif location[:1] == ("students",) and len(location) > 1:
        students = raw.get("students")
        system, rest = students.get(location[1]) if isinstance(students, dict) else None, location[2:]
    elif location[:1] == ("em",) and len(location) > 1 and location[1] in ("student", "teacher"):
        em = raw.get("em")
        system, rest = em.get(location[1]) if isinstance(em, dict) else None, location[2:]
    else:
        return False
    if len(rest) < 2 or rest[0] not in SHARED_SECTIONS:
        return False
    own, shared = (system or {}).get(rest[0]) or {}, raw.get(rest[0]) or {}
    return isinstance(own, dict) and rest[1] not in own and isinstance(shared, dict) and rest[1] in shared


def _section_of_system(path: str) -> str | None:
    parts = path.split(".")
    for section in SHARED_SECTIONS:
        if parts[-1] == section and parts[0] in ("teacher", "students", "em"):
            return section
    return None


def _members(annotation: Any) -> list[Any]:
    """Members of a union without None; the annotation itself otherwise."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for a in get_args(annotation) if a is not type(None) for m in _members(a)]
    return [annotation]


def _tag(section: Any) -> str | None:
    """The value of ``name`` or ``kind`` that selects this section in a union."""
    for key in ("name", "kind"):
        field = section.model_fields.get(key) if _is_section(section) else None
        values = get_args(field.annotation) if field else ()
        if len(values) == 1:
            return str(values[0])
    return None


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _trace(location: tuple[Any, ...], model: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """The path a user would write for pydantic's ``location``, and the section its last key belongs to."""
    path = ""
    annotation: Any = model
    parent: type[BaseModel] | None = None
    for key in location:
        members = _members(annotation)
        if len(members) > 1 and all(_is_section(m) for m in members):
            chosen = [m for m in members if _tag(m) == key]
            if chosen:
                annotation = parent = chosen[0]
                continue
        current = members[0] if members else None
        if isinstance(key, int):
            path += f"[{key}]"
            annotation = (get_args(current) or (None,))[0]
            continue
        if key == "[key]":
            continue
        path = f"{path}.{key}" if path else str(key)
        if current is not None and _is_section(current):
            parent = current
            field = current.model_fields.get(str(key))
            annotation = field.annotation if field else None
        elif get_origin(current) is dict:
            parent, annotation = None, get_args(current)[1]
        else:
            annotation = None
    return path, parent


def _explain(path: str, parent: type[BaseModel] | None, detail: dict[str, Any]) -> tuple[str, str]:
    kind, context, found = detail["type"], detail.get("ctx", {}), detail.get("input")
    key = path.rpartition(".")[2]
    if kind == "extra_forbidden":
        return path, f"unknown key; {nearest(key, parent.model_fields if parent else ())}"
    if kind == "missing":
        field = parent.model_fields.get(key) if parent else None
        meaning = f": {' '.join(field.description.split())}" if field is not None and field.description else ""
        return path, f"missing; it must be given{meaning}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag_key = str(context["discriminator"]).strip("'")
        inside = f"{path}.{tag_key}"
        if kind == "union_tag_not_found":
            return inside, "missing; it must be given"
        tags = [t.strip().strip("'") for t in str(context["expected_tags"]).split(",")]
        return inside, f"unknown value {context['tag']!r}; {nearest(context['tag'], tags)}"
    if kind == "literal_error":
        values = [v.strip().strip("'") for v in str(context["expected"]).replace(" or ", ", ").split(",")]
        return path, f"unknown value {found!r}; {nearest(str(found), values)}"
    if kind == "string_pattern_mismatch":
        rule = "letters, digits, '.', '_' and '-', the first a letter or a digit"
        if "a-f" in str(context.get("pattern")):
            rule = "64 hexadecimal digits"
        return path, f"{_short(found)} is not allowed here; use {rule}"
    if kind == "value_error":
        return path, str(context["error"])
    message = detail["msg"].replace("Input should be a", "must be a").replace("Input should be", "must be")
    return path, f"{message}, found {_short(found)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
