"""What the Python interface returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from retort.runtime.kept import Kept


@dataclass(frozen=True)
class Token:
    """A piece of an output."""

    text: str
    """The piece as the vocabulary writes it; a word begins with U+2581."""
    probability: float
    """0 to 1: that of the piece in its slot, or after the pieces before it."""


@dataclass(frozen=True)
class Hypothesis:
    """One output for a source."""

    text: str
    truncated: bool
    """Whether the source was cut, or the output hit the limit of its length."""
    score: float | None = None
    """The search's own score in nats, higher is better; None unless scores were asked for."""
    tokens: tuple[Token, ...] | None = None
    """Its pieces; None unless scores were asked for."""

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the probabilities of its tokens, 0 to 1; None without scores or without tokens."""
        if not self.tokens:
            return None
        return math.exp(sum(math.log(max(token.probability, 1e-30)) for token in self.tokens) / len(self.tokens))

    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        facts: dict[str, Any] = {"text": self.text, "truncated": self.truncated}
        if self.tokens is not None:
            tokens = [{"text": token.text, "probability": round(token.probability, 6)} for token in self.tokens]
            facts |= {"score": self.score, "confidence": self.confidence, "tokens": tokens}
        return facts


@dataclass(frozen=True)
class Translation:
    """The outputs for one source, best first."""

    source: str
    hypotheses: tuple[Hypothesis, ...]
    """At least one."""
    source_cut: int
    """Tokens of the source that the model did not read, because it is too long."""

    @property
    def text(self) -> str:
        """The best output."""
        return self.hypotheses[0].text

    @property
    def truncated(self) -> bool:
        """Of the best output."""
        return self.hypotheses[0].truncated

    @property
    def score(self) -> float | None:
        """Of the best output."""
        return self.hypotheses[0].score

    @property
    def confidence(self) -> float | None:
        """Of the best output."""
        return self.hypotheses[0].confidence

    @property
    def tokens(self) -> tuple[Token, ...] | None:
        """Of the best output."""
        return self.hypotheses[0].tokens

    def facts(self, with_all: bool = False) -> dict[str, Any]:
        """The same for JSON: the best output, and a list of all where there are several, or ``with_all``."""
        facts = {"source": self.source, **self.hypotheses[0].facts(), "source_cut": self.source_cut}
        if with_all or len(self.hypotheses) > 1:
            facts["hypotheses"] = [hypothesis.facts() for hypothesis in self.hypotheses]
        return facts


@dataclass(frozen=True)
class Latency:
    """How long calls took, by the clock and from text to text."""

    calls: int
    sentences: int
    milliseconds_p50: float
    """Per call; half of the calls took less."""
    milliseconds_p90: float
    milliseconds_p99: float


@dataclass(frozen=True)
class TextTranslation:
    """The translation of running text, and of the segments that it was split into."""

    source: str
    text: str
    """As many lines as the source has, with their white space at the edges."""
    segments: tuple[Translation, ...]
    """In their order; a segment is a sentence, or a part of a sentence that is longer than the model reads."""
    kept: Kept
    """What must come through unchanged, compared line by line."""

    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "source": self.source,
            "text": self.text,
            "segments": [segment.facts() for segment in self.segments],
            "kept": self.kept.found - len(self.kept.lost),
            "lost": [{"kind": thing.kind, "text": thing.text} for thing in self.kept.lost],
        }
