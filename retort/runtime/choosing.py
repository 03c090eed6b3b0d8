"""Searches that a person writes, complete and checked against what a system can do.

The configuration's classes, and pydantic with them, are imported only where a search is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retort.data.files import text_or_file
from retort.errors import RetortError
from retort.runtime.opening import read_objective


def chosen_search(directory: Path | str, search: Mapping[str, Any] | str) -> dict[str, Any]:
    """The complete section of a search that a system can be decoded with. Raises RetortError otherwise."""
    named = search if isinstance(search, str) else str(search.get("kind", ""))
    what = f"search {named}".strip()
    return checked_search(parsed_search(search, what), read_objective(directory), what).model_dump()  # type: ignore[no-any-return]


def checked_search(search: Any, objective: Mapping[str, Any], what: str) -> Any:
    """The search. Raises RetortError if a model trained with this objective cannot be decoded with it."""
    from retort.config import objective_named

    declared = objective_named(objective["name"])
    if declared is None:
        raise RetortError(f"{what}: the system was trained as {objective['name']!r}, which this version does not know")
    allowed = declared.searches()
    if search.kind not in allowed:
        raise RetortError(f"{what}: {decodes_by(objective['name'], allowed)}")
    return search


def decodes_by(name: str, allowed: tuple[str, ...]) -> str:
    """Which searches an objective has, in a sentence."""
    return f"a model trained as {name} decodes by {' or '.join(allowed)}"


def parsed_search(search: Mapping[str, Any] | str, what: str) -> Any:
    """A search, complete: a section, its JSON, ``@FILE`` with its JSON, or text such as ``beam beam_size=8``.

    Raises RetortError that begins with ``what``.
    """
    from pydantic import TypeAdapter, ValidationError

    from retort.config import Search
    from retort.config.problems import problems_of

    adapter: TypeAdapter[Any] = TypeAdapter(Search)
    try:
        if not isinstance(search, str):
            return adapter.validate_python(dict(search))
        if search.strip()[:1] in ("{", "[", '"', "@"):
            return adapter.validate_json(_json(search.strip(), what).encode("utf-8", "surrogateescape"))
        return adapter.validate_python(_section(search, what))
    except ValidationError as error:
        detail = error.errors()[0]
        (problem,) = problems_of([detail], {}, Search)  # type: ignore[arg-type]
        found = detail["msg"] if detail["type"].startswith("json") else ": ".join(filter(None, problem))
        raise RetortError(f"{what[:210]}: {found.removeprefix('.')}") from None


def _json(text: str, what: str) -> str:
    try:
        return text_or_file(text)
    except RetortError as error:
        raise RetortError(f"{what[:210]}: {error}") from None


def _section(text: str, what: str) -> dict[str, Any]:
    """The section that text stands for: its kind, then options."""
    kind, *options = text.split() or [""]
    section: dict[str, Any] = {"kind": kind}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise RetortError(
                f"{what[:210]}: {option[:40]} is no option; expected a search and its options, such as "
                f"'beam beam_size=8 length_penalty=0.6'"
            )
        if key in section:
            raise RetortError(f"{what[:210]}: {key[:40]} is given twice; expected each option once")
        section[key] = _value(value)
    return section


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
