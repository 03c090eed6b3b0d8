"""The made-up words of the generated language pair: pronounceable, and no form belongs to two words.

Source and target words use other consonants, so that no piece of one side means something on the other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

SOURCE_SOUNDS = ("b d f g k l m n p t", "a e i o", "l n r t")
TARGET_SOUNDS = ("h j r s v w y z", "a e i o u", "h m s x")
SOURCE_PLURAL = "u"
TARGET_PLURAL = "ki"
ADJECTIVE_ENDINGS = ("o", "ee")
"""Endings of target adjectives by the class of their noun."""
CLASSES = (0, 1)
"""Target nouns belong to one of two classes, which determiners and adjectives agree with."""

# Words a category. Merged words share the translation of the word before them: many-to-one.
CONTENT = {"noun": 20, "adjective": 10, "transitive": 10, "intransitive": 6, "adverb": 5}
FUNCTION = {"number": 5, "preposition": 4, "determiner": 2, "conjunction": 2}
MERGED = {"noun": 2, "transitive": 2, "intransitive": 1}


@dataclass(frozen=True)
class Variant:
    """One way to translate a source word: the target stem, and its class if it is a noun."""

    stem: str
    noun_class: int = 0


@dataclass(frozen=True)
class Lexicon:
    """Source words by category; their target variants, the usual one first; and the target's own function words."""

    source: dict[str, tuple[str, ...]]
    target: dict[str, tuple[tuple[Variant, ...], ...]]
    determiners: tuple[tuple[str, str], ...]
    """Target form of each determiner by class."""
    opening: str
    """Optional target particle at the start of a clause."""
    object_marker: str
    """Optional target particle after an object."""


def make_lexicon(seed: int, synonyms: float) -> Lexicon:
    """The lexicon of a seed; ``synonyms`` is the share of target content words that have a second variant."""
    rng = random.Random(f"lexicon {seed}")
    used: set[str] = set()
    source = {
        category: tuple(
            _word(rng, SOURCE_SOUNDS, used, syllables=2 if category in CONTENT else 1) for _ in range(count)
        )
        for category, count in {**CONTENT, **FUNCTION}.items()
    }
    target = {
        category: _variants(rng, used, category, count=count, synonyms=synonyms)
        for category, count in {**CONTENT, **FUNCTION}.items()
        if category != "determiner"
    }
    particles = [_word(rng, TARGET_SOUNDS, used, syllables=1) for _ in range(2 * FUNCTION["determiner"] + 2)]
    return Lexicon(
        source=source,
        target=target,
        determiners=tuple((particles[2 * i], particles[2 * i + 1]) for i in range(FUNCTION["determiner"])),
        opening=particles[-2],
        object_marker=particles[-1],
    )


def _variants(
    rng: random.Random, used: set[str], category: str, count: int, synonyms: float
) -> tuple[tuple[Variant, ...], ...]:
    """Variants of every word of a category; the words with a synonym are drawn at random."""
    content = category in CONTENT
    with_synonym = set(rng.sample(range(count), round(synonyms * count))) if content else set()
    entries: list[tuple[Variant, ...]] = []
    for index in range(count):
        stems = [_word(rng, TARGET_SOUNDS, used, syllables=2 if content else 1) for _ in range(2)]
        classes = [rng.choice(CLASSES) for _ in range(2)]
        variants = tuple(Variant(stem, noun_class) for stem, noun_class in zip(stems, classes, strict=True))
        entries.append(variants if index in with_synonym else variants[:1])
    for merged in range(MERGED.get(category, 0)):
        entries[-1 - 2 * merged] = entries[-2 - 2 * merged]
    return tuple(entries)


def _word(rng: random.Random, sounds: tuple[str, str, str], used: set[str], syllables: int) -> str:
    """A new word of open syllables and a closing consonant, none of whose forms is another word's."""
    onsets, vowels, codas = (part.split() for part in sounds)
    while True:
        word = "".join(rng.choice(onsets) + rng.choice(vowels) for _ in range(syllables)) + rng.choice(codas)
        forms = {word} | {word + ending for ending in (SOURCE_PLURAL, TARGET_PLURAL, *ADJECTIVE_ENDINGS)}
        if not forms & used:
            used |= forms
            return word
