"""Files of configurations, and what is laid over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from retort.errors import RetortError

DROPPABLE = ("students", "baselines")
"""Mappings whose entries a null removes."""


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file; raises RetortError if it cannot be read or repeats a key."""
    try:
        with open(path, encoding="utf-8") as handle:
            raw = yaml.load(handle, _UniqueKeyLoader)
    except FileNotFoundError:
        raise RetortError(f"{path}: no such file; expected a configuration in YAML") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RetortError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(raw, dict):
        raise RetortError(f"{path}: expected a mapping of keys, found {type(raw).__name__}")
    return raw


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that says a key twice: YAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def merged(raw: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``raw`` with the keys of ``over`` laid on top, mapping by mapping.

    A system or a system's baseline that is there takes a null for its end, so that a file can drop what the one before
    has.
    """
    result = dict(raw)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merged(below, value)
            if key in DROPPABLE:
                value = {name: own for name, own in value.items() if own is not None or name not in below}
        result[key] = value
    return result
