"""What ``retort translate`` writes for a line: text, columns, or JSON."""

from __future__ import annotations

import json
from typing import Any

from retort.runtime.results import Hypothesis, TextTranslation, Translation


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


def as_json(number: int, translation: Translation) -> str:
    """An object per line of input."""
    best, *others = translation.hypotheses
    facts = {"line": number, "source": translation.source, **_facts(best), "source_cut": translation.source_cut}
    if others:
        facts["hypotheses"] = [_facts(hypothesis) for hypothesis in translation.hypotheses]
    return _line(facts)


def running_text(number: int, translation: TextTranslation) -> str:
    """The line."""
    return f"{translation.text}\n"


def running_json(number: int, translation: TextTranslation) -> str:
    """An object per line of input, with its segments and what is lost."""
    segments = [
        {"source": t.source, **_facts(t.hypotheses[0]), "source_cut": t.source_cut} for t in translation.segments
    ]
    lost = [{"kind": thing.kind, "text": thing.text} for thing in translation.kept.lost]
    facts = {"line": number, "source": translation.source, "text": translation.text, "segments": segments}
    return _line({**facts, "kept": translation.kept.found - len(lost), "lost": lost})


def _facts(hypothesis: Hypothesis) -> dict[str, Any]:
    facts: dict[str, Any] = {"text": hypothesis.text, "truncated": hypothesis.truncated}
    if hypothesis.tokens is not None:
        tokens = [{"text": token.text, "probability": round(token.probability, 6)} for token in hypothesis.tokens]
        facts |= {"score": hypothesis.score, "confidence": hypothesis.confidence, "tokens": tokens}
    return facts


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _line(facts: dict[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False) + "\n"
