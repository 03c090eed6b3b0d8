"""Decoding of training text with an autoregressive model, in whichever engine gives what torch gives."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from retort.config import Distillation
from retort.data.files import write_json
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.models.base import EncoderDecoder
from retort.search.base import Hypothesis
from retort.search.decoding import decode_texts, translate_texts

logger = logging.getLogger(__name__)


class TeacherDecoder:
    """A model, and the engine that decodes with it: the same one for all shards and all their parts."""

    def __init__(
        self,
        model: EncoderDecoder,
        vocabulary: Vocabulary,
        settings: Distillation,
        checked: Sequence[str],
        decision: Path,
        best: int = 1,
        threads: int = 1,
    ) -> None:
        """``checked``: sources that torch and CTranslate2 both decode before CTranslate2 is used; every shard gives the
        same ones, so all come to the same decision. ``decision``: file that keeps it, so that an interrupted shard
        keeps its engine. ``best``: hypotheses that are needed of each source.

        Raises RetortError if ``settings.engine`` is ctranslate2, and that cannot decode as torch does.
        """
        self.model, self.vocabulary, self.settings = model, vocabulary, settings
        self.exact: Any = None
        self.facts = facts_of(decision)
        reason = None
        if settings.engine_module:
            # by name: the module depends on the Transformer, and not every teacher is one
            engines = import_module(settings.engine_module)
            reason = engines.unsupported(model, settings.search, model.dtype, model.device)
        if settings.engine == "ctranslate2" and reason:
            raise RetortError(f"CTranslate2 cannot decode as torch does: {reason}; set engine to auto")
        if settings.engine == "auto" and best > 1:
            reason = reason or "lists of several hypotheses are not always equal"
        if settings.engine == "torch" or reason or (self.facts and self.facts["engine"] == "torch"):
            if not (self.facts and self.facts["engine"] == "torch"):
                self.facts = {"engine": "torch", "reason": reason}
        else:
            self.exact = engines.ExactSearch(
                model, vocabulary, settings.search, batch_tokens=settings.batch_tokens, best=best, threads=threads
            )
            self.facts = self.facts or self._compared(checked, best)
            if self.facts["engine"] == "torch":
                self.exact = None
        write_json(decision, self.facts)
        logger.info("decoding: %s", self.facts)

    def translate(self, texts: list[str]) -> list[list[Hypothesis]]:
        """n-best lists of the texts."""
        exact = self.exact
        if exact is None:
            return self._by_torch(texts)
        return decode_texts(
            self.vocabulary, texts, config=self.model.config, decode_rows=lambda source, _: exact.decode(source)
        )

    def _by_torch(self, texts: Sequence[str]) -> list[list[Hypothesis]]:
        return translate_texts(
            self.model,
            self.vocabulary,
            texts=texts,
            search=self.settings.search,
            batch_tokens=self.settings.batch_tokens,
        )

    def _compared(self, texts: Sequence[str], best: int) -> dict[str, Any]:
        """Facts about the engine that is to be used, after both have decoded the texts."""
        given, expected = self.translate(list(texts)), self._by_torch(texts)
        different = import_module(str(self.settings.engine_module)).differing(expected, given, best)
        engine = "torch" if different and self.settings.engine == "auto" else "ctranslate2"
        if different:
            logger.warning(
                "%d of the first %d training sources are decoded otherwise by CTranslate2 than by torch, the first one "
                "is %r; this shard is decoded by %s",
                len(different),
                len(texts),
                texts[different[0]],
                engine,
            )
        return {
            "engine": engine,
            "ctranslate2": version("ctranslate2"),
            "checked_sources": len(texts),
            "different_sources": len(different),
        }


def facts_of(decision: Path) -> dict[str, Any] | None:
    """Facts about the engine that an earlier job of this shard decided on."""
    try:
        return dict(json.loads(decision.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
