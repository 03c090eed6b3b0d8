"""What ``retort translate`` writes for a line: text, columns, or JSON."""

from __future__ import annotations

import json

from retort.runtime.results import TextTranslation, Translation


def as_columns(number: int, translation: Translation, ranks: bool) -> str:
    """One row per output: its text, and with scores the score, the confidence, and the probabilities of its tokens.
    With ``ranks``, the number of the line and that of the output come first."""
    rows = []
    for rank, hypothesis in enumerate(translation.hypotheses, start=1):
        columns = [hypothesis.text]
        if hypothesis.tokens is not None:
            probabilities = " ".join(f"{token.probability:.4f}" for token in hypothesis.tokens)
            columns += [f"{hypothesis.score:.4f}", _number(hypothesis.confidence), probabilities]
        rows.append("\t".join([str(number), str(rank), *columns] if ranks else columns))
    return "".join(f"{row}\n" for row in rows)


def as_json(number: int, translation: Translation | TextTranslation, with_all: bool = False) -> str:
    """An object per line of input, ``with_all`` with a list of its outputs; of running text with its segments and what
    is lost."""
    facts = translation.facts(with_all) if isinstance(translation, Translation) else translation.facts()
    return json.dumps({"line": number, **facts}, ensure_ascii=False) + "\n"


def running_text(number: int, translation: TextTranslation) -> str:
    """The line."""
    return f"{translation.text}\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
