"""What a run was started with, as far as it decides what runs; kept with the results, so that it can be asked again."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retort.config.files import typed_values
from retort.data.files import write_json
from retort.errors import RetortError

NAME = "call.json"


@dataclass(frozen=True)
class Call:
    """Arguments of Snakemake."""

    configfiles: list[str] = field(default_factory=list)
    """Paths, relative to the working directory where they are below it."""
    config: dict[str, Any] = field(default_factory=dict)
    """Keys given with --config."""
    scatter: dict[str, int] = field(default_factory=dict)
    """Numbers of shards given with --set-scatter."""
    software: list[str] = field(default_factory=list)
    """Names of the ways that the rules' software is deployed."""

    @classmethod
    def of(cls, workflow: Any) -> Call:
        """The call that this workflow of Snakemake was started with."""
        return cls(
            configfiles=[_relative(path) for path in workflow.config_settings.configfiles],
            config=keys_given(workflow.config_settings),
            scatter=dict(workflow.resource_settings.overwrite_scatter),
            software=sorted(method.name for method in workflow.deployment_settings.deployment_method),
        )

    def write(self, run: Path) -> None:
        """Keep the call with the results in ``run``."""
        write_json(run / NAME, asdict(self))

    @classmethod
    def read(cls, run: Path) -> Call | None:
        """The last call that made results in ``run``; None where none is kept."""
        path = run / NAME
        try:
            call = cls(**json.loads(path.read_text(encoding="utf-8")))
            return TypeAdapter(cls).validate_python(asdict(call))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise RetortError(f"{path}: not a record of a call ({found}); delete it") from None


def keys_given(settings: Any) -> dict[str, Any]:
    """Keys given with --config, from Snakemake's settings. It takes a name such as 2024 for a number, and leaves nested
    numbers as text."""
    keys: dict[str, Any] = typed_values(settings.config or {})
    names = [given.partition("=")[2] for given in settings.config_args or () if given.startswith("name=")]
    if not isinstance(keys.get("name", ""), str):
        keys["name"] = names[-1].strip("'\"")
    return keys


def _relative(path: Path) -> str:
    path = Path(path)
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
