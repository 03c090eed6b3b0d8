"""What a configuration asks for without effect. A layer may mean it so, which keeps a key of the file below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from retort.config.base import Section
from retort.config.corpus import TextCorpus
from retort.config.problems import Problem
from retort.config.run import Config, resolve
from retort.config.search import SearchSection
from retort.config.systems import PRETRAINED


def idle_keys(config: Config) -> Iterator[Problem]:
    """Keys of a valid configuration that do nothing beside the others, with what would be right."""
    yield from _within(config)
    if config.pretraining and not config.starts_pretrained:
        message = "no system starts from it, so that the target pretraining alone makes it; set training.warm_start: "
        yield Problem("pretraining", message + PRETRAINED)
    if isinstance(config.corpus, TextCorpus) and config.corpus.monolingual and not _uses_outputs(config):
        message = "no system learns from translations of it; use data: distilled or mixed, or remove it"
        yield Problem("corpus.monolingual", message)
    if "iterations" not in config.em.model_fields_set:
        usual = resolve({**config.model_dump(), "em": {}}).em
        given = [key for key, value in config.em if value != getattr(usual, key)]
        yield from (Problem(f"em.{key}", "no EM loop runs; set em.iterations") for key in given)


def _within(section: Any, path: str = "") -> Iterator[Problem]:
    """What sections say of their own keys, section by section; systems, which know the tuned forms, say it of their
    searches."""
    if isinstance(section, SearchSection):
        return
    if isinstance(section, Section):
        yield from (Problem(path + key, reason) for key, reason in section.idle.items())
    if isinstance(section, Section | dict):
        for key, inner in dict(section).items():
            yield from _within(inner, f"{path}{key}.")


def _uses_outputs(config: Config) -> bool:
    """Whether anything learns from the text that a teacher makes, or from all training sources."""
    read = {system.data for system in config.trained.values() if not system.checkpoint}
    for system in config.systems.values():
        counted = [system.counted_by(name) for name in system.searches]
        read |= {ngrams.data or system.data for ngrams in counted if ngrams and not ngrams.texts}
    return bool(read - {"raw", "references"})
