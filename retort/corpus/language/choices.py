"""Texts with random choices in them, whose distribution is known exactly.

An expression is a word, a sequence of expressions, or a choice among alternatives with probabilities. Two different
ways through an expression must never spell the same words; then its entropy is the entropy of its choices.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One word, which always appears."""

    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """Expressions one after the other; possibly none."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Alternatives, each with its probability; the probabilities are above 0 and add up to 1."""

    options: tuple[tuple[float, Expression], ...]


Expression = Word | Series | Choice


def series(*parts: Expression | None) -> Series:
    """The given expressions in order, without those that are None."""
    return Series(tuple(part for part in parts if part is not None))


def either(probability: float, first: Expression, second: Expression) -> Expression:
    """``first`` with the given probability, else ``second``."""
    if probability <= 0:
        return second
    if probability >= 1:
        return first
    return Choice(((probability, first), (1 - probability, second)))


def sample(expression: Expression, rng: random.Random) -> list[str]:
    """Draw one realisation of the expression; returns its words."""
    words: list[str] = []
    stack = [expression]
    while stack:
        part = stack.pop()
        if isinstance(part, Word):
            words.append(part.text)
        elif isinstance(part, Series):
            stack.extend(reversed(part.parts))
        else:
            point = rng.random()
            for probability, option in part.options:
                chosen = option
                point -= probability
                if point < 0:
                    break
            stack.append(chosen)
    return words


def entropy(expression: Expression) -> float:
    """Entropy of the realisations, in nats."""
    if isinstance(expression, Word):
        return 0.0
    if isinstance(expression, Series):
        return sum(entropy(part) for part in expression.parts)
    return sum(p * (entropy(option) - math.log(p)) for p, option in expression.options)


def expected_words(expression: Expression) -> float:
    """Mean number of words of a realisation."""
    if isinstance(expression, Word):
        return 1.0
    if isinstance(expression, Series):
        return sum(expected_words(part) for part in expression.parts)
    return sum(p * expected_words(option) for p, option in expression.options)


def alternatives(expression: Expression) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Every realisation of the expression, with its probability; their number is exponential in the choices."""
    if isinstance(expression, Word):
        yield 1.0, (expression.text,)
    elif isinstance(expression, Series):
        if not expression.parts:
            yield 1.0, ()
            return
        for p, head in alternatives(expression.parts[0]):
            for q, tail in alternatives(Series(expression.parts[1:])):
                yield p * q, head + tail
    else:
        for p, option in expression.options:
            for q, words in alternatives(option):
                yield p * q, words


def probability(expression: Expression, words: Sequence[str]) -> float:
    """Probability that the realisation is exactly ``words``; 0 if it never is."""
    return _ends(expression, words, 0).get(len(words), 0.0)


def _ends(expression: Expression, words: Sequence[str], start: int) -> dict[int, float]:
    """Where a match that begins at ``start`` can end, each with its probability."""
    if isinstance(expression, Word):
        return {start + 1: 1.0} if start < len(words) and words[start] == expression.text else {}
    ends: dict[int, float] = {}
    if isinstance(expression, Choice):
        for p, option in expression.options:
            for end, q in _ends(option, words, start).items():
                ends[end] = ends.get(end, 0.0) + p * q
        return ends
    ends = {start: 1.0}
    for part in expression.parts:
        following: dict[int, float] = {}
        for middle, p in ends.items():
            for end, q in _ends(part, words, middle).items():
                following[end] = following.get(end, 0.0) + p * q
        ends = following
    return ends
