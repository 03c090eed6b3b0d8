"""Loading a configuration: all problems are reported at once, each with its path and what would be right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retort.config.checks import cross_checks
from retort.config.files import read_yaml
from retort.config.problems import Problem, problems_of
from retort.config.run import Config, resolve
from retort.errors import RetortError


def load_config(source: Mapping[str, Any] | Path | str, where: str | None = None) -> Config:
    """Complete and validate a configuration, given as a mapping or as the path of a YAML or JSON file.

    ``where`` names the source in errors. Raises RetortError that lists every problem, one per line.
    """
    if isinstance(source, Mapping):
        raw, where = dict(source), where or "configuration"
    else:
        raw, where = read_yaml(source), where or str(source)
    config, problems = _resolved({key: value for key, value in raw.items() if value is not None})
    if config is None or problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  {p.path or 'configuration'}: {p.message}" for p in problems)
        raise RetortError(f"{where}: {count}:\n{lines}\nEvery key is described in docs/configuration.md.")
    return config


def _resolved(raw: dict[str, Any]) -> tuple[Config | None, list[Problem]]:
    """The configuration, None where a section is not valid, and every problem, each once."""
    config: Config | None = None
    problems: list[Problem] = []
    if raw.pop("include", None):
        problems.append(Problem("include", "only a file can include others; give it with --configfile"))
    try:
        config = resolve(raw)
    except ValidationError as error:
        problems += problems_of(error, raw, Config)
    return config, list(dict.fromkeys([*problems, *cross_checks(raw, config)]))


def to_json(config: Config) -> str:
    """The resolved configuration as one line of JSON; ``load_config`` of it gives the same configuration."""
    return json.dumps(config.model_dump(mode="json"), sort_keys=False, ensure_ascii=False)
