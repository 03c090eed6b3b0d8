"""Training on references and translations together, and samples that wait, in the report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retort.config import SelectiveMixture, System, WeightedMixture
from retort.evaluation.significance import Spread, spread
from retort.report.inputs import Inputs

SHARES = ("kept", "kept_raw", "kept_distilled")
LOSSES = ("loss_raw", "loss_distilled")


@dataclass(frozen=True)
class Mixed:
    """A system whose samples differ in kind or in what they count; means over seeds."""

    system: str
    recipe: str
    shares: dict[str, Spread]
    """Share of the samples that counted, mean over the training, of all and of each kind."""
    losses: dict[str, Spread]
    """Of the final weights, on a sample of the training pairs of each kind."""


def mixed_systems(inputs: Inputs) -> list[Mixed]:
    """The systems that have logged either, in the config's order."""
    shares = _logged_means(inputs, "train", SHARES)
    losses = _logged_means(inputs, "average", LOSSES)
    return [
        Mixed(
            system=system,
            recipe=recipe(inputs.systems[system]) if system in inputs.systems else "",
            shares=shares.get(system, {}),
            losses=losses.get(system, {}),
        )
        for system in sorted({*shares, *losses}, key=inputs.order)
    ]


def _logged_means(inputs: Inputs, split: str, metrics: tuple[str, ...]) -> dict[str, dict[str, Spread]]:
    """Means of each training's log, over seeds, by system and metric."""
    means: dict[str, dict[str, list[float]]] = {}
    for run in sorted(inputs.logs, key=lambda run: (*inputs.order(run.system), run.seed)):
        for metric in metrics:
            values = [row["value"] for row in inputs.logs[run] if (row["split"], row["metric"]) == (split, metric)]
            if values:
                means.setdefault(run.system, {}).setdefault(metric, []).append(float(np.mean(values)))
    return {
        system: {metric: spread(values) for metric, values in by_metric.items()} for system, by_metric in means.items()
    }


def recipe(system: System) -> str:
    """Training text and weights of a system, in words."""
    words, paced = [_targets(system)], system.self_paced
    if paced:
        words.append("random control of" if paced.random else "self-paced by")
        words[-1] += f" {paced.criterion}, {paced.weights}"
        if paced.end < 1:
            words.append(f"at the end {paced.end:.0%}")
    return ", ".join(words)


def _targets(system: System) -> str:
    if system.data != "mixed":
        return system.data
    match system.mixture:
        case WeightedMixture(weight=weight):
            return f"weighted {weight}"
        case SelectiveMixture(evaluator=evaluator):
            return f"selective by {evaluator}"
    return "union"
