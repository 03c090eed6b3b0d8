"""Configuration files, how one overrides another, and the files that a configuration names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from retort.config.completion import with_kind
from retort.config.corpus import TextSource
from retort.config.problems import PATHS_OF_SYSTEMS, tag_at
from retort.config.run import Config
from retort.config.yaml_reader import lines_of, read_mapping
from retort.errors import RetortError

MIRROR_VARIABLE = "RETORT_MIRROR"

ANY = "*"
DROPPABLE = (
    *(("students",), ("corpus", "tests"), ("external_teacher", "held_out")),
    *(("evaluation", key) for key in ("baselines", "learned")),
    *((*path, key) for path in (("teacher",), ("students", ANY), *PATHS_OF_SYSTEMS) for key in ("searches", "tune")),
)
"""Paths of the mappings by name whose entries a null removes."""


class ConfigFile(Config):
    """A configuration, or a part of one, as a file holds it."""

    include: list[str] = []
    """Files to start from, as paths relative to this one. Keys of a later one override those of an earlier one, mapping
    by mapping, and keys of this file override both."""


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file, on top of the files that it includes.

    Raises RetortError if one of them cannot be read, repeats a key or includes itself.
    """
    return _read_included(Path(path), ())


def _read_included(path: Path, including: tuple[Path, ...]) -> dict[str, Any]:
    """``read_yaml`` of a file that the files of the chain ``including`` include, the outermost first."""
    chain = (*including, path)
    real = [os.path.realpath(outer) for outer in chain]
    if real[-1] in real[:-1]:
        raise RetortError(f"{including[0]}: includes itself: {' > '.join(map(str, chain))}; remove one include")
    raw = read_mapping(path)
    included = raw.pop("include", None) or []
    if not isinstance(included, list) or not all(isinstance(name, str) for name in included):
        raise RetortError(f"{path}: include must be a list of paths, found {included!r}")
    below: dict[str, Any] = {}
    for name in included:
        inner = path.parent / name
        if not os.path.isfile(inner):
            raise RetortError(f"{path}: include: no file {inner}; expected a path relative to {path.parent or '.'}")
        below = merged(below, _read_included(inner, chain))
    return merged(below, raw)


def places_of(paths: Iterable[Path | str], given: Mapping[str, Any]) -> dict[str, str]:
    """File and line of each key of these files and those that they include, by its path; the last one counts. Keys
    that are ``given`` have --config for a place."""
    places: dict[str, str] = {}
    for path in map(Path, paths):
        included = read_mapping(path).get("include") or []
        places |= places_of([path.parent / name for name in included], {})
        places |= {key: f"{path}, line {line}" for key, line in lines_of(path).items() if key}
    for key in _paths(given):
        places = {path: place for path, place in places.items() if not path.startswith((f"{key}.", f"{key}["))}
        places[key] = "--config"
    return places


def _paths(keys: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Paths of all values that are no sections."""
    for key, value in keys.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{where}{key}.")
        else:
            yield f"{where}{key}"


def merged(raw: Mapping[str, Any], over: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """``raw`` with the keys of ``over`` laid on top, mapping by mapping; ``path`` is where they are.

    A null removes what has a name, such as a student or a test set, so that a file can drop what the one before it has.
    Another objective, or a section of another kind, replaces the one before, as it has other keys.
    """
    if _is_another(raw, over, path):
        return dict(over)
    droppable = any(len(path) == len(keys) and all(map(_fits, path, keys)) for keys in DROPPABLE)
    result = dict(raw)
    for key, value in over.items():
        below = raw.get(key)
        if isinstance(below, str) and isinstance(value, Mapping) and (tag := tag_at((*path, key), Config)):
            below = {tag: below}
        if value is None and droppable and key in raw:
            del result[key]
        elif isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = merged(below, value, (*path, key))
        else:
            result[key] = value
    return result


def _is_another(raw: Mapping[str, Any], over: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Whether the two select different ones of the sections that ``path`` can have."""
    tag = tag_at(path, Config)
    if tag is None:
        return False
    if path == ("corpus",):
        raw, over = with_kind(raw), with_kind(over)
    before, now = raw.get(tag), over.get(tag)
    return bool(before and now) and before != now


def _fits(key: str, known: str) -> bool:
    return known in (ANY, key)


def local_files(texts: Iterable[TextSource], config: Config) -> list[str]:
    """Local files that these texts are read from, in order, each once."""
    mirrored = mirror_directory(config.corpus.mirror_directory)
    paths = [text.location for text in texts if "://" not in text.location]
    return list(dict.fromkeys(path for path in paths if not mirrored or os.path.isfile(path)))


def mirror_directory(*named: Path | str | None) -> Path | None:
    """The first directory that is named, or else that of the environment; None if there is neither."""
    directories = [Path(directory) for directory in (*named, os.environ.get(MIRROR_VARIABLE)) if directory]
    return directories[0] if directories else None


def typed_values(value: Any) -> Any:
    """A value given with --config, whose nested numbers and truth values Snakemake leaves as text."""
    if isinstance(value, Mapping):
        return {key: typed_values(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed_values(inner) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        number = json.loads(value)
    except ValueError:
        return value
    return number if number is None or isinstance(number, bool | int | float) else value
