"""Timing of decoders on real sentences: warmed up, synchronised, systems interleaved batch by batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from retort.config import Latency
from retort.data.batches import Ragged
from retort.data.vocabulary import Vocabulary
from retort.models.base import EncoderDecoder
from retort.search.base import run_search

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel


@dataclass(frozen=True)
class Timed:
    """A system to time: with one search, loaded and ready, and the teacher if the search needs one."""

    system: str
    seed: int
    search_name: str
    search: Any
    model: EncoderDecoder
    vocabulary: Vocabulary
    teacher: AutoregressiveModel | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        """System, seed and search name."""
        return self.system, self.seed, self.search_name


@dataclass(frozen=True)
class Timing:
    """Seconds for one batch of test sentences."""

    timed: Timed
    batch_size: int
    batch: int
    sentences: int
    model_seconds: float
    total_seconds: float


def measure(systems: Sequence[Timed], texts: Sequence[str], settings: Latency) -> Iterator[Timing]:
    """Time every system on the same batches, one system after the other on each batch.

    Because they are interleaved, changes in the machine's speed affect all systems alike. Batches with equal numbers
    hold equal sentences, so ratios can be computed batch by batch.
    """
    for size in settings.batch_sizes:
        batches = test_batches(texts, size, settings.sentences)
        for timed in systems:
            for number in range(settings.warmup):
                time_batch(timed, batches[number % len(batches)])
        for _ in range(settings.repeats):
            for number, batch in enumerate(batches):
                for timed in systems:
                    model_seconds, total_seconds = time_batch(timed, batch)
                    yield Timing(
                        timed=timed,
                        batch_size=size,
                        batch=number,
                        sentences=len(batch),
                        model_seconds=model_seconds,
                        total_seconds=total_seconds,
                    )


def test_batches(texts: Sequence[str], size: int, sentences: int) -> list[list[str]]:
    """Consecutive non-empty test sentences in batches of ``size``: ``sentences`` of them, and at least two batches
    where there are as many sentences. A last batch that would be smaller is left out if there is another."""
    texts = [text for text in texts if text.strip()]
    count = min(len(texts), max(sentences, 2 * size))
    batches = [list(texts[start : start + size]) for start in range(0, count, size)]
    if len(batches) > 1 and len(batches[-1]) < size:
        batches.pop()
    return batches


def time_batch(timed: Timed, texts: list[str]) -> tuple[float, float]:
    """Seconds from token ids to hypotheses (encoder, decoder, search, its teacher too), and from text to text."""
    device = timed.model.device
    start = time.perf_counter()
    longest = timed.model.config.max_length - 1  # longer sources are cut, as in translating
    encoded = [tokens[:longest] for tokens in timed.vocabulary.encode_source(texts)]
    source_bs = Ragged.from_lists(encoded).padded(torch.arange(len(texts)).numpy(), 1)
    source_bs = source_bs.to(device)
    _synchronise(device)
    model_start = time.perf_counter()
    n_best = run_search(timed.model, source_bs, timed.search, timed.teacher)
    _synchronise(device)
    model_stop = time.perf_counter()
    timed.vocabulary.decode_target([hypotheses[0].tokens for hypotheses in n_best])
    return model_stop - model_start, time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
