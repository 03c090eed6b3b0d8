"""From wildcards to the plan's methods."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

from retort.workflow.wiring import of_job

JOB = SimpleNamespace(system="a", seed="3", iteration="2", search="5")


class Methods:
    def one(self, system: str, seed: int) -> tuple[str, int]:
        return system, seed

    def two(self, search: str, iteration: int, systems: str = "all") -> tuple[str, int, str]:
        return search, iteration, systems

    def none(self, *numbers: int) -> tuple[int, ...]:
        return numbers


def test_a_method_gets_the_wildcards_that_its_arguments_name() -> None:
    assert of_job(Methods().one)(JOB) == ("a", 3)
    # a search may have a number for its name
    assert of_job(Methods().two)(JOB) == ("5", 2, "all")
    assert of_job(Methods().none)(JOB) == ()
    assert of_job(partial(Methods().none, 1, 2))(JOB) == (1, 2)
    assert of_job(partial(Methods().one, "b"))(JOB) == ("b", 3)


def test_a_wildcard_that_the_rule_does_not_have_is_named() -> None:
    with pytest.raises(AttributeError, match="seed"):
        of_job(Methods().one)(SimpleNamespace(system="a"))
