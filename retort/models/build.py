"""Building a model from its configuration; only the module of its family is imported."""

from __future__ import annotations

from importlib import import_module

from retort.config import Model, ObjectiveSection
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.models.base import EncoderDecoder
from retort.models.families import family_module


def build_model(objective: ObjectiveSection, config: Model, vocabulary: Vocabulary) -> EncoderDecoder:
    """A newly initialised model of the family that the objective trains.

    The family's module has ``build``, as of ``EncoderDecoder``. Raises RetortError if all embeddings are tied and the
    vocabulary is not joint.
    """
    if config.tied == "all" and not vocabulary.joint:
        raise RetortError("model.tied is all, but the vocabulary is not joint; set model.tied to output or none")
    module = import_module(family_module(objective, config))
    return module.build(objective, config, vocabulary.source_size, vocabulary.target_size)  # type: ignore[no-any-return]
