"""What every engine offers: text in, text out."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, Self, TypeVar

from retort.data.lengths import similar_rows
from retort.data.ngrams import check_ngrams
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError

BATCH_SIZE = 32
"""Lines that are decoded at once where nothing is said; bounds the memory."""

TOGETHER = 512
"""Most tokens of sources, with eos and padding, that an exported model is given together; a longer source is alone. It
bounds the memory of a call; twice as many were no faster."""

SHORTEST = 0.75
"""Length of the shortest source of such a group, as a share of the longest."""

Item = TypeVar("Item")
Made = TypeVar("Made")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Output:
    """The best output for one line of text."""

    text: str
    tokens: list[int]
    """Target ids without special ones."""
    truncated: bool
    """Whether the source was cut or the output hit its limit."""
    passes: int
    """Decoder passes spent."""
    source_cut: int = 0
    """Tokens of the source that the model did not read, because it is too long."""


@dataclass(frozen=True)
class ScoredOutput:
    """One of the outputs for a line of text."""

    output: Output
    score: float
    """The search's own score in nats, higher is better."""
    log_probs: list[float]
    """Log-probability of each token, in nats."""


class Decoded(NamedTuple):
    """What an engine makes of one source."""

    tokens: list[int]
    truncated: bool
    passes: int


class Scored(NamedTuple):
    """One of the outputs that a search ranks for a source, and what it makes of it."""

    decoded: Decoded
    score: float
    """The search's own score in nats, higher is better."""
    log_probs: list[float]
    """Log-probability of each token, in nats."""


def no_token_scores(kind: str) -> RetortError:
    """What to say where scores are asked of a search that sums over the ways to a text."""
    return RetortError(
        f"the search {kind} sums over all ways to a text, so its tokens have no probabilities of their own; "
        "translate without scores, or by another search"
    )


def by_length(
    sources: Sequence[Sequence[int]], decode: Callable[[list[Sequence[int]]], list[Result]], at_once: int = 1
) -> list[Result]:
    """What ``decode`` makes of each source, where it is given those of about the same length at a time.

    An engine computes padding as it computes tokens, and about half of 64 captions in their order is padding.
    ``at_once``: groups that are decoded at the same time, in threads of their own.
    """
    groups = list(similar_rows([len(tokens) + 1 for tokens in sources], TOGETHER, SHORTEST))
    found = _concurrently(decode, [[sources[row] for row in rows] for rows in groups], at_once)
    results: dict[int, Result] = {}
    for rows, own in zip(groups, found, strict=True):
        results |= zip(rows, own, strict=True)
    return [results[row] for row in range(len(sources))]


def _concurrently(function: Callable[[Item], Made], items: Sequence[Item], at_once: int) -> list[Made]:
    """The function of each item, in their order."""
    if at_once == 1 or len(items) < 2:
        return list(map(function, items))
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(function, items))


def distinct(ranked: list[Scored]) -> list[Scored]:
    """Of equal outputs the first."""
    first: dict[tuple[int, ...], Scored] = {}
    for scored in ranked:
        first.setdefault(tuple(scored.decoded.tokens), scored)
    return list(first.values())


class System(ABC):
    """A system that is loaded and ready."""

    engine: str
    """torch, onnx or ctranslate2."""
    batch_size = BATCH_SIZE
    """Lines that are decoded at once unless the caller says otherwise; 1 where an output would depend on the others."""
    lines_at_once = 1
    """Lines that are decoded at the same time, each in a thread of its own, where they are decoded one by one."""
    has_shortlist: bool = False
    """Whether it scores candidates of a source instead of the vocabulary."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        search: Mapping[str, Any],
        kinds: Sequence[str],
        precision: str,
        max_length: int,
        truncate_sources: bool,
    ) -> None:
        """``kinds`` are those of the searches that it can decode with. ``max_length`` is that of a sequence in tokens,
        eos included; a longer source is cut, which counts as truncated unless ``truncate_sources``."""
        self.vocabulary, self.search, self.kinds, self.precision = vocabulary, search, kinds, precision
        self.max_length, self.truncate_sources = max_length, truncate_sources

    def with_search(self, search: Mapping[str, Any]) -> Self:
        """The same system, loaded once, with another search: a complete section of the configuration."""
        other = copy.copy(self)
        other.choose(search)
        return other

    def choose(self, search: Mapping[str, Any]) -> None:
        """Decode with this search from now on. Raises RetortError if its n-grams are of another vocabulary."""
        check_ngrams(search, self.vocabulary.digest)
        self.search = search

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Source ids of each text, cut to the longest that the model takes."""
        return [tokens[: self.max_length - 1] for tokens in self.vocabulary.encode_source(texts)]

    def translate(self, texts: Sequence[str], batch_size: int | None = None) -> list[Output]:
        """One output per text, in their order; text without tokens gives an empty output.

        ``batch_size``: texts that are decoded at once; None: the system's own.
        """
        longest = self.max_length - 1
        encoded = self.vocabulary.encode_source(texts)
        decoded = [Decoded([], False, 0)] * len(texts)
        for i, result in self._in_batches(self.decode, encoded, batch_size):
            cut = len(encoded[i]) > longest and not self.truncate_sources
            decoded[i] = result._replace(truncated=result.truncated or cut)
        lines = self.vocabulary.decode_target([result.tokens for result in decoded])
        cuts = [max(0, len(tokens) - longest) for tokens in encoded]
        return [Output(line, *result, cut) for line, result, cut in zip(lines, decoded, cuts, strict=True)]

    def translate_scored(
        self, texts: Sequence[str], count: int = 1, batch_size: int | None = None
    ) -> list[list[ScoredOutput]]:
        """At most ``count`` outputs per text, best first; text without tokens gives one empty output.

        Raises RetortError if the search ranks fewer.
        """
        if count > self.most_outputs:
            raise RetortError(
                f"{count} outputs per line: the search {self.search['kind']} ranks {self.most_outputs}; "
                + (f"raise its {self.outputs_key}" if self.outputs_key else "it has no others, so ask for one")
            )
        longest = self.max_length - 1
        encoded = self.vocabulary.encode_source(texts)
        cuts = [max(0, len(tokens) - longest) for tokens in encoded]
        outputs = [[ScoredOutput(Output("", [], False, passes=0), 0.0, [])] for _ in texts]
        for i, ranked in self._in_batches(lambda sources: self.decode_scored(sources, count), encoded, batch_size):
            lines = self.vocabulary.decode_target([scored.decoded.tokens for scored in ranked])
            cut = bool(cuts[i]) and not self.truncate_sources
            outputs[i] = [
                ScoredOutput(
                    Output(line, decoded.tokens, decoded.truncated or cut, decoded.passes, cuts[i]),
                    score,
                    log_probs,
                )
                for line, (decoded, score, log_probs) in zip(lines, ranked, strict=True)
            ]
        return outputs

    @property
    def asks_teacher(self) -> bool:
        """Whether its search has a teacher score the candidates."""
        return False

    @property
    @abstractmethod
    def outputs_key(self) -> str | None:
        """The option of the search that says how many outputs of a source it ranks; None: it ranks one."""

    @property
    def most_outputs(self) -> int:
        """The most outputs per source that the search ranks."""
        return 1 if self.outputs_key is None else int(self.search[self.outputs_key])

    @abstractmethod
    def decode(self, sources: Sequence[Sequence[int]]) -> list[Decoded]:
        """Decode one batch of source ids, each at least one and without eos."""

    @abstractmethod
    def decode_scored(self, sources: Sequence[Sequence[int]], count: int) -> list[list[Scored]]:
        """The same, slower: at most ``count`` outputs per source with their scores, best first.

        Raises RetortError for a search whose tokens have no probabilities of their own.
        """

    def _in_batches(
        self,
        decode: Callable[[list[Sequence[int]]], list[Result]],
        encoded: Sequence[Sequence[int]],
        batch_size: int | None,
    ) -> Iterator[tuple[int, Result]]:
        """Rows that have tokens, and what ``decode`` makes of them, cut to what the model takes, in batches of similar
        length; None: the system's own size."""
        size = batch_size or self.batch_size
        rows = [i for i, tokens in enumerate(encoded) if tokens]
        if size > 1:
            rows.sort(key=lambda i: len(encoded[i]))
        sources = [encoded[i][: self.max_length - 1] for i in rows]
        batches = [sources[start : start + size] for start in range(0, len(rows), size)]
        found = _concurrently(decode, batches, self.lines_at_once if size == 1 else 1)
        return zip(rows, chain.from_iterable(found), strict=True)
