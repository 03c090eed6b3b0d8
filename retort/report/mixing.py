"""What the report says about training on references and translations together, and about samples that wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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
    shares: dict[str, dict[str, list[float]]] = {}
    losses: dict[str, dict[str, list[float]]] = {}
    for run in sorted(inputs.logs, key=lambda run: (*inputs.order(run.system), run.seed)):
        for found, split, names in ((shares, "train", SHARES), (losses, "average", LOSSES)):
            for name in names:
                values = [r["value"] for r in inputs.logs[run] if (r["split"], r["metric"]) == (split, name)]
                if values:
                    found.setdefault(run.system, {}).setdefault(name, []).append(float(np.mean(values)))
    return [
        Mixed(
            system,
            recipe(inputs.systems.get(system, {})),
            {name: spread(values) for name, values in shares.get(system, {}).items()},
            {name: spread(values) for name, values in losses.get(system, {}).items()},
        )
        for system in sorted({*shares, *losses}, key=inputs.order)
    ]


def recipe(system: dict[str, Any]) -> str:
    """Training text and weights of a system's section, in words."""
    mixture, paced = system.get("mixture") or {}, system.get("self_paced")
    kind = mixture.get("kind", "union")
    details = {
        "weighted": f"weighted {mixture.get('weight')}",
        "selective": f"selective by {mixture.get('evaluator')}",
    }
    words = [details.get(kind, kind) if system.get("data") == "mixed" else str(system.get("data", ""))]
    if paced:
        words.append("random control of" if paced.get("random") else "self-paced by")
        words[-1] += f" {paced.get('criterion')}, {paced.get('weights')}"
        if paced.get("end", 1) < 1:
            words.append(f"at the end {paced['end']:.0%}")
    return ", ".join(words)
