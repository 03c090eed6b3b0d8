"""A made-up language pair with a known distribution of references.

Source sentences are one or two clauses, subject verb object, 3 to 14 words:

    sentence    = clause [conjunction clause]
    clause      = noun-phrase verb [noun-phrase] [preposition noun-phrase] [adverb]
    noun-phrase = (determiner | number) [adjective] noun        (nouns have a plural; after a number always)

The target has the verb last, the adjective after its noun, the preposition after its noun phrase, the number at the
end of its noun phrase; determiners and adjectives agree with the class of the noun; some source words share one
translation. Three kinds of random choices make several translations right:

    synonym        a target word has two variants, one of them the usual one; a noun's variants may differ in class, and
                   its determiner and adjective then agree with the one chosen
    reordering     a clause has its verb last, or verb first with the place and the adverb at its end
    optional_word  a particle opens a clause or not, a marker follows an object or not

The choices are independent, and different choices never give the same target, so the entropy of the target given the
source is the sum of the choices' entropies.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from retort.config import GeneratedCorpus
from retort.corpus.language.choices import (
    Expression,
    Series,
    Word,
    either,
    entropy,
    expected_words,
    probability,
    sample,
    series,
)
from retort.corpus.language.lexicon import (
    ADJECTIVE_ENDINGS,
    SOURCE_PLURAL,
    TARGET_PLURAL,
    Lexicon,
    Variant,
    make_lexicon,
)
from retort.errors import RetortError

LONGEST_SOURCE = 14

# Shape of the source sentences: chosen so that they have about 8 words.
_TWO_CLAUSES, _TRANSITIVE, _PLACE, _ADVERB = 0.3, 0.65, 0.35, 0.3
_NUMBER, _ADJECTIVE, _PLURAL = 0.2, 0.35, 0.3


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """Indices of its words in the lexicon; it has either a determiner or a number."""

    noun: int
    plural: bool
    determiner: int | None
    number: int | None
    adjective: int | None


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause; it has an object exactly if its verb is transitive, and ``place`` is a preposition with its phrase."""

    subject: NounPhrase
    verb: int
    object: NounPhrase | None
    place: tuple[int, NounPhrase] | None
    adverb: int | None


@dataclass(frozen=True, slots=True)
class Sentence:
    """One clause, or two with a conjunction."""

    clauses: tuple[Clause, ...]
    conjunction: int | None


class Grammar:
    """The language pair of a seed and its amounts of choice; see the module."""

    def __init__(
        self,
        seed: int = 1,
        synonyms: float = 0.5,
        usual_synonym: float = 0.7,
        reordering: float = 0.3,
        optional_words: float = 0.3,
    ):
        """``synonyms`` is the share of target words with a synonym; the others are probabilities."""
        self.lexicon: Lexicon = make_lexicon(seed, synonyms)
        self._usual = usual_synonym
        self._reordering = reordering
        self._optional = optional_words
        self._category: dict[str, tuple[str, int, bool]] = {}
        for category, words in self.lexicon.source.items():
            for index, word in enumerate(words):
                self._category[word] = (category, index, False)
                if category == "noun":
                    self._category[word + SOURCE_PLURAL] = (category, index, True)

    def sample(self, rng: random.Random, n: int) -> list[tuple[str, str]]:
        """``n`` pairs of source and target, drawn independently."""
        return [self.sample_pair(rng) for _ in range(n)]

    def sample_pair(self, rng: random.Random) -> tuple[str, str]:
        """One pair of source and target."""
        while True:
            sentence = self._sentence(rng)
            words = self._source_words(sentence)
            if len(words) <= LONGEST_SOURCE:
                return " ".join(words), " ".join(sample(self._translate(sentence), rng))

    def references(self, source: str) -> Expression:
        """Every right translation of ``source`` with its probability, as an expression with choices.

        Raises RetortError if ``source`` is not a sentence of this grammar.
        """
        return self._translate(self.parse(source))

    def entropy(self, source: str) -> float:
        """Entropy of the target given ``source``, in nats."""
        return entropy(self.references(source))

    def expected_words(self, source: str) -> float:
        """Mean number of target words of ``source``."""
        return expected_words(self.references(source))

    def probability(self, source: str, hypothesis: str) -> float:
        """Probability that the reference of ``source`` is ``hypothesis``; 0 if it is no right translation."""
        return probability(self.references(source), hypothesis.split())

    def valid_target(self, source: str, hypothesis: str) -> bool:
        """Whether ``hypothesis`` is one of the right translations of ``source``."""
        return self.probability(source, hypothesis) > 0

    def kinds(self, source: str) -> frozenset[str]:
        """What is special about ``source``: its choices (synonym, reordering, optional_word) and two_clauses."""
        sentence = self.parse(source)
        kinds = set()
        if 0 < self._reordering < 1:
            kinds.add("reordering")
        if 0 < self._optional < 1:
            kinds.add("optional_word")
        words = [self._category[word][:2] for word in source.split()]
        if any(category != "determiner" and len(self.lexicon.target[category][i]) > 1 for category, i in words):
            kinds.add("synonym")
        if len(sentence.clauses) > 1:
            kinds.add("two_clauses")
        return frozenset(kinds)

    # ---- source -----------------------------------------------------------------------------------------------------

    def parse(self, source: str) -> Sentence:
        """The structure of a source sentence; raises RetortError if it is not one of this grammar."""
        words = source.split()
        unknown = [word for word in words if word not in self._category]
        if unknown:
            raise RetortError(f"{source!r}: {unknown[0]!r} is not a source word of this grammar; use its own sentences")
        return _Parser(source, [self._category[word] for word in words]).sentence()

    def _sentence(self, rng: random.Random) -> Sentence:
        if rng.random() >= _TWO_CLAUSES:
            return Sentence((self._clause(rng),), None)
        return Sentence((self._clause(rng), self._clause(rng)), self._draw(rng, "conjunction"))

    def _clause(self, rng: random.Random) -> Clause:
        transitive = rng.random() < _TRANSITIVE
        return Clause(
            subject=self._noun_phrase(rng),
            verb=self._draw(rng, "transitive" if transitive else "intransitive"),
            object=self._noun_phrase(rng) if transitive else None,
            place=(self._draw(rng, "preposition"), self._noun_phrase(rng)) if rng.random() < _PLACE else None,
            adverb=self._draw(rng, "adverb") if rng.random() < _ADVERB else None,
        )

    def _noun_phrase(self, rng: random.Random) -> NounPhrase:
        number = self._draw(rng, "number") if rng.random() < _NUMBER else None
        return NounPhrase(
            noun=self._draw(rng, "noun"),
            plural=number is not None or rng.random() < _PLURAL,
            determiner=self._draw(rng, "determiner") if number is None else None,
            number=number,
            adjective=self._draw(rng, "adjective") if rng.random() < _ADJECTIVE else None,
        )

    def _draw(self, rng: random.Random, category: str) -> int:
        return int(rng.random() * len(self.lexicon.source[category]))

    def _source_words(self, sentence: Sentence) -> list[str]:
        words: list[str] = []
        source = self.lexicon.source

        def phrase(part: NounPhrase) -> None:
            if part.determiner is not None:
                words.append(source["determiner"][part.determiner])
            if part.number is not None:
                words.append(source["number"][part.number])
            if part.adjective is not None:
                words.append(source["adjective"][part.adjective])
            words.append(source["noun"][part.noun] + (SOURCE_PLURAL if part.plural else ""))

        for clause in sentence.clauses:
            if words and sentence.conjunction is not None:
                words.append(source["conjunction"][sentence.conjunction])
            phrase(clause.subject)
            words.append(source["intransitive" if clause.object is None else "transitive"][clause.verb])
            if clause.object is not None:
                phrase(clause.object)
            if clause.place is not None:
                words.append(source["preposition"][clause.place[0]])
                phrase(clause.place[1])
            if clause.adverb is not None:
                words.append(source["adverb"][clause.adverb])
        return words

    # ---- target -----------------------------------------------------------------------------------------------------

    def _translate(self, sentence: Sentence) -> Expression:
        clauses = [self._translate_clause(clause) for clause in sentence.clauses]
        if sentence.conjunction is None:
            return clauses[0]
        return series(clauses[0], self._word("conjunction", sentence.conjunction), clauses[1])

    def _translate_clause(self, clause: Clause) -> Expression:
        subject = self._translate_phrase(clause.subject)
        verb = self._word("intransitive" if clause.object is None else "transitive", clause.verb)
        adverb = None if clause.adverb is None else self._word("adverb", clause.adverb)
        place = thing = None
        if clause.place is not None:
            place = series(self._translate_phrase(clause.place[1]), self._word("preposition", clause.place[0]))
        if clause.object is not None:
            thing = series(self._translate_phrase(clause.object), self._optional_word(self.lexicon.object_marker))
        verb_last = series(subject, adverb, place, thing, verb)
        verb_first = series(verb, subject, thing, place, adverb)
        return series(self._optional_word(self.lexicon.opening), either(self._reordering, verb_first, verb_last))

    def _translate_phrase(self, phrase: NounPhrase) -> Expression:
        options = [self._agreeing(phrase, noun) for noun in self.lexicon.target["noun"][phrase.noun]]
        return self._either_variant(options)

    def _agreeing(self, phrase: NounPhrase, noun: Variant) -> Expression:
        """A noun phrase around one variant of its noun."""
        parts: list[Expression] = []
        if phrase.determiner is not None:
            parts.append(Word(self.lexicon.determiners[phrase.determiner][noun.noun_class]))
        parts.append(Word(noun.stem + (TARGET_PLURAL if phrase.plural else "")))
        if phrase.adjective is not None:
            ending = ADJECTIVE_ENDINGS[noun.noun_class]
            variants = self.lexicon.target["adjective"][phrase.adjective]
            parts.append(self._either_variant([Word(variant.stem + ending) for variant in variants]))
        if phrase.number is not None:
            parts.append(self._word("number", phrase.number))
        return Series(tuple(parts))

    def _word(self, category: str, index: int) -> Expression:
        return self._either_variant([Word(variant.stem) for variant in self.lexicon.target[category][index]])

    def _either_variant(self, options: Sequence[Expression]) -> Expression:
        return either(self._usual, options[0], options[1]) if len(options) == 2 else options[0]

    def _optional_word(self, word: str) -> Expression:
        return either(self._optional, Word(word), Series(()))


class _Parser:
    """Recursive descent over (category, index, plural) of every word."""

    def __init__(self, source: str, words: list[tuple[str, int, bool]]):
        self._source = source
        self._words = words
        self._at = 0

    def sentence(self) -> Sentence:
        clauses, conjunction = [self._clause()], self._take("conjunction")
        if conjunction is not None:
            clauses.append(self._clause())
        if self._at < len(self._words):
            self._fail("the end of the sentence")
        return Sentence(tuple(clauses), None if conjunction is None else conjunction[0])

    def _clause(self) -> Clause:
        subject = self._noun_phrase()
        verb, thing = self._take("intransitive"), None
        if verb is None:
            verb = self._need("transitive")
            thing = self._noun_phrase()
        preposition = self._take("preposition")
        place = None if preposition is None else (preposition[0], self._noun_phrase())
        adverb = self._take("adverb")
        return Clause(subject, verb[0], thing, place=place, adverb=None if adverb is None else adverb[0])

    def _noun_phrase(self) -> NounPhrase:
        number = self._take("number")
        determiner = self._need("determiner") if number is None else None
        adjective = self._take("adjective")
        noun, plural = self._need("noun")
        return NounPhrase(
            noun=noun,
            plural=plural,
            determiner=None if determiner is None else determiner[0],
            number=None if number is None else number[0],
            adjective=None if adjective is None else adjective[0],
        )

    def _take(self, category: str) -> tuple[int, bool] | None:
        if self._at < len(self._words) and self._words[self._at][0] == category:
            self._at += 1
            return self._words[self._at - 1][1:]
        return None

    def _need(self, category: str) -> tuple[int, bool]:
        word = self._take(category)
        if word is None:
            self._fail(f"a word of category {category}")
        return word

    def _fail(self, expected: str) -> NoReturn:
        raise RetortError(
            f"{self._source!r}: word {self._at + 1}: expected {expected}; use the grammar's own sentences"
        )


def grammar_of(settings: GeneratedCorpus) -> Grammar:
    """The grammar that a generated corpus is drawn from."""
    return Grammar(
        seed=settings.seed,
        synonyms=settings.synonyms,
        usual_synonym=settings.usual_synonym,
        reordering=settings.reordering,
        optional_words=settings.optional_words,
    )


def judge(settings: GeneratedCorpus) -> Callable[[str, str], bool]:
    """Whether a source has a translation among its right ones."""
    return grammar_of(settings).valid_target
