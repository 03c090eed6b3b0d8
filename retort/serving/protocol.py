"""What a request asks for, checked, and its answer, both as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from retort.runtime.asked import checked_texts
from retort.runtime.translator import Translator


class Refused(Exception):
    """A request that is not answered, with the status of HTTP and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """A request; the fields are its keys, and those of ``Translator.translate``."""

    texts: list[str]
    n_best: int = 1
    scores: bool = False
    running_text: bool = False
    """Whether the texts are split into sentences and put together again."""


def parsed(content: bytes, most_texts: int) -> Asked:
    """Raises Refused for what is not such a request, and for more than ``most_texts``; RetortError for texts that no
    system can take."""
    try:
        request = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f'not JSON ({error}); send {{"texts": ["A dog runs."]}}') from None
    if not isinstance(request, dict):
        raise Refused(400, f'{type(request).__name__}, expected an object such as {{"texts": ["A dog runs."]}}')
    if unknown := request.keys() - Asked.__dataclass_fields__.keys():
        raise Refused(400, f"{', '.join(sorted(unknown))}: no such key; there are {', '.join(Asked.__annotations__)}")
    texts = request.get("texts")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refused(400, "texts: expected a list of strings")
    if len(texts) > most_texts:
        raise Refused(413, f"texts: {len(texts)}, at most {most_texts} per request; send several requests")
    for name, kind in (("n_best", int), ("scores", bool), ("running_text", bool)):
        if type(request.get(name, kind(1))) is not kind:
            raise Refused(400, f"{name}: expected {'a whole number' if kind is int else 'true or false'}")
    checked_texts(texts)
    if request.get("running_text") and request.get("n_best", 1) != 1:
        raise Refused(400, "n_best: running text has one translation; leave one of them out")
    return Asked(**request)


def check_sentences(translator: Translator, asked: Asked, most: int) -> None:
    """Raises Refused for running text of more than so many sentences."""
    if asked.running_text and (count := sum(len(translator.segments(text)) for text in asked.texts)) > most:
        raise Refused(413, f"texts: {count} sentences, at most {most} per request; send several requests")


def answer(translator: Translator, asked: Asked) -> dict[str, Any]:
    """Translations in the order of the texts, in the system's own batches: where an output would depend on the other
    texts, each is decoded alone. Raises RetortError for what the system cannot do."""
    if asked.running_text:
        running = [translator.translate_text(t, scores=asked.scores) for t in asked.texts]
        return {"translations": [translation.facts() for translation in running]}
    found = translator.translate(asked.texts, n_best=asked.n_best, scores=asked.scores)
    return {"translations": [translation.facts(with_all=asked.n_best > 1) for translation in found]}
