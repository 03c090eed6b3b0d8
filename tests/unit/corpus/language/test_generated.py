import math
from typing import Any

import pytest

from retort.config import GeneratedCorpus
from retort.corpus.language.generated import EntropyMeter, generate
from retort.corpus.language.grammar import grammar_of
from retort.errors import RetortError


def settings(**changes: Any) -> GeneratedCorpus:
    return GeneratedCorpus(kind="generated", **{"train_pairs": 300, "valid_pairs": 50, "test_pairs": 40, **changes})


def drawn(corpus: GeneratedCorpus) -> dict[str, list[tuple[str, str]]]:
    return {split: list(pairs) for split, pairs in generate(corpus).items()}


def test_no_source_occurs_twice():
    splits = drawn(settings())
    assert {split: len(pairs) for split, pairs in splits.items()} == {"test": 40, "valid": 50, "train": 300}
    sources = [source for pairs in splits.values() for source, _ in pairs]
    assert len(set(sources)) == len(sources)


def test_test_and_valid_do_not_depend_on_the_size_of_train():
    small, large = drawn(settings()), drawn(settings(train_pairs=500))
    assert (small["test"], small["valid"]) == (large["test"], large["valid"])
    assert small["train"] == large["train"][:300]
    assert drawn(settings(seed=2)) != small


def test_the_language_can_be_used_up(monkeypatch):
    monkeypatch.setattr("retort.corpus.language.grammar.LONGEST_SOURCE", 3)
    monkeypatch.setattr("retort.corpus.language.generated._PATIENCE", 20)
    with pytest.raises(RetortError, match="too few sentences for 5000 train pairs"):
        drawn(settings(train_pairs=5000))


def test_the_meter_agrees_with_the_references_drawn():
    corpus = settings(train_pairs=2000)
    grammar, pairs = grammar_of(corpus), drawn(corpus)["train"]
    meter = EntropyMeter(grammar)
    meter.add(source for source, _ in pairs)
    found = meter.result()
    information = [-math.log(grammar.probability(source, target)) for source, target in pairs]
    words = sum(len(target.split()) for _, target in pairs)
    assert found["sentences"] == 2000
    assert found["nats_per_sentence"] == pytest.approx(sum(information) / 2000, rel=0.02)
    assert found["nats_per_word"] == pytest.approx(sum(information) / words, rel=0.02)
    assert found["kinds"]["reordering"] == 2000
    assert 0 < found["kinds"]["two_clauses"] < 2000
