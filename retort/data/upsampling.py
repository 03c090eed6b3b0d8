"""How many decoder slots a source's tokens make, and which token each slot comes from."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

MOST_PARTS = 1000
"""The largest denominator of a number of slots per token: a thousandth is told apart."""


class Upsampling(NamedTuple):
    """Slots per token as a fraction, so that torch, numpy and a graph round in the same way. The methods take an int,
    or an integer array or tensor, and give the same."""

    numerator: int
    denominator: int

    @classmethod
    def of(cls, slots_per_token: float) -> Upsampling:
        """From a number of the configuration."""
        fraction = Fraction(slots_per_token).limit_denominator(MOST_PARTS)
        return cls(fraction.numerator, fraction.denominator)

    @property
    def fact(self) -> int | list[int]:
        """What a bundle says, as ``of_fact`` reads it: bundles of whole numbers are older than fractions."""
        return self.numerator if self.is_whole else list(self)

    @classmethod
    def of_fact(cls, fact: int | list[int]) -> Upsampling:
        """From a bundle."""
        return cls(fact, 1) if isinstance(fact, int) else cls(*fact)

    @property
    def is_whole(self) -> bool:
        """Whether every token makes the same number of slots."""
        return self.denominator == 1

    def slots(self, tokens: Any) -> Any:
        """Slots of this many tokens, eos included; rounded up."""
        return (tokens * self.numerator + self.denominator - 1) // self.denominator

    def token(self, slot: Any) -> Any:
        """The token that a slot comes from; both count from 0."""
        return slot * self.denominator // self.numerator


ONE_SLOT = Upsampling(1, 1)
