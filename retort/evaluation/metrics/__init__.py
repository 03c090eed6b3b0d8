"""Corpus scores of outputs against their references, in percent, by the metrics of retort/config/metrics.py.

Several references: BLEU clips n-gram counts at the highest of them and takes the nearest length. chrF and ROUGE take
the best one. TER takes the fewest edits and the mean length.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module

from retort.config.metrics import metric_named
from retort.config.tokenizers import AUTO, DEFAULT_TOKENIZER
from retort.errors import RetortError
from retort.evaluation.metrics.base import CorpusMetric, Measured, Score
from retort.evaluation.tokenizers import chosen_tokenizer

__all__ = ["CorpusMetric", "Measured", "Score", "load_metric", "measure", "score"]


@cache
def load_metric(name: str, tokenizer: str = DEFAULT_TOKENIZER) -> CorpusMetric:
    """The metric of this name; its module is imported here, and only where it is used."""
    declared = metric_named(name)
    metric: CorpusMetric = getattr(import_module(declared.module), declared.class_name)(tokenizer)
    return metric


def score(name: str, hypotheses: Sequence[str], references: Sequence[list[str]], tokenizer: str = AUTO) -> Score:
    """The corpus score of these outputs, each with its references.

    ``tokenizer`` splits texts into words; by default it is the one for the writing of the references.

    Raises RetortError unless there is one hypothesis for each of at least one list of references.
    """
    _check_lengths(name, hypotheses, references)
    metric = load_metric(name, chosen_tokenizer(tokenizer, references))
    value, signature = metric.score(hypotheses, references)
    return Score(name, value, signature)


def measure(name: str, hypotheses: Sequence[str], references: Sequence[list[str]], tokenizer: str = AUTO) -> Measured:
    """The corpus score, with what resampling needs; raises RetortError as ``score`` does."""
    _check_lengths(name, hypotheses, references)
    return load_metric(name, chosen_tokenizer(tokenizer, references)).measure(hypotheses, references)


def _check_lengths(name: str, hypotheses: Sequence[str], references: Sequence[list[str]]) -> None:
    """sacreBLEU would score one hypothesis against two references without an error."""
    if len(hypotheses) != len(references) or not hypotheses:
        raise RetortError(
            f"{name}: {len(hypotheses)} hypotheses and {len(references)} references; expected as many, at least 1"
        )
