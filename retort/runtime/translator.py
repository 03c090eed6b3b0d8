"""The Python interface: ``retort.load``.

    import retort

    translator = retort.load("ctc")
    print(translator.translate("A dog runs.").text)

A bundle opens without torch; see docs/python.md.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from retort.errors import RetortError, remedy
from retort.runtime.asked import check_counts, check_opening, checked_texts
from retort.runtime.choosing import chosen_search
from retort.runtime.kept import Keeper
from retort.runtime.opening import check_teacher, open_system
from retort.runtime.results import Hypothesis, Latency, TextTranslation, Token, Translation
from retort.runtime.running_text import combined, translated_lines
from retort.runtime.segments import segments
from retort.runtime.system import Output, ScoredOutput, System
from retort.search.ngram_scores import forget_scores

REMEMBERED = 1000
"""Calls whose times ``Translator.latency`` knows."""


class Translator:
    """A system that is loaded and ready. Several threads may call it at once."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._pieces = system.vocabulary.target_pieces
        # appending to a deque is atomic
        self._times: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)

    @property
    def engine(self) -> str:
        """torch, onnx or ctranslate2."""
        return self._system.engine

    @property
    def precision(self) -> str:
        """float32, bfloat16 or int8."""
        return self._system.precision

    @property
    def search(self) -> dict[str, Any]:
        """How it decodes: a complete section of the configuration."""
        return dict(self._system.search)

    @property
    def most_outputs(self) -> int:
        """The largest ``n_best`` of its search."""
        return self._system.most_outputs

    @property
    def longest_source(self) -> int:
        """Tokens of a source that the model reads."""
        return self._system.max_length - 1

    def source_tokens(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each source."""
        return [len(tokens) for tokens in self._system.vocabulary.encode_source(checked_texts(texts))]

    @overload  # a string is a sequence of strings, too
    def translate(  # type: ignore[overload-overlap]
        self, texts: str, *, n_best: int = 1, scores: bool = False, batch_size: int | None = None
    ) -> Translation: ...

    @overload
    def translate(
        self, texts: Sequence[str], *, n_best: int = 1, scores: bool = False, batch_size: int | None = None
    ) -> list[Translation]: ...

    def translate(
        self, texts: str | Sequence[str], *, n_best: int = 1, scores: bool = False, batch_size: int | None = None
    ) -> Translation | list[Translation]:
        """Translate one text, or several in their order. A text is one segment: white space is not kept.

        ``n_best``: outputs per text, as many as the search ranks. ``scores`` adds scores and probabilities, which take
        time. ``batch_size``: most texts decoded at once; None: 32, or one where an output would depend on the others.
        Raises RetortError if the search ranks fewer outputs.
        """
        sources = checked_texts(texts)
        check_counts(n_best=n_best, batch_size=1 if batch_size is None else batch_size)
        start = time.perf_counter()
        if scores or n_best > 1:
            found = [
                _scored(source, outputs, self._pieces, scores)
                for source, outputs in zip(
                    sources, self._system.translate_scored(sources, n_best, batch_size), strict=True
                )
            ]
        else:
            outputs = self._system.translate(sources, batch_size)
            found = [_plain(source, output) for source, output in zip(sources, outputs, strict=True)]
        if sources:
            self._times.append((time.perf_counter() - start, len(sources)))
        return found[0] if isinstance(texts, str) else found

    def translate_text(
        self, text: str, *, placeholders: Sequence[str] = (), scores: bool = False, batch_size: int | None = None
    ) -> TextTranslation:
        """Translate running text as people send it: line by line, each split into sentences and put together again.

        Line breaks stay, and so does white space at the edges of lines. A sentence that is longer than the model reads
        is split further, never cut. Addresses, numbers, tags and ``placeholders`` (regular expressions) are compared
        with those of the source; the result says which are lost.
        """
        (text,) = checked_texts([text])
        return combined(self.translate_lines(text.split("\n"), Keeper(placeholders), scores, batch_size))

    def segments(self, text: str) -> list[str]:
        """The sentences, or parts of long ones, that ``translate_text`` translates one by one."""
        (text,) = checked_texts([text])
        return [segment.text for line in text.split("\n") for segment in segments(line, self._fits)]

    def translate_lines(
        self, lines: Sequence[str], keeper: Keeper, scores: bool = False, batch_size: int | None = None
    ) -> list[TextTranslation]:
        """The same for each line by itself; the segments of all lines are translated together."""

        def translate(texts: Sequence[str]) -> list[Translation]:
            return self.translate(texts, scores=scores, batch_size=batch_size)

        return translated_lines(lines, translate, self._fits, keeper)

    def _fits(self, text: str) -> bool:
        """Whether the model reads all of it."""
        return self.source_tokens([text])[0] <= self.longest_source

    def latency(self, texts: Sequence[str] | None = None, *, batch_size: int = 1, rounds: int = 3) -> Latency:
        """Times of ``translate``: of the last 1,000 calls, or measured now on these texts.

        The measurement translates the texts ``rounds`` times in batches, after one round to warm up, and its calls do
        not count among those that are remembered. Raises RetortError if there is nothing to time.
        """
        times = list(self._times)
        if texts is not None:
            check_counts(batch_size=batch_size, rounds=rounds)
            texts = [text for text in checked_texts(texts) if text.strip()]
            batches = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)]
            times = [timed for _ in range(rounds + 1) for timed in self._timed_round(batches)][len(batches) :]
        if not times:
            raise RetortError("nothing to time: give texts, or translate some first")
        seconds = sorted(seconds for seconds, _ in times)
        p50, p90, p99 = (1000 * seconds[math.ceil(share * len(seconds)) - 1] for share in (0.5, 0.9, 0.99))
        return Latency(len(times), sum(count for _, count in times), p50, p90, milliseconds_p99=p99)

    def _timed_round(self, batches: Sequence[Sequence[str]]) -> list[tuple[float, int]]:
        """Without the scores of n-grams that the round before has kept of the same texts."""
        forget_scores()
        return [self._timed(batch) for batch in batches]

    def _timed(self, batch: Sequence[str]) -> tuple[float, int]:
        start = time.perf_counter()
        self._system.translate(batch, len(batch))
        return time.perf_counter() - start, len(batch)


def load(
    path: Path | str,
    *,
    search: Mapping[str, Any] | str | None = None,
    threads: int = 1,
    precision: str | None = None,
    device: str | None = None,
    teacher: Path | str | None = None,
    at_once: int = 1,
) -> Translator:
    """Open the directory of a trained system, which torch runs, or of an exported one, which does not need it.

    ``search``: how to decode, as a section of the configuration or as text, such as ``"beam beam_size=8"``, or
    ``"@search.json"`` for the section in a file; None: the one that a bundle was exported with, or the plainest of a
    checkpoint's objective. ``precision`` (float32, bfloat16), ``device`` (cpu, cuda) and ``teacher``, the directory of
    a checkpoint that scores candidates, are for trained systems alone. ``at_once``: calls from several threads that
    CTranslate2 decodes at the same time, with ``threads`` each; the other engines decode as many as there are. Raises
    RetortError, naming the file, for what cannot be loaded.
    """
    check_opening(path, search, precision, device, teacher, threads=threads, at_once=at_once)
    teacher = None if teacher is None else Path(teacher)
    try:
        chosen = None if search is None else chosen_search(path, search)
        system = open_system(path, chosen, threads, precision, teacher, device, at_once)
    except OSError as error:
        raise RetortError(f"{str(error.filename or path)[:200]}: {error.strerror or error}; {remedy(error)}") from None
    check_teacher(system, teacher)
    return Translator(system)


def _plain(source: str, output: Output) -> Translation:
    return Translation(source, (Hypothesis(output.text, output.truncated),), output.source_cut)


def _scored(source: str, outputs: Sequence[ScoredOutput], pieces: Sequence[str], scores: bool) -> Translation:
    hypotheses = []
    for output, score, log_probs in ((o.output, o.score, o.log_probs) for o in outputs):
        if not scores:
            hypotheses.append(Hypothesis(output.text, output.truncated))
            continue
        # rounding can bring a log-probability above 0
        pairs = zip(output.tokens, log_probs, strict=True)
        tokens = tuple(Token(pieces[token], math.exp(min(0.0, log_prob))) for token, log_prob in pairs)
        hypotheses.append(Hypothesis(output.text, output.truncated, score, tokens))
    return Translation(source, tuple(hypotheses), outputs[0].output.source_cut)
