"""The JSON schema and the reference of all keys, made from the models in retort/config."""

from __future__ import annotations

import json
import sys
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from retort.config.files import ConfigFile


def schema() -> str:
    """The JSON schema of a configuration file, for editors."""
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **ConfigFile.model_json_schema()}
    # an included or an earlier file may have what this one lacks
    del described["required"]
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def table() -> str:
    """A Markdown page with a table of keys for each section."""
    lines = [
        "# Configuration",
        "",
        "Every key, its type, its default and its meaning. A configuration is one YAML file, or several, of which a",
        "later one overrides an earlier one; a file can also include others. Unknown keys are errors.",
        "The top-level `model` and `training` sections are what every system starts from; a system's own sections",
        "override them key by key. This page is made by `python -m retort.config.reference --table`.",
        "",
    ]
    seen: dict[str, type[BaseModel]] = {}
    waiting: list[type[BaseModel]] = [ConfigFile]
    while waiting:
        section = waiting.pop(0)
        if section.__name__ in seen:
            continue
        seen[section.__name__] = section
        lines += [f"## {_title(section)}", "", _one_line(section.__doc__), ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for name, field in section.model_fields.items():
            default = _default(field.default)
            lines.append(
                f"| `{name}` | {_type(field.annotation)} | {default} | {_cell(_one_line(field.description))} |"
            )
            waiting += _sections(field.annotation)
        lines.append("")
    return "\n".join(lines)


def _title(section: type[BaseModel]) -> str:
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in section.__name__).strip()
    return "Top level" if section is ConfigFile else words[0].upper() + words[1:]


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        changed = value.model_dump(exclude_unset=True)
        return f"`{json.dumps(changed)}`" if changed else "its defaults"
    return f"`{json.dumps(value)}`"


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for a in get_args(annotation) for s in _sections(a)]


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{json.dumps(a)}`" for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(a) for a in arguments)
    if origin is dict:
        return f"{_type(arguments[1])} by name"
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        title = _title(annotation)
        return f"[{title}](#{title.lower().replace(' ', '-')})"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}.get(annotation, str(annotation))


def main(arguments: list[str]) -> None:
    """Print the JSON schema (--schema) or the table of keys (--table)."""
    writers = {"--schema": schema, "--table": table}
    if len(arguments) != 1 or arguments[0] not in writers:
        sys.exit("usage: python -m retort.config.reference --schema | --table")
    sys.stdout.write(writers[arguments[0]]())


if __name__ == "__main__":
    main(sys.argv[1:])
