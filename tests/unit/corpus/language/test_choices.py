import math
import random
from collections import Counter

import pytest

from retort.corpus.language.choices import (
    Choice,
    Series,
    Word,
    alternatives,
    either,
    entropy,
    expected_words,
    probability,
    sample,
)
from retort.corpus.language.choices import series as make_series

NESTED = make_series(
    either(0.3, Word("now"), Series(())),
    None,
    Choice(((0.2, make_series(Word("a"), either(0.5, Word("b"), Word("c")))), (0.8, Word("d")))),
)


def test_alternatives_are_distinct_and_add_up():
    found = {words: p for p, words in alternatives(NESTED)}
    assert len(found) == 6
    assert sum(found.values()) == pytest.approx(1)
    assert found["now", "a", "c"] == pytest.approx(0.3 * 0.2 * 0.5)


def test_entropy_length_and_probability_agree_with_enumeration():
    found = {words: p for p, words in alternatives(NESTED)}
    assert entropy(NESTED) == pytest.approx(-sum(p * math.log(p) for p in found.values()))
    assert expected_words(NESTED) == pytest.approx(sum(p * len(words) for words, p in found.items()))
    for words, p in found.items():
        assert probability(NESTED, words) == pytest.approx(p)
    for wrong in [(), ("now",), ("a",), ("a", "b", "c"), ("now", "now", "d"), ("x",)]:
        assert probability(NESTED, wrong) == 0


def test_samples_follow_the_probabilities():
    rng = random.Random(0)
    counted = Counter(tuple(sample(NESTED, rng)) for _ in range(4000))
    for p, words in alternatives(NESTED):
        assert counted[words] / 4000 == pytest.approx(p, abs=0.03)


def test_certain_choices_are_none():
    assert either(0, Word("a"), Word("b")) == Word("b")
    assert either(1, Word("a"), Word("b")) == Word("a")
