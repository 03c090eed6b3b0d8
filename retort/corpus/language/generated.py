"""Splits of the generated language pair, and the true entropy of their references."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from retort.config import GeneratedCorpus
from retort.corpus.cleaning import text_hash
from retort.corpus.language.grammar import Grammar, grammar_of
from retort.corpus.raw import RawCorpus, write_raw
from retort.data.parquet import iterate_table
from retort.data.tables import CORPUS
from retort.errors import RetortError
from retort.filenames import TRAIN, VALID

# After this many draws in a row without a new sentence the language counts as used up.
_PATIENCE = 10_000


def read_corpus(settings: GeneratedCorpus, staging: Path, mirror: Path | None, cache: Path) -> RawCorpus:
    """Raw tables of the splits; there is nothing to download."""
    tables = {
        split: write_raw(staging, split, ((source, [target]) for source, target in pairs))
        for split, pairs in generate(settings).items()
    }
    return RawCorpus({split: tables[split] for split in (TRAIN, VALID, "test")})


def describe_corpus(settings: GeneratedCorpus, tables: Mapping[str, Path]) -> dict[str, Any]:
    """The true conditional entropy of the references of each split, and the kinds of their sentences."""
    grammar = grammar_of(settings)
    splits = {}
    for split, path in tables.items():
        meter = EntropyMeter(grammar)
        for part in iterate_table(path, CORPUS):
            meter.add(part.column("source").to_pylist())
        splits[split] = meter.result()
    per_train = {key: splits[TRAIN][key] for key in ("nats_per_sentence", "nats_per_word")}
    return {"true_conditional_entropy": {**per_train, "splits": splits}}


def generate(settings: GeneratedCorpus) -> dict[str, Iterator[tuple[str, str]]]:
    """Pairs of train, valid and test; no source sentence occurs twice in all of them.

    Test and valid come first and must be used up before train; they do not depend on the number of training pairs.
    """
    grammar = grammar_of(settings)
    seen: set[int] = set()
    sizes = {"test": settings.test_pairs, "valid": settings.valid_pairs, "train": settings.train_pairs}
    return {
        split: _new_pairs(grammar, settings.seed, split=split, size=size, seen=seen) for split, size in sizes.items()
    }


def _new_pairs(grammar: Grammar, seed: int, *, split: str, size: int, seen: set[int]) -> Iterator[tuple[str, str]]:
    rng = random.Random(f"{split} {seed}")
    for _ in range(size):
        for _ in range(_PATIENCE):
            source, target = grammar.sample_pair(rng)
            key = text_hash(source)
            if key not in seen:
                break
        else:
            raise RetortError(
                f"corpus: the generated language has too few sentences for {size} {split} pairs; ask for fewer"
            )
        seen.add(key)
        yield source, target


class EntropyMeter:
    """Adds up the true conditional entropy of references, and the kinds of their sentences."""

    def __init__(self, grammar: Grammar):
        self._grammar = grammar
        self._sentences = 0
        self._words = 0.0
        self._nats = 0.0
        self._kinds: Counter[str] = Counter()

    def add(self, sources: Iterable[str]) -> None:
        """Add sentences by their sources."""
        for source in sources:
            self._sentences += 1
            self._nats += self._grammar.entropy(source)
            self._words += self._grammar.expected_words(source)
            self._kinds.update(self._grammar.kinds(source))

    def result(self) -> dict[str, Any]:
        """Nats per sentence, nats per word (all nats by all expected target words), and sentences of each kind."""
        return {
            "nats_per_sentence": self._nats / max(1, self._sentences),
            "nats_per_word": self._nats / max(1.0, self._words),
            "expected_words": self._words,
            "sentences": self._sentences,
            "kinds": dict(sorted(self._kinds.items())),
        }
