"""Schemas of every Parquet table: name, version, and each column's type, meaning and unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from retort.data.parquet import Column, Table
from retort.data.runs import Run, run_of_path

_ID = Column("id", pa.int64(), "number of the pair in its split's source, from 0; survives cleaning and every join")
_TOKENS = pa.list_(pa.int32())
_SYSTEM = Column("system", pa.string(), "name of the system in the config")
_SEED = Column("seed", pa.int64(), "seed of the training")
_SEARCH = Column("search", pa.string(), "name of the search in the config")
_DECODED = (_SYSTEM, _SEED, _SEARCH)
_TEST_SET = Column("test_set", pa.string(), "name of the test set")

CORPUS = Table(
    "corpus",
    2,
    (
        _ID,
        Column("source", pa.string(), "source text"),
        Column("target", pa.string(), "reference text, the first one of several; empty where there is none"),
        Column(
            "references", pa.list_(pa.string()),
            "all reference texts where there may be several; null: target alone; empty: none, source-only",
            nullable=True,
        ),
    ),
)  # fmt: skip

CLEANING = Table(
    "cleaning",
    1,
    (
        Column("split", pa.string(), "train, valid or the test set's name"),
        Column("reason", pa.string(), "why pairs were dropped; 'read' and 'kept' are the totals before and after"),
        Column("pairs", pa.int64(), description="number of pairs", unit="pairs"),
    ),
)

ENCODING = Table(
    "encoding",
    1,
    (
        Column("split", pa.string(), "train, valid or the test set's name"),
        Column("side", pa.string(), "source or target"),
        Column("texts", pa.int64(), description="texts of this side", unit="texts"),
        Column("tokens", pa.int64(), description="their tokens, without bos and eos", unit="tokens"),
        Column("unknown", pa.int64(), description="tokens that are unk", unit="tokens"),
        Column("longest", pa.int64(), description="the longest text", unit="tokens"),
        Column("over_length", pa.int64(), description="texts longer than model.max_length allows", unit="texts"),
    ),
)

ENCODED = Table(
    "encoded",
    1,
    (
        _ID,
        Column("source", _TOKENS, "source token ids, without bos and eos"),
        Column("target", _TOKENS, "target token ids, without bos and eos"),
    ),
)

MIXED = Table(
    "mixed",
    1,
    (
        *ENCODED.columns,
        Column("distilled", pa.bool_(), "whether the target is the teacher's; else it is the reference"),
        Column(
            "similarity",
            pa.float32(),
            "sentence chrF of the teacher's translation of this source and its reference; null where there is none",
            nullable=True,
        ),
    ),
)

AGREEMENT = Table(
    "agreement",
    1,
    (
        _ID,
        Column("accuracy", pa.float32(), "share of a model's slots whose most probable token is the reference's"),
        Column("score", pa.float32(), "the value that selective KD compares: the accuracy, or its square root"),
    ),
)


def _identity_of_path(path: Path) -> dict[str, Any]:
    """Version 1 had no identity: it was the path's, and distilled text had none at all."""
    run = run_of_path(path) or Run(UNKNOWN, 0, UNKNOWN)
    return {**vars(run)}


def _endings_of_version_2(path: Path) -> dict[str, Any]:
    """Versions 1 and 2 were decoded here: no reason of an end, and nothing rejected."""
    return {"ended": None, "rejected": None}


UNKNOWN = ""
"""System and search of translations of version 1 whose path does not tell."""

TRANSLATIONS = Table(
    "translations",
    3,
    (
        *_DECODED,
        _ID,
        Column("test_set", pa.string(), "split the source came from: train, valid or the test set's name"),
        Column("rank", pa.int32(), "0 is the best hypothesis of this source"),
        Column("text", pa.string(), "detokenised hypothesis"),
        Column(
            "tokens", _TOKENS, "hypothesis token ids as decoded, without bos and eos; null: an external teacher's",
            nullable=True,
        ),
        Column("score", pa.float32(), description="the search's own score, higher is better", unit="nats"),
        Column("truncated", pa.bool_(), "it hit its length limit, or an external teacher's is not whole"),
        Column("empty", pa.bool_(), "no token was produced"),
        Column("passes", pa.int32(), description="decoder passes spent on this source; 0: not known", unit="passes"),
        Column(
            "ended", pa.string(), "why an external teacher's output ended: stop, length, ...; null: not known",
            nullable=True,
        ),
        Column(
            "rejected", pa.string(), "the filter that keeps this output from training; null: none", nullable=True
        ),
    ),
    older={1: lambda path: _identity_of_path(path) | _endings_of_version_2(path), 2: _endings_of_version_2},
)  # fmt: skip

JUDGEMENT = Table(
    "judgement",
    1,
    (
        Column("reason", pa.string(), "why outputs train nothing; 'outputs', 'sources' and 'kept' are totals"),
        Column("threshold", pa.string(), "the filter's threshold in the configuration", nullable=True),
        Column("count", pa.int64(), "number of outputs, or of sources"),
    ),
)

LABELS = Table(
    "labels",
    1,
    (
        _ID,
        Column("positions", pa.int32(), description="target tokens of the pair, eos included", unit="tokens"),
        Column("tokens", _TOKENS, "per position, the teacher's k most probable next tokens, the best one first"),
        Column("probabilities", pa.list_(pa.float16()), "per position, those of the k tokens, then that of all others"),
        Column("mass", pa.float32(), "probability of the k tokens, summed over the positions"),
        Column(
            "entropy",
            pa.float32(),
            description="entropy of the teacher's full distribution, summed over the positions",
            unit="nats",
        ),
        Column(
            "kept_entropy",
            pa.float32(),
            description="the same with all other tokens merged into one event",
            unit="nats",
        ),
    ),
)

SELECTION = Table(
    "selection",
    1,
    (
        _ID,
        Column("text", pa.string(), "detokenised text of the selected candidate"),
        Column("tokens", _TOKENS, "its token ids as decoded, without bos and eos"),
        Column("rank", pa.int32(), "its place in the n-best list, from 0"),
        Column("candidates", pa.int32(), "distinct candidates, after detokenisation, to choose from"),
        Column("score", pa.float32(), description="the score that selected it, higher is better", unit="nats"),
        Column(
            "first_score",
            pa.float32(),
            description="the same score of the candidate at the head of the n-best list",
            unit="nats",
        ),
        Column("truncated", pa.bool_(), "the search hit its length limit; selected for lack of another candidate"),
        Column("empty", pa.bool_(), "no token was produced; selected for lack of another candidate"),
    ),
)

GUARDS = Table(
    "guards",
    1,
    (
        Column("iteration", pa.int32(), "the iteration that the selected candidates are for"),
        Column("seed", pa.int64(), "seed of the loop"),
        Column("metric", pa.string(), "what is measured on the selected candidates"),
        Column("value", pa.float64(), "its value"),
        Column("first", pa.float64(), "the same of the first teacher's own translations", nullable=True),
        Column("least", pa.float64(), "the bound: below it the loop ends", nullable=True),
    ),
)

MULTIMODALITY = Table(
    "multimodality",
    1,
    (
        _SYSTEM,
        _SEED,
        Column("data", pa.string(), "held-out pairs: with references (raw) or with the EM loop's targets"),
        Column("sentences", pa.int64(), description="pairs that the model gives a probability", unit="pairs"),
        Column("infeasible", pa.int64(), description="pairs that it gives none, left out", unit="pairs"),
        Column("tokens", pa.int64(), description="target tokens of those sentences, eos included", unit="tokens"),
        Column("nats", pa.float64(), description="sum of their -log p(y | x), length included", unit="nats"),
    ),
)

SCORES = Table(
    "scores",
    1,
    (
        _SYSTEM,
        Column("data", pa.string(), "training data: raw, distilled, mixed, ..."),
        _SEED,
        _SEARCH,
        _TEST_SET,
        Column("metric", pa.string(), "one of evaluation.metrics, or a diagnostic's name"),
        Column("value", pa.float64(), "the metric's value"),
        Column("signature", pa.string(), "every choice that changes the number"),
    ),
)

SEGMENT_SCORES = Table(
    "segment_scores",
    1,
    (
        *_DECODED,
        _TEST_SET,
        _ID,
        Column("metric", pa.string(), "name of a learned metric in the config"),
        Column("value", pa.float64(), "the metric's value of this output; the corpus score is their mean"),
        Column("signature", pa.string(), "what the program says that it computes"),
    ),
)

COMPARISON = Table(
    "comparison",
    1,
    (
        *_DECODED,
        _TEST_SET,
        Column("baseline", pa.string(), "the baseline of the comparison: <system>/seed<seed>/<search>"),
        Column("metric", pa.string(), "one of evaluation.metrics"),
        Column("value", pa.float64(), "the system's corpus score"),
        Column("baseline_value", pa.float64(), "the baseline's corpus score"),
        Column("difference", pa.float64(), "value - baseline_value"),
        Column("difference_low", pa.float64(), "2.5th percentile of the resampled differences"),
        Column("difference_high", pa.float64(), "97.5th percentile of the resampled differences"),
        Column("p_value", pa.float64(), "two-sided, of no difference"),
        Column("samples", pa.int64(), description="bootstrap resamples", unit="resamples"),
        Column("signature", pa.string(), "every choice that changes the numbers"),
    ),
)

LENGTHS = Table(
    "lengths",
    1,
    (
        *_DECODED,
        _TEST_SET,
        Column("shortest", pa.int32(), description="shortest reference of the bucket", unit="words"),
        Column("longest", pa.int32(), description="longest reference; null: any", unit="words", nullable=True),
        Column("sentences", pa.int64(), description="sentences in the bucket", unit="sentences"),
        Column("metric", pa.string(), "one of evaluation.metrics"),
        Column("value", pa.float64(), "the corpus score of those sentences"),
        Column("signature", pa.string(), "every choice that changes the number"),
    ),
)

TUNING = Table(
    "tuning",
    1,
    (
        *_DECODED,
        Column("options", pa.string(), "the search as it was tried, JSON"),
        Column("metric", pa.string(), "the first of evaluation.metrics"),
        Column("value", pa.float64(), "the corpus score on the validation set"),
        Column("chosen", pa.bool_(), "whether the tests are decoded with it"),
        Column("signature", pa.string(), "every choice that changes the number"),
    ),
)

EXPOSURE = Table(
    "exposure",
    1,
    (
        Column("system", pa.string(), "name of the student in the config"),
        Column("seed", pa.int64(), "seed of its training"),
        _TEST_SET,
        Column("prefix", pa.string(), "source of the prefix of each output: student, teacher, reference, or none"),
        Column("share", pa.float64(), "length of the prefix, as a share of that output's tokens"),
        Column("completed_by", pa.string(), "model that generates the rest: student or teacher"),
        Column("given", pa.float64(), "tokens given, as a share of the tokens of all outputs"),
        Column("metric", pa.string(), "one of evaluation.metrics"),
        Column("value", pa.float64(), "the corpus score of the whole outputs"),
        Column("signature", pa.string(), "every choice that changes the number"),
    ),
)

WITH_SHORTLIST = ", shortlist"
"""End of an engine's name in latency tables where it scored a shortlist instead of the vocabulary."""

LATENCY = Table(
    "latency",
    2,
    (
        *_DECODED,
        Column("engine", pa.string(), "torch, onnx, ctranslate2 or a teacher's kind; whether with a shortlist"),
        Column("precision", pa.string(), "of the weights: float32, bfloat16 or int8"),
        Column("batch_size", pa.int32(), description="sentences that a system is given at once", unit="sentences"),
        Column("batch", pa.int32(), "number of the batch of test sentences; equal numbers hold equal sentences"),
        Column("sentences", pa.int32(), description="sentences in this batch", unit="sentences"),
        Column("source_characters", pa.int64(), description="characters of their text", unit="characters"),
        Column("source_tokens", pa.int64(), description="their tokens, without eos", unit="tokens"),
        Column("target_tokens", pa.int64(), description="tokens of the outputs, without special ones", unit="tokens"),
        Column("model_seconds", pa.float64(), description="encoder, decoder and search, synchronised", unit="s"),
        Column(
            "total_seconds",
            pa.float64(),
            description="text to text: tokenising, model, post-processing, detokenising",
            unit="s",
        ),
        Column(
            "processor_seconds",
            pa.float64(),
            description="the same on this process's processors, not by the clock",
            unit="s",
        ),
    ),
)

TRAINING_LOG = Table(
    "training_log",
    1,
    (
        Column("update", pa.int64(), description="number of optimiser updates done", unit="updates"),
        Column("split", pa.string(), "train or valid"),
        Column("metric", pa.string(), "loss, its parts, BLEU, chrF, ROUGE-L, learning_rate, tokens_per_second, ..."),
        Column("value", pa.float64(), "the metric's value"),
        Column(
            "seconds",
            pa.float64(),
            description="wall-clock seconds of training so far, all runs of this training added",
            unit="s",
        ),
    ),
)
