"""What a configuration asks for without effect. A layer may mean it so, which keeps a key of the file below it."""

from __future__ import annotations

from collections.abc import Iterator

from retort.config.problems import Problem
from retort.config.run import Config
from retort.config.systems import PRETRAINED


def idle_keys(config: Config) -> Iterator[Problem]:
    """Keys of a valid configuration that do nothing beside the others, with what would be right."""
    if config.pretraining and not config.starts_pretrained:
        message = "no system starts from it, so that the target pretraining alone makes it; set training.warm_start: "
        yield Problem("pretraining", message + PRETRAINED)
