"""Decoding a corpus table with a checkpoint into a translations table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from retort.config import Model, NgramSearch, SearchSection
from retort.data.batches import Ragged, source_batches
from retort.data.ngrams import check_ngrams
from retort.data.provenance import file_digest
from retort.data.runs import Run
from retort.data.tables import TRANSLATIONS
from retort.data.vocabulary import PAD, Vocabulary
from retort.models.base import EncoderDecoder
from retort.models.checkpoint import Checkpoint, load_teacher, weights_digest
from retort.search.base import Hypothesis, run_search

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel


def load_helpers(
    checkpoint: Checkpoint, searches: Sequence[SearchSection], teacher: Path | None
) -> tuple[AutoregressiveModel | None, dict[str, str]]:
    """The teacher that scores candidates, if one of the searches asks it, and digests of all that they use besides the
    checkpoint: the teacher and their table of n-grams.

    ``teacher``: its directory. Raises RetortError as ``load_teacher`` does.
    """
    facts: dict[str, str] = {}
    model = None
    if any(search.needs_teacher for search in searches):
        device, longest = checkpoint.model.device, checkpoint.model.config.max_length
        model = load_teacher(teacher, checkpoint.directory, checkpoint.vocabulary, device=device, max_length=longest)
        assert teacher is not None
        facts["teacher"] = weights_digest(teacher)
    for search in searches:
        if isinstance(search, NgramSearch) and search.table:
            facts["ngrams"] = file_digest(search.table)
    return model, facts


def decode(
    model: EncoderDecoder,
    source: Ragged,
    search: Any,
    batch_tokens: int,
    teacher: AutoregressiveModel | None = None,
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[list[Hypothesis]]:
    """n-best lists of encoded sources, in their order. The sources are neither empty nor longer than the model allows.

    ``batch_tokens``: largest number of padded source tokens in a batch. ``teacher`` is for searches that need one.
    ``prefixes``: tokens that the outputs begin with, for left-to-right searches.
    """
    results: list[list[Hypothesis]] = [[] for _ in range(len(source))]
    for rows, source_bs in source_batches(source, batch_tokens):
        prefix_bt = None if prefixes is None else padded_prefixes([prefixes[row] for row in rows]).to(model.device)
        decoded = run_search(model, source_bs.to(model.device), options=search, teacher=teacher, prefix_bt=prefix_bt)
        for row, hypotheses in zip(rows, decoded, strict=True):
            results[row] = hypotheses
    return results


def translate_texts(
    model: EncoderDecoder,
    vocabulary: Vocabulary,
    texts: Sequence[str],
    search: Any,
    batch_tokens: int,
    teacher: AutoregressiveModel | None = None,
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[list[Hypothesis]]:
    """n-best lists in the order of the texts. A source longer than the model allows is cut, and counts as truncated
    unless that is how the model was trained; an empty one gives an empty hypothesis. ``teacher`` is for searches that
    need one. ``prefixes``: tokens that the outputs begin with, for left-to-right searches; cut where they are longer
    than the model allows. Raises RetortError if the n-grams of the search are of another vocabulary."""
    if isinstance(search, NgramSearch):
        check_ngrams(search.model_dump(), vocabulary.digest)

    def decode_rows(source: Ragged, rows: list[int]) -> list[list[Hypothesis]]:
        beginnings = None if prefixes is None else [prefixes[i][: model.config.max_length - 1] for i in rows]
        return decode(model, source, search=search, batch_tokens=batch_tokens, teacher=teacher, prefixes=beginnings)

    return decode_texts(vocabulary, texts, config=model.config, decode_rows=decode_rows)


def decode_texts(
    vocabulary: Vocabulary,
    texts: Sequence[str],
    config: Model,
    decode_rows: Callable[[Ragged, list[int]], list[list[Hypothesis]]],
) -> list[list[Hypothesis]]:
    """The same by any decoder. ``decode_rows`` gets encoded sources, as ``decode`` does, and their rows."""
    longest = config.max_length - 1
    encoded = vocabulary.encode_source(texts)
    cut = [len(tokens) > longest and not config.truncate_sources for tokens in encoded]
    filled = [i for i, tokens in enumerate(encoded) if tokens]
    source = Ragged.from_lists([encoded[i][:longest] for i in filled])
    results: list[list[Hypothesis]] = [[Hypothesis([], 0.0, truncated=False, passes=0)] for _ in texts]
    for i, hypotheses in zip(filled, decode_rows(source, filled), strict=True):
        results[i] = [
            Hypothesis(h.tokens, h.score, truncated=h.truncated or cut[i], passes=h.passes) for h in hypotheses
        ]
    return results


def padded_prefixes(prefixes: Sequence[Sequence[int]]) -> Tensor:
    """Token ids [b, t], padded to the longest, which may be 0; without eos."""
    width = max(map(len, prefixes))
    rows = [[*tokens, *[PAD] * (width - len(tokens))] for tokens in prefixes]
    return torch.tensor(rows, dtype=torch.long).view(len(rows), width)


def translations_table(
    results: Sequence[Sequence[Hypothesis]],
    vocabulary: Vocabulary,
    *,
    run: Run,
    ids: np.ndarray,
    test_set: str,
    best: int = 1,
) -> pa.Table:
    """A TRANSLATIONS table of the ``best`` hypotheses of each source, whose ids are ``ids``."""
    flat = [
        (int(i), rank, hypothesis)
        for i, hypotheses in zip(ids, results, strict=True)
        for rank, hypothesis in enumerate(hypotheses[:best])
    ]
    texts = vocabulary.decode_target([h.tokens for _, _, h in flat])
    return TRANSLATIONS.of_rows(
        {
            **vars(run),
            "id": i,
            "test_set": test_set,
            "rank": rank,
            "text": text,
            "tokens": h.tokens,
            "score": h.score,
            "truncated": h.truncated,
            "empty": not h.tokens,
            "passes": h.passes,
        }
        for (i, rank, h), text in zip(flat, texts, strict=True)
    )


def decode_table(
    model: EncoderDecoder,
    vocabulary: Vocabulary,
    parts: Iterator[pa.Table],
    search: Any,
    batch_tokens: int,
    teacher: AutoregressiveModel | None = None,
    *,
    run: Run,
    test_set: str,
) -> Iterator[pa.Table]:
    """Translate the parts of a corpus table one by one; ``run`` and ``test_set`` are named in the rows. ``teacher`` is
    for searches that need one."""
    for part in parts:
        texts = part.column("source").to_pylist()
        results = translate_texts(model, vocabulary, texts, search=search, batch_tokens=batch_tokens, teacher=teacher)
        ids = part.column("id").to_numpy()
        yield translations_table(results, vocabulary, run=run, ids=ids, test_set=test_set)
