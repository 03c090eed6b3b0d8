"""Defects of translations that BLEU does not always show: repetition, length, outputs that are empty, cut or all alike.

Where a corpus knows the right translations, outputs are judged without a reference.

Repeated tokens are the classic sign of the multi-modality problem of parallel decoding (Gu et al. 2018, section 3).
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pyarrow as pa

import retort
from retort.config import DIAGNOSTICS, CorpusSection
from retort.config.tokenizers import AUTO
from retort.evaluation.metrics import Score, score
from retort.evaluation.metrics.bleu import Bleu
from retort.evaluation.quality import Pairs
from retort.evaluation.tokenizers import chosen_tokenizer, length, unit

RIGHT, REPEATED, LENGTH, BREVITY, EMPTY, TRUNCATED, DISTINCT, OTHER_SOURCE, PASSES = DIAGNOSTICS


def diagnostics(pairs: Pairs, metric: str, tokenizer: str = AUTO) -> list[Score]:
    """Every diagnostic of one test set. Signatures hold the definition and the size of what was counted.

    ``metric`` is that of ``other_source``. Outputs without tokens, which are text of an external teacher, have no rate
    of repeated tokens and no passes.
    """
    rows, count = pairs.rows, len(pairs.ids)
    tokens = rows["tokens"].combine_chunks()
    of_tokens = [] if tokens.null_count else _of_tokens(rows, tokens)
    tokenizer = chosen_tokenizer(tokenizer, pairs.references)
    hypothesis_words = count_words(pairs.hypotheses, tokenizer)
    reference_words = mean_words(pairs.references, tokenizer)
    brevity, bleu = Bleu(tokenizer).brevity_penalty(pairs.hypotheses, pairs.references)
    return [
        *of_tokens[:1],
        _score(
            LENGTH,
            hypothesis_words / reference_words if reference_words else float("nan"),
            f"hypothesis words / reference words, {unit(tokenizer)}|reference words:{reference_words:g}",
        ),
        _score(BREVITY, brevity, f"factor of BLEU for outputs shorter than their references|{bleu}"),
        _score(EMPTY, _count(rows["empty"]), f"outputs without a token|outputs:{count}"),
        _score(
            TRUNCATED,
            _count(rows["truncated"]),
            f"outputs stopped at the length limit, or of cut sources|outputs:{count}",
        ),
        _score(DISTINCT, len(set(pairs.hypotheses)), f"different outputs|outputs:{count}"),
        *other_source(pairs, metric, tokenizer),
        *of_tokens[1:],
    ]


def _of_tokens(rows: pa.Table, tokens: pa.ListArray) -> list[Score]:
    passes = float(np.mean(rows["passes"].to_numpy()))
    return [
        _score(REPEATED, repeated_token_rate(tokens), f"adjacent equal tokens / tokens|tokens:{_total(tokens)}"),
        _score(PASSES, passes, f"mean decoder passes per output|outputs:{len(tokens)}"),
    ]


def right_translations(pairs: Pairs, corpus: CorpusSection) -> Score:
    """Percentage of the outputs that are a right translation of their source, whatever the reference is.

    The judge is imported by its name, so that scores of other corpora do not depend on its code.
    """
    is_right = import_module(f"retort.corpus.{corpus.judge}").judge(corpus)
    right = sum(is_right(*texts) for texts in zip(pairs.sources, pairs.hypotheses, strict=True))
    return _score(RIGHT, 100 * right / len(pairs.ids), f"possible translations / outputs|outputs:{len(pairs.ids)}")


def other_source(pairs: Pairs, metric: str, tokenizer: str = AUTO) -> list[Score]:
    """``metric`` with every output against another source's references: what fits any source scores here, too.

    That source is half of the test set further on, as neighbours are often of one text. Nothing for a single pair.
    """
    shift = len(pairs.references) // 2
    if not shift:
        return []
    others = pairs.references[shift:] + pairs.references[:shift]
    found = score(metric, pairs.hypotheses, references=others, tokenizer=tokenizer)
    how = f"{metric} against the references of half a test set further on|pairs further on:{shift}"
    return [_score(OTHER_SOURCE, found.value, f"{how}|{found.signature}")]


def repeated_token_rate(tokens: pa.ListArray) -> float:
    """Tokens equal to the one before them in the same output, as a share of all tokens; 0 without any token."""
    values = tokens.flatten().to_numpy(zero_copy_only=False)
    if not len(values):
        return 0.0
    rows = np.repeat(np.arange(len(tokens)), tokens.value_lengths().to_numpy(zero_copy_only=False))
    repeated = (values[1:] == values[:-1]) & (rows[1:] == rows[:-1])
    return float(repeated.sum() / len(values))


def count_words(texts: list[str], tokenizer: str) -> int:
    """Words of all texts: white-space separated ones, or tokens of a tokenizer for languages without spaces."""
    return sum(length(text, tokenizer) for text in texts)


def mean_words(references: list[list[str]], tokenizer: str) -> float:
    """The same of references; several references of one source count as their mean."""
    return round(sum(count_words(texts, tokenizer) / len(texts) for texts in references), 6)


def _score(metric: str, value: float, how: str) -> Score:
    """A score whose signature is ``how`` and the version of this package."""
    return Score(metric, float(value), f"{how}|retort:{retort.__version__}")


def _total(tokens: pa.ListArray) -> int:
    return len(tokens.flatten())


def _count(flags: pa.ChunkedArray) -> int:
    return int(np.count_nonzero(flags.to_numpy()))
