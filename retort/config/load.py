"""Loading a configuration: all problems are reported at once, each with its path and what would be right."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retort.config.checks.cross import cross_checks
from retort.config.checks.files import file_checks
from retort.config.checks.idle import idle_keys
from retort.config.checks.sections import valid_sections
from retort.config.completion import complete
from retort.config.files import merged, places_of, read_yaml
from retort.config.problems import Problem, bounded, path_of, problems_of
from retort.config.repair import further_errors, with_names_corrected, without_broken_sections
from retort.config.run import Config
from retort.errors import RetortError

MAX_ROUNDS = 5
"""How often a configuration with problems is corrected and checked again."""


def load_config(
    source: Mapping[str, Any] | Path | str,
    where: str | None = None,
    files: Sequence[Path | str] = (),
    texts: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Config:
    """Complete and validate a configuration, given as a mapping or as the path of a YAML or JSON file.

    ``where`` names the source in errors, ``files`` are those that a mapping was read from, for the lines of its keys,
    and ``given`` are those of its keys that --config has. ``texts``: what the configuration names by a path must be
    there, too. Raises RetortError that lists every problem, one per line.
    """
    if isinstance(source, Mapping):
        raw, where = dict(source), where or "configuration"
    else:
        raw, where, files = read_yaml(source), where or str(source), [source]
    config, problems = _resolved({key: value for key, value in raw.items() if value is not None}, texts)
    if config is None or problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        # a file may have keys that a later one has replaced
        written = set(_written(raw))
        places = {path: place for path, place in places_of(files, given or {}).items() if path in written}
        lines = "".join(f"  {line}\n" for line in _lines(problems, places))
        raise RetortError(f"{where}: {count}:\n{lines}Every key is described in docs/configuration.md.")
    return config


def load_files(
    paths: Sequence[Path | str], keys: Mapping[str, Any], note: Callable[[str], object] | None = None
) -> Config:
    """The configuration of these files, a later one over an earlier one, and ``keys`` over them all; what it names by
    a path is there. ``note`` is called with a line for each key that has no effect.

    Raises RetortError that lists every problem, one per line.
    """
    raw: dict[str, Any] = {}
    paths = [_relative(Path(path)) for path in paths]
    for path in paths:
        raw = merged(raw, read_yaml(path))
    config = load_config(merged(raw, keys), ", ".join(map(str, paths)), files=paths, texts=True, given=keys)
    if note and (idle := list(idle_keys(config))):
        for line in _lines(idle, places_of(paths, keys)):
            note(line)
    return config


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _written(value: Any, keys: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Paths of a value and of everything in it."""
    yield path_of(keys)
    parts = dict(enumerate(value)) if isinstance(value, list) else value
    for key, part in parts.items() if isinstance(parts, Mapping) else ():
        yield from _written(part, (*keys, key))


def _lines(problems: Iterable[Problem], places: Mapping[str, str]) -> Iterator[str]:
    """Each problem with the path, file and line of its key."""
    for path, message in problems:
        yield f"{bounded(path) or 'configuration'}{_place(path, places)}: {message}"


def _place(path: str, places: Mapping[str, str]) -> str:
    """File and line of a key, or of the section that lacks it, in parentheses; empty where no file has them."""
    while path and path not in places:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return f" ({places[path]})" if path else ""


def _resolved(raw: dict[str, Any], texts: bool) -> tuple[Config | None, list[Problem]]:
    """The configuration, None where a section is not valid, and every problem, each once."""
    problems: list[Problem] = []
    if raw.pop("include", None):
        problems.append(Problem("include", "only a file can include others; give it with --configfile"))
    whole = complete(raw)
    try:
        config: Config | None = Config.model_validate(whole)
    except ValidationError as error:
        config = None
        found, whole = _behind_the_first(whole, [dict(detail) for detail in error.errors()])
        problems += problems_of(found, raw, Config)
    sections = valid_sections(whole if config is None else config.model_dump(), with_files=texts)
    problems += cross_checks(raw, sections)
    problems += file_checks(sections) if texts else ()
    return config, list(dict.fromkeys(problems))


def _behind_the_first(
    whole: dict[str, Any], details: list[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """Pydantic's errors with those that they hide, and the configuration with its names corrected.

    A section is checked as a whole only where all of its keys are valid, so each round corrects what it can.
    """
    found, checked = list(details), whole
    for _ in range(MAX_ROUNDS):
        corrected = with_names_corrected(checked, details, Config)
        if corrected == checked:
            break
        checked, details = corrected, further_errors(corrected, Config)
        found += details
    whole = checked
    for _ in range(MAX_ROUNDS):
        checked = without_broken_sections(checked, details, Config)
        details = [detail for detail in further_errors(checked, Config) if detail["type"] == "value_error"]
        if not details:
            break
        # a broken section that is validated again has the same error, with its values as they were written
        known = [detail["loc"] for detail in found if detail["type"] == "value_error"]
        found += [detail for detail in details if detail["loc"] not in known]
    return found, whole


def to_json(config: Config) -> str:
    """The resolved configuration as one line of JSON; ``load_config`` of it gives the same configuration."""
    return json.dumps(config.model_dump(mode="json"), sort_keys=False, ensure_ascii=False)
