"""The quality metrics that a configuration can name, and what each can do.

A metric is one declaration here and one class in a module below retort/evaluation/metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias


@dataclass(frozen=True)
class MetricDeclaration:
    """A metric by its name in configurations and tables."""

    name: str
    implementation: str
    """Module below retort/evaluation/metrics and class in it, such as chrf.ChrF."""
    leads: bool = False
    """Whether it can lead a report and choose checkpoints."""
    higher_is_better: bool = True
    resampled: bool = True
    """Whether a resample of the sentences has a meaningful score; the others are left out of comparisons."""

    @property
    def module(self) -> str:
        """Full name of the module that computes it."""
        return f"retort.evaluation.metrics.{self.implementation.partition('.')[0]}"

    @property
    def class_name(self) -> str:
        """Name of the class in that module."""
        return self.implementation.partition(".")[2]


METRICS = (
    MetricDeclaration("BLEU", "bleu.Bleu", leads=True),
    MetricDeclaration("BLEU-lc", "bleu.LowercaseBleu"),
    MetricDeclaration("chrF", "chrf.ChrF", leads=True),
    MetricDeclaration("chrF++", "chrf.ChrFPlusPlus", leads=True),
    MetricDeclaration("TER", "ter.Ter", higher_is_better=False),
    MetricDeclaration("ROUGE-1", "rouge.Rouge1", leads=True),
    MetricDeclaration("ROUGE-2", "rouge.Rouge2", leads=True),
    MetricDeclaration("ROUGE-L", "rouge.RougeL", leads=True),
    # A resample repeats sentences, and that alone lowers distinct-n.
    MetricDeclaration("distinct-1", "distinct.Distinct1", resampled=False),
    MetricDeclaration("distinct-2", "distinct.Distinct2", resampled=False),
)
"""Every metric, in the order of the reference page."""

DIAGNOSTICS = (
    "right",
    "repeated_token_rate",
    "length_ratio",
    "brevity_penalty",
    "empty_outputs",
    "truncated_outputs",
    "distinct_outputs",
    "other_source",
    "decoder_passes",
)
"""What score tables hold beside metrics (``retort.evaluation.diagnostics``)."""


def metric_named(name: str) -> MetricDeclaration:
    """The declaration of a metric that a configuration names."""
    return next(metric for metric in METRICS if metric.name == name)


LEADING_METRICS = tuple(metric.name for metric in METRICS if metric.leads)

# Type checkers cannot read a Literal that is computed.
if TYPE_CHECKING:
    Metric: TypeAlias = str
    ValidationMetric: TypeAlias = str
else:
    Metric = Literal[tuple(metric.name for metric in METRICS)]
    ValidationMetric = Literal[("loss", *LEADING_METRICS)]
