"""A broken configuration with what was probably meant, so that problems behind the first ones are found as well.

Only what is nearly sure is replaced: a misspelled key or value by the nearest one, a number that is meant as text, a
value that is meant as a list. What else is wrong stays, and checks that depend on it are skipped.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from retort.config.problems import expected_values, meant_list, near_name, traced

Details = Sequence[Mapping[str, Any]]


def with_names_corrected(whole: dict[str, Any], details: Details, model: type[BaseModel]) -> dict[str, Any]:
    """A copy of a configuration in which each unknown key or value of pydantic's errors is the nearest known one.

    An unknown key that is near to none is left out.
    """
    result = copy.deepcopy(whole)
    for detail in details:
        keys, section = traced(detail["loc"], model)
        kind, context = detail["type"], detail.get("ctx", {})
        if kind == "union_tag_invalid":
            keys = [*keys, str(context["discriminator"]).strip("'")]
        parent = _at(result, keys[:-1])
        if not keys or parent is None:
            continue
        key = keys[-1]
        if kind == "extra_forbidden" and isinstance(parent, dict) and key in parent:
            value, name = parent.pop(key), near_name(str(key), section.model_fields if section else ())
            if name is not None:
                parent.setdefault(name, value)
        elif kind in ("union_tag_invalid", "literal_error"):
            name = near_name(str(parent[key]), expected_values(kind, context))
            if name is not None:
                parent[key] = name
        elif kind == "string_type" and isinstance(detail["input"], int | float):
            parent[key] = str(detail["input"])
        elif (meant := meant_list(detail)) is not None:
            parent[key] = meant
    return result


def without_broken_sections(whole: dict[str, Any], details: Details, model: type[BaseModel]) -> dict[str, Any]:
    """A copy in which each section that has an error counts as valid, so that those around it are checked, too."""
    result = copy.deepcopy(whole)
    for detail in details:
        if detail["loc"][-1:] == ("[key]",):
            # a wrong name; what has it may be right
            continue
        keys, owner = traced((*detail["loc"], "?"), model)
        value, parent = _at(result, keys[:-1]), _at(result, keys[:-2])
        if owner is None or not isinstance(value, dict):
            # the error is of a key, not of a section as a whole
            keys, owner = traced(detail["loc"], model)
            value, parent = _at(result, keys[:-1]), _at(result, keys[:-2])
        if len(keys) > 1 and isinstance(value, dict) and parent is not None and owner is not None:
            known = {key: inner for key, inner in value.items() if key in owner.model_fields}
            parent[keys[-2]] = owner.model_construct(**known)
    return result


def further_errors(whole: dict[str, Any], model: type[BaseModel]) -> list[Mapping[str, Any]]:
    """Errors of a repaired configuration; none where what is left of a broken section cannot be checked."""
    try:
        model.model_validate(whole)
    except ValidationError as error:
        return [dict(detail) for detail in error.errors()]
    except (ArithmeticError, AttributeError, LookupError, TypeError):
        pass
    return []


def _at(value: Any, keys: Iterable[Any]) -> Any:
    """The list or mapping at ``keys``; None where there is none."""
    for key in keys:
        try:
            value = value[key]
        except (LookupError, TypeError):
            return None
    return value if isinstance(value, dict | list) else None
