"""Turns pydantic's errors into lines a user can act on: the path of the key, what is wrong, and what would be right."""

from __future__ import annotations

import difflib
import re
import reprlib
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from retort.config.addresses import redacted
from retort.config.base import meanings
from retort.config.completion import SHARED_SECTIONS

PATHS_OF_SYSTEMS = (("em", "student"), ("em", "teacher"), ("pretraining", "system"))
"""Systems besides the teacher and the students."""


SHAPES = {
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "dict_type": "a mapping of names",
    "list_type": "a list, such as [1, 2]",
    "tuple_type": "a list, such as [1, 2]",
    "finite_number": "a finite number",
}
"""What pydantic expected, by the kind of its error."""


class Problem(NamedTuple):
    """One thing that is wrong: where (students.ctc.training.dropout) and what."""

    path: str
    message: str


def problems_of(details: Iterable[Mapping[str, Any]], raw: Mapping[str, Any], model: type[BaseModel]) -> list[Problem]:
    """The problems in pydantic's errors, each once.

    ``raw`` is what the user wrote. A problem of the shared model and training sections, which every system inherits,
    is reported where it was written and not again for each system.
    """
    problems: list[Problem] = []
    for detail in details:
        if not _is_inherited(detail["loc"], raw):
            keys, section = traced(detail["loc"], model)
            path = path_of(keys)
            problems.append(_explain(path, section, dict(detail)))
    shared = {problem for problem in problems if problem.path.split(".")[0] in SHARED_SECTIONS}
    return [
        problem
        for problem in dict.fromkeys(problems)
        if problem._replace(path=_section_of_system(problem.path) or "") not in shared
    ]


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint: the valid name nearest to ``name``, or all of them when none is near, or that there is none."""
    valid = [str(v) for v in valid]
    if not valid:
        return "there is none"
    near = near_name(name, valid)
    return f"did you mean {near}?" if near is not None else f"valid: {', '.join(valid)}"


def near_name(name: str, valid: Iterable[str]) -> str | None:
    """The valid name nearest to ``name``; None when none is near."""
    by_lower = {str(v).lower(): str(v) for v in valid}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def meant_list(detail: Mapping[str, Any]) -> list[Any] | None:
    """The list that was probably meant by a text or number where pydantic expected one; None for other errors."""
    value = detail.get("input")
    if detail["type"] not in ("list_type", "tuple_type") or not isinstance(value, bool | int | float | str):
        return None
    return re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else [value]


def expected_values(kind: str, context: Mapping[str, Any]) -> list[str]:
    """The values that pydantic expected, for an error of the kind literal_error or union_tag_invalid."""
    return _unquoted(context["expected_tags" if kind == "union_tag_invalid" else "expected"])


def _is_inherited(location: tuple[Any, ...], raw: Mapping[str, Any]) -> bool:
    """Whether the key at ``location`` belongs to a system but was written in the top-level section."""
    depth = _depth_of_system(location)
    if not depth or len(location) < depth + 2:
        return False
    section, key = location[depth : depth + 2]
    if section not in SHARED_SECTIONS:
        return False
    own, shared = _written(raw, *location[:depth], section), _written(raw, section)
    return isinstance(own, dict) and key not in own and isinstance(shared, dict) and key in shared


def _depth_of_system(location: tuple[Any, ...]) -> int:
    """Number of keys that lead to a system, as in students.NAME; 0 for other locations."""
    if location[:1] == ("teacher",):
        return 1
    in_students = location[:1] == ("students",) and len(location) > 1
    return 2 if in_students or location[:2] in PATHS_OF_SYSTEMS else 0


def _written(raw: Any, *keys: Any) -> Any:
    """What the user wrote at ``keys``; an empty section where there is nothing."""
    for key in keys:
        raw = (raw.get(key) or {}) if isinstance(raw, dict) else None
    return raw


def _section_of_system(path: str) -> str | None:
    """The shared section, such as training, that a system's ``path`` ends with."""
    parts = path.split(".")
    in_system = _depth_of_system(tuple(parts)) > 0
    return parts[-1] if in_system and parts[-1] in SHARED_SECTIONS else None


def _members(annotation: Any) -> list[Any]:
    """Members of a union without None; the annotation itself otherwise."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for a in get_args(annotation) if a is not type(None) for m in _members(a)]
    return [annotation]


def tag_at(keys: Iterable[str], model: type[BaseModel]) -> str | None:
    """The key whose value selects one of several sections at ``keys``, such as ``name`` for an objective; None where no
    key does."""
    members: list[Any] = [model]
    for key in keys:
        members = [inner for member in members for inner in _members(_step(member, key)[1])]
    sections = [member for member in members if _is_section(member)]
    tags = {_tag_key(section) for section in sections}
    return tags.pop() if len(sections) > 1 and len(tags) == 1 else None


def _tag_key(section: Any) -> str | None:
    """The key, ``name`` or ``kind``, that selects this section in a union."""
    fields = section.model_fields if _is_section(section) else {}
    return next((key for key in ("name", "kind") if key in fields and len(get_args(fields[key].annotation)) == 1), None)


def _tag(section: Any) -> str | None:
    """The value of that key."""
    key = _tag_key(section)
    return str(get_args(section.model_fields[key].annotation)[0]) if key else None


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def path_of(keys: Iterable[str | int]) -> str:
    """Keys and numbers of list elements as a user would write them: a.b[0]."""
    path = ""
    for key in keys:
        path = f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}" if path else key
    return path


def traced(location: Iterable[Any], model: type[BaseModel]) -> tuple[list[str | int], type[BaseModel] | None]:
    """The keys that lead to pydantic's ``location``, and the section that the last of them belongs to."""
    keys: list[str | int] = []
    annotation: Any = model
    section: type[BaseModel] | None = None
    for key in location:
        members = _members(annotation)
        chosen = [member for member in members if len(members) > 1 and _tag(member) == key]
        if chosen:
            # pydantic names the chosen member of a union, which is no key
            annotation = section = chosen[0]
        elif isinstance(key, int):
            keys.append(key)
            annotation = (get_args(members[0]) or (None,))[0]
        elif key != "[key]":
            keys.append(str(key))
            section, annotation = _step(members[0], str(key))
    return keys, section


def _step(annotation: Any, key: str) -> tuple[type[BaseModel] | None, Any]:
    """The section that ``key`` belongs to within ``annotation``, and the annotation of its value."""
    if _is_section(annotation):
        field = annotation.model_fields.get(key)
        return annotation, field.annotation if field else None
    if get_origin(annotation) is dict:
        return None, get_args(annotation)[1]
    return None, None


def _explain(path: str, section: type[BaseModel] | None, detail: dict[str, Any]) -> Problem:
    """A problem in words. ``section`` is the one that the last key of ``path`` belongs to."""
    kind, context, value = detail["type"], detail.get("ctx", {}), detail.get("input")
    key = path.rpartition(".")[2]
    if kind == "extra_forbidden":
        return Problem(path, f"unknown key; {nearest(key, section.model_fields if section else ())}")
    if kind == "missing":
        return Problem(path, f"missing; it must be given{_meaning(section, key)}")
    if kind == "union_tag_not_found":
        return Problem(f"{path}.{_unquoted(context['discriminator'])[0]}", "missing; it must be given")
    if kind == "union_tag_invalid":
        hint = nearest(context["tag"], expected_values(kind, context))
        return Problem(f"{path}.{_unquoted(context['discriminator'])[0]}", f"unknown value {context['tag']!r}; {hint}")
    if kind == "literal_error":
        return Problem(path, f"unknown value {value!r}; {nearest(str(value), expected_values(kind, context))}")
    if kind == "string_pattern_mismatch":
        rule = "letters, digits, '.', '_' and '-', the first a letter or a digit"
        if "a-f" in str(context.get("pattern")):
            rule = "64 hexadecimal digits"
        elif "http" in str(context.get("pattern")):
            rule = "an address that begins with http:// or https://"
        return Problem(path, f"{shown(value)} is not allowed here; use {rule}")
    if kind == "value_error":
        return Problem(path, str(context["error"]))
    if (meant := meant_list(detail)) is not None:
        return Problem(path, f"must be a list, such as {shown(meant)}, found {shown(value)}")
    if kind == "dict_type" and value is None and section:
        dropped = "leave it out, or drop an entry of an earlier file by {NAME: null}"
        return Problem(path, f"must be {SHAPES[kind]}, found nothing; {dropped}")
    if kind in SHAPES:
        return Problem(path, f"must be {SHAPES[kind]}, found {shown(value)}")
    if kind == "string_type" and isinstance(value, bool | int | float):
        return Problem(path, f'must be text, found {shown(value)}; quote it: "..."')
    if kind == "too_short":
        return Problem(path, f"must have at least {context['min_length']}, found {shown(value)}")
    if kind == "string_too_long":
        return Problem(path, f"has {len(str(value))} characters; use at most {context['max_length']}")
    message = detail["msg"].replace("Input should be a", "must be a").replace("Input should be", "must be")
    return Problem(path, f"{message}, found {shown(value)}")


def _meaning(section: type[BaseModel] | None, key: str) -> str:
    meaning = meanings(section).get(key) if section else None
    return f": {' '.join(meaning.split())}" if meaning else ""


def _unquoted(names: Any) -> list[str]:
    """The names in pydantic's list of them: "'a', 'b' or 'c'"."""
    return [name.strip().strip("'") for name in str(names).replace(" or ", ", ").split(",")]


class _Bounded(reprlib.Repr):
    """Short forms of values of any size and depth, without credentials."""

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) < 10**30 else "an integer of more than 30 digits"

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(redacted(x), level)


_BOUNDED = _Bounded()
_BOUNDED.maxlevel, _BOUNDED.maxdict, _BOUNDED.maxstring, _BOUNDED.maxother = 4, 6, 80, 80


def shown(value: Any) -> str:
    """A value in at most 60 characters, whatever its size, without credentials."""
    return bounded("nothing" if value is None else _BOUNDED.repr(value), 60)


def bounded(text: str, longest: int = 200) -> str:
    """At most so many characters of a text."""
    return text if len(text) <= longest else text[: longest - 3] + "..."
