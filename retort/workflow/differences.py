"""Which files of code and which keys of the configuration differ between the parameters of a job then and now.

Snakemake keeps the values of a job's parameters, without their names. So values that are gone are paired with the
new ones that they are most like.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from retort.workflow.code import CodeRecords

MISSING = "(not set)"
CONTENTS = "contents"
"""The parameter that holds digests of given files, by their paths."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = 60
"""Characters of a value that are shown."""

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One reason why a result is made again: ``name`` is a file, a key of the configuration or a parameter."""

    kind: Literal["code", "key", "parameter", "command", "input", "output", "software"]
    name: str
    text: str


@dataclass(frozen=True)
class Then:
    """What a job is compared with: the values that only its record has, and the configuration of the last run."""

    values: list[Any]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Now:
    """A job today: the parameters that its record lacks, by name, and the resolved configuration. ``hints`` are names
    that tell similar sections apart: the job's wildcards."""

    parameters: Mapping[str, Any]
    config: Mapping[str, Any]
    hints: tuple[str, ...] = ()


def changes(then: Then, now: Now, records: CodeRecords) -> list[Change]:
    """What differs, by file or key; a parameter of which no more is known is named itself."""
    result: list[Change] = []
    paired = _pairs(then.values, now.parameters, records)
    for name, value in now.parameters.items():
        before = paired.get(name, MISSING)
        if _is_digest(value):
            result += _changed_code(name, before, now=value, records=records)
        else:
            for difference in _differences(before, _parsed(value), path=(), sections=()):
                result.append(_named(name, difference, then=then, now=now))
    return list(dict.fromkeys(result))


# ---- code -----------------------------------------------------------------------------------------------------------


def _changed_code(name: str, before: Any, now: str, records: CodeRecords) -> Iterator[Change]:
    table = records.read(now)
    if table is None:
        yield Change("parameter", name, f"{name} changed")
        return
    earlier = records.read(before) if _is_digest(before) else None
    if earlier is None:
        yield Change(
            "code", "", "the code changed; in which file is not known, because that code's digests are not kept"
        )
        return
    for file in sorted({**earlier, **table}):
        if file not in earlier:
            yield Change("code", file, f"{file} is used now")
        elif file not in table:
            yield Change("code", file, f"{file} is no longer used")
        elif earlier[file] != table[file]:
            yield Change("code", file, f"{file} changed")


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


# ---- pairs of values ------------------------------------------------------------------------------------------------


def _pairs(values: list[Any], parameters: Mapping[str, Any], records: CodeRecords) -> dict[str, Any]:
    """The earlier value of each parameter that has a likely one."""
    old = [_parsed(value) for value in values]
    new = {name: _parsed(value) for name, value in parameters.items()}
    if len(old) == len(new) == 1:
        return dict.fromkeys(new, old[0])
    ranked = sorted(
        ((_likeness(before, value, records), name, i) for name, value in new.items() for i, before in enumerate(old)),
        key=lambda candidate: -candidate[0],
    )
    result: dict[str, Any] = {}
    taken: set[int] = set()
    for likeness, name, i in ranked:
        rivals = [r for r in ranked if r[0] == likeness and (r[1] == name) != (r[2] == i) and r[2] not in taken]
        # of several numbers nothing says which became which
        if likeness >= 0 and name not in result and i not in taken and not (likeness == 0 and rivals):
            result[name] = old[i]
            taken.add(i)
    return result


def _likeness(before: Any, now: Any, records: CodeRecords) -> int:
    """How much two values have in common; below 0 for values of different kinds."""
    if _is_digest(before) or _is_digest(now):
        if not (_is_digest(before) and _is_digest(now)):
            return -1
        return 1 + ((records.read(before) is None) == (records.read(now) is None))
    if isinstance(before, dict) and isinstance(now, dict):
        shared = len(set(before) & set(now))
        return shared + 2 * len(set(_leaves(before)) & set(_leaves(now))) if shared else -1
    if isinstance(before, list) and isinstance(now, list):
        return 1 + sum(item in before for item in now)
    numbers = (int, float)
    alike = type(before) is type(now) or (isinstance(before, numbers) and isinstance(now, numbers))
    return 0 if alike else -1


def _parsed(value: Any) -> Any:
    """A value in which JSON is read, also in a list of options."""
    if isinstance(value, (list, tuple)):
        return [_parsed(item) for item in value]
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every value below the keys of a section, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    else:
        yield path, json.dumps(value, sort_keys=True, default=str)


# ---- keys of the configuration --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Difference:
    path: KeyPath
    before: Any
    now: Any
    sections: tuple[tuple[KeyPath, dict[str, Any]], ...]
    """Today's sections around the value, the outermost one first, each with the path from it to the value."""


def _differences(
    before: Any, now: Any, path: KeyPath, sections: tuple[tuple[KeyPath, Any], ...]
) -> Iterator[_Difference]:
    if before == now:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            inner = tuple(((*steps, key), section) for steps, section in (*sections, ((), now)))
            yield from _differences(before.get(key, MISSING), now.get(key, MISSING), path=(*path, key), sections=inner)
    elif isinstance(before, list) and isinstance(now, list):
        gone, new = [v for v in before if v not in now], [v for v in now if v not in before]
        if new and len(gone) == len(new) and all(isinstance(value, dict) for value in gone + new):
            for old, value in zip(gone, new, strict=True):
                yield from _differences(old, value, path=path, sections=())
        else:
            yield _Difference(path, before, now=now, sections=sections)
    else:
        yield _Difference(path, before, now=now, sections=sections)


def _named(parameter: str, difference: _Difference, then: Then, now: Now) -> Change:
    """The difference under the key of the configuration that it comes from, or else under the parameter's name."""
    if parameter == CONTENTS and difference.path:
        (file,) = difference.path
        return Change("input", file, f"{file} has other content")
    values = _values(difference.before, difference.now)
    key = None
    said = {value for _, section in difference.sections for value in section.values() if isinstance(value, str)}
    for path, section in difference.sections:
        key = key or _key_of(path, section, value=difference.now, now=replace(now, hints=(*now.hints, *said)))
    if not difference.sections:
        key = _key_of_value(parameter, difference, then=then, now=now)
    if key is not None:
        return Change("key", ".".join(key), f"{'.'.join(key)}: {values}")
    name = ".".join((parameter, *difference.path))
    return Change("parameter", name, f"{name}: {values}")


def _key_of(path: KeyPath, section: dict[str, Any], value: Any, now: Now) -> KeyPath | None:
    """The key whose value this is: below the section of the configuration that has most in common with ``section``."""
    wanted = set(_leaves(section))
    hints = set(now.hints)
    best: tuple[int, int, int] = (0, 0, 0)
    result = None
    for where, candidate in _sections(now.config):
        if not _has(candidate, path, value):
            continue
        leaves = set(_leaves(candidate))
        rank = (len(wanted & leaves), len(hints & set(where)), -len(leaves))
        if rank[0] and (result is None or rank > best):
            best, result = rank, (*where, *path)
    return result


def _key_of_value(name: str, difference: _Difference, then: Then, now: Now) -> KeyPath | None:
    """The key named as a parameter that has its value today; of several the one that the wildcards name, or the one
    that had the earlier value in the last run."""
    keys = [
        (*where, name)
        for where, section in _sections(now.config)
        if name in section and section[name] == difference.now
    ]
    narrowed: Iterable[list[KeyPath]] = (
        keys,
        [key for key in keys if set(now.hints) & set(key)],
        [key for key in keys if _has(then.config, key, difference.before)],
    )
    return next((few[0] for few in narrowed if len(few) == 1), None)


def _sections(config: Mapping[str, Any], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    yield path, config
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _sections(value, (*path, key))


def _has(section: Any, path: KeyPath, value: Any) -> bool:
    """Whether a section has this value at a path; a null may be left out."""
    for step in path:
        if not isinstance(section, Mapping) or step not in section:
            return False
        section = section[step]
    return bool(section == value) or (section is None and value == MISSING)


# ---- values as text -------------------------------------------------------------------------------------------------


def _values(before: Any, now: Any) -> str:
    if isinstance(before, list) and isinstance(now, list) and len(f"{before}{now}") > _SHOWN:
        parts = [("added", [v for v in now if v not in before]), ("removed", [v for v in before if v not in now])]
        return ", ".join(f"{verb} {_shown(values)}" for verb, values in parts if values) or "in another order"
    return f"is now {_shown(now)}" if before == MISSING else f"{_shown(before)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    text = MISSING if value == MISSING else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
