import math
import random

import pytest

from retort.corpus.language.choices import alternatives
from retort.corpus.language.grammar import LONGEST_SOURCE, Grammar
from retort.errors import RetortError


@pytest.fixture(scope="module")
def pairs():
    return Grammar().sample(random.Random(0), 400)


def test_entropy_is_that_of_the_enumerated_references(pairs):
    grammar, checked = Grammar(), 0
    for source, _ in pairs:
        if grammar.entropy(source) > 5:
            continue
        found = list(alternatives(grammar.references(source)))
        assert len({words for _, words in found}) == len(found), "two ways to the same target"
        assert sum(p for p, _ in found) == pytest.approx(1)
        assert grammar.entropy(source) == pytest.approx(-sum(p * math.log(p) for p, _ in found))
        assert grammar.expected_words(source) == pytest.approx(sum(p * len(words) for p, words in found))
        checked += 1
    assert checked > 200


def test_every_reference_is_valid_and_their_mean_information_is_the_entropy(pairs):
    grammar = Grammar()
    probabilities = [grammar.probability(source, target) for source, target in pairs]
    assert min(probabilities) > 0
    information = -sum(map(math.log, probabilities)) / len(pairs)
    assert information == pytest.approx(sum(grammar.entropy(source) for source, _ in pairs) / len(pairs), rel=0.03)


def test_a_mixture_of_two_translations_is_not_valid():
    grammar = Grammar(synonyms=0, reordering=0.5, optional_words=0)
    mixed = 0
    single = [
        source for source, _ in grammar.sample(random.Random(1), 100) if "two_clauses" not in grammar.kinds(source)
    ]
    for source in single[:50]:
        (_, one), (_, other) = alternatives(grammar.references(source))
        assert sorted(one) == sorted(other) != one
        half = len(one) // 2
        mixture = " ".join(one[:half] + other[half:])
        mixed += not grammar.valid_target(source, mixture)
        assert not grammar.valid_target(source, " ".join(one[:-1]))
        assert not grammar.valid_target(source, " ".join(one) + " x")
    assert mixed > 45


def test_sentences_have_the_promised_shape(pairs):
    lengths = [len(source.split()) for source, _ in pairs]
    assert min(lengths) >= 3
    assert max(lengths) <= LONGEST_SOURCE
    sources = {word for source, _ in pairs for word in source.split()}
    targets = {word for _, target in pairs for word in target.split()}
    assert not sources & targets
    assert 60 <= len(sources) <= 150
    assert 60 <= len(targets) <= 150


def test_without_choices_there_is_one_translation():
    grammar = Grammar(synonyms=0, reordering=0, optional_words=0)
    for source, target in grammar.sample(random.Random(0), 50):
        assert grammar.entropy(source) == 0
        assert grammar.probability(source, target) == 1
        assert grammar.kinds(source) <= {"two_clauses"}


def test_word_order_and_agreement():
    grammar = Grammar(synonyms=1, reordering=0, optional_words=0)
    words, lexicon = grammar.lexicon.source, grammar.lexicon
    source = f"{words['determiner'][0]} {words['adjective'][0]} {words['noun'][0]} {words['intransitive'][0]}"
    options = [said for _, said in alternatives(grammar.references(source))]
    assert len(options) == 8
    for determiner, noun, adjective, verb in options:
        variant = next(v for v in lexicon.target["noun"][0] if v.stem == noun)
        assert determiner == lexicon.determiners[0][variant.noun_class]
        assert adjective.endswith(("o", "ee")[variant.noun_class])
        assert verb in {v.stem for v in lexicon.target["intransitive"][0]}


def test_some_source_words_share_their_translation():
    grammar = Grammar(synonyms=0)
    target = grammar.lexicon.target["transitive"]
    assert len(set(target)) < len(target)


def test_kinds(pairs):
    grammar = Grammar()
    kinds = [grammar.kinds(source) for source, _ in pairs]
    assert all({"reordering", "optional_word"} <= found for found in kinds)
    for (source, _), found in zip(pairs, kinds, strict=True):
        conjunctions = set(grammar.lexicon.source["conjunction"]) & set(source.split())
        assert ("two_clauses" in found) == bool(conjunctions)
        without = Grammar(reordering=0, optional_words=0)
        assert ("synonym" in found) == (without.entropy(source) > 0)


def test_sentences_of_another_language_are_refused(pairs):
    grammar = Grammar()
    with pytest.raises(RetortError, match="'hello' is not a source word"):
        grammar.entropy("hello world")
    source = pairs[0][0]
    with pytest.raises(RetortError, match="expected the end of the sentence"):
        grammar.parse(f"{source} {source}")
    with pytest.raises(RetortError, match="word 1: expected a word of category determiner"):
        grammar.parse(source.split()[-1])


def test_the_seed_decides():
    same = [Grammar(seed).sample(random.Random(3), 5) for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]
