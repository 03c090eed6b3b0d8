"""Training on references and translations together, and samples that wait, in the report."""

from __future__ import annotations

from dataclasses import dataclass

from retort.config import SelectiveMixture, System, WeightedMixture
from retort.evaluation.significance import Spread
from retort.report.inputs import Inputs
from retort.report.summary import logged_means

KEPT = ("kept", "kept_raw", "kept_distilled")
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
    shares = logged_means(inputs, "train", KEPT)
    losses = logged_means(inputs, "average", LOSSES)
    return [
        Mixed(
            system=system,
            recipe=recipe(inputs.systems[system]) if system in inputs.systems else "",
            shares=shares.get(system, {}),
            losses=losses.get(system, {}),
        )
        for system in sorted({*shares, *losses}, key=inputs.order)
    ]


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
