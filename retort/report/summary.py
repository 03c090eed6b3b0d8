"""The report's numbers, computed from its inputs: spreads over seeds, differences and gaps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from retort.config import OBJECTIVES
from retort.corpus.cleaning import loss_warning
from retort.corpus.encoding import unknown_warning
from retort.data.runs import Run
from retort.distillation.gathering import left_out_warning
from retort.distillation.guards import impossible_warnings
from retort.evaluation.diagnostics import BREVITY
from retort.evaluation.runs import counterparts, data_pairs
from retort.evaluation.significance import Spread, spread
from retort.report.inputs import Inputs, Row
from retort.report.timing import Footprint, Key, Latency, Speedup, best_speedups, engine_footprints, latencies

SIGNIFICANT = 0.05
SHORT = 0.97
"""Brevity penalty below which the figure's note names a system: 3 % of its BLEU are lost to length."""
SHARES = {
    **{untrained.part: untrained.what for objective in OBJECTIVES for untrained in objective.untrained},
    **{part: what for objective in OBJECTIVES for part, what in objective.counts.items()},
}
"""What objectives count while they train, each as a share."""


@dataclass(frozen=True)
class Difference:
    """A system minus a baseline, its mean over seeds; the interval covers the intervals of all seeds."""

    mean: float
    low: float
    high: float
    lower: int
    """Seeds with a significantly lower value than the baseline."""
    higher: int
    """Seeds with a significantly higher one."""
    seeds: int

    @property
    def significant(self) -> int:
        """Seeds whose difference is significant in the same direction."""
        return max(self.lower, self.higher)

    def is_worse(self, sign: int) -> bool:
        """Whether the system is worse, significantly for any seed; ``sign`` -1: lower values are better."""
        return sign * self.mean < 0 and (self.lower if sign > 0 else self.higher) > 0


@dataclass(frozen=True)
class Entry:
    """One row of the comparison table: a system and search on one test set."""

    system: str
    search: str
    data: str
    objective: str
    is_baseline: bool
    parameters: float | None
    scores: dict[str, Spread]
    differences: list[tuple[Key | None, Difference]]
    """To each of its baselines, None the one that is common to all, which comes first."""
    latency: Latency | None
    footprint: Footprint | None
    """In the engine of ``latency``."""
    best: Latency | None
    speedup: Speedup | None
    minutes: Spread | None
    updates: Spread | None


@dataclass(frozen=True)
class Gap:
    """The gain of distilled data: two systems that differ in their training data only."""

    objective: str
    raw: str
    distilled: str
    search: str
    scores_raw: dict[str, Spread]
    scores_distilled: dict[str, Spread]
    gap: float
    """The leading metric of distilled minus raw: seed by seed where that was compared."""
    difference: Difference | None
    """From the comparison table, where it holds this pair."""


def test_sets(inputs: Inputs) -> list[str]:
    """Names of the scored test sets, the sampled one first."""
    names = dict.fromkeys(row["test_set"] for row in inputs.scores)
    return sorted(names, key=lambda name: (name != inputs.samples_of, list(names).index(name)))


def score_spreads(inputs: Inputs, test_set: str) -> dict[Key, dict[str, Spread]]:
    """Mean and deviation over seeds of every metric, by system and search."""
    values: dict[Key, dict[str, list[float]]] = {}
    for row in inputs.scores:
        if row["test_set"] == test_set:
            metrics = values.setdefault((row["system"], row["search"]), {})
            metrics.setdefault(row["metric"], []).append(row["value"])
    keys = sorted(values, key=lambda key: inputs.order(*key))
    return {key: {metric: spread(scores) for metric, scores in values[key].items()} for key in keys}


def short_outputs(inputs: Inputs) -> list[str]:
    """Systems and searches of the first test set whose outputs are too short, with their brevity penalty."""
    texts = []
    for test_set in test_sets(inputs)[:1]:
        for key, metrics in score_spreads(inputs, test_set).items():
            if BREVITY in metrics and metrics[BREVITY].mean < SHORT:
                texts.append(f"{' '.join(key)} {metrics[BREVITY].mean:.3f}")
    return texts


def difference(inputs: Inputs, key: Key, test_set: str, baselines: Iterable[str]) -> Difference | None:
    """A system's difference in the leading metric to baselines that differ in their seed: each seed is compared with
    the same seed of the baseline, or with the first one that it was compared with."""
    by_seed: dict[int, dict[int, Row]] = {}
    names = set(baselines)
    for row in inputs.comparison:
        found = (row["system"], row["search"], row["test_set"], row["metric"])
        if found == (*key, test_set, inputs.leading) and row["baseline"] in names:
            by_seed.setdefault(row["seed"], {})[Run.parse(row["baseline"]).seed] = row
    if not by_seed:
        return None
    rows = [opponents.get(seed, opponents[min(opponents)]) for seed, opponents in by_seed.items()]
    significant = [row["difference"] for row in rows if row["p_value"] < SIGNIFICANT]
    return Difference(
        mean=float(np.mean([row["difference"] for row in rows])),
        low=min(row["difference_low"] for row in rows),
        high=max(row["difference_high"] for row in rows),
        lower=sum(value < 0 for value in significant),
        higher=sum(value > 0 for value in significant),
        seeds=len(rows),
    )


def entries(inputs: Inputs, test_set: str) -> list[Entry]:
    """The comparison table of one test set, in the config's order."""
    timed, taken = latencies(inputs), engine_footprints(inputs)
    faster = best_speedups(inputs, inputs.config.reference)
    result = []
    for key, scores in score_spreads(inputs, test_set).items():
        system, search = key
        sizes = timed.get(key, {})
        costs = [checkpoint.costs() for run, checkpoint in inputs.checkpoints.items() if run.system == system]
        seconds, updates, parameters = (_finite(costs, name) for name in ("train_seconds", "updates", "parameters"))
        result.append(
            Entry(
                system=system,
                search=search,
                data=_data(inputs, system),
                objective=objective(inputs, system),
                is_baseline=inputs.baseline in _runs(inputs, key),
                parameters=parameters[0] if parameters else None,
                scores=scores,
                differences=_differences(inputs, key, test_set),
                latency=sizes.get(1),
                footprint=taken.get((*key, sizes[1].engine)) if 1 in sizes else None,
                best=max(sizes.values(), key=lambda latency: latency.throughput, default=None),
                speedup=faster.get(key),
                minutes=spread([value / 60 for value in seconds]) if seconds else None,
                updates=spread(updates) if updates else None,
            )
        )
    return result


def _differences(inputs: Inputs, key: Key, test_set: str) -> list[tuple[Key | None, Difference]]:
    """To the baselines that the configuration names for this system, or else to the common one."""
    if not inputs.comparison:
        return []
    system, search = key
    named = inputs.config.evaluation.baselines.get(system)
    pairs = counterparts(search, named, inputs.config.searches_of) if named else []
    runs = {pair: _runs(inputs, pair) for pair in pairs}
    baseline = Run.parse(inputs.baseline)
    common = _runs(inputs, (baseline.system, baseline.search))
    opponents = {None if own == common else pair: own for pair, own in runs.items() if pair != key} or {None: common}
    found = [(opponent, difference(inputs, key, test_set, own)) for opponent, own in opponents.items()]
    return sorted(((opponent, d) for opponent, d in found if d), key=lambda pair: pair[0] is not None)


def gaps(inputs: Inputs, test_set: str) -> list[Gap]:
    """Raw against distilled for every pair of systems that differ in nothing else, and every search both have."""
    scores = score_spreads(inputs, test_set)
    result = []
    for raw, distilled in data_pairs(inputs.systems):
        for search in inputs.config.searches_of(raw):
            below, above = scores.get((raw, search)), scores.get((distilled, search))
            if not below or not above:
                continue
            tested = difference(inputs, (distilled, search), test_set, baselines=_runs(inputs, (raw, search)))
            result.append(
                Gap(
                    objective=objective(inputs, raw),
                    raw=raw,
                    distilled=distilled,
                    search=search,
                    scores_raw=below,
                    scores_distilled=above,
                    gap=tested.mean if tested else above[inputs.leading].mean - below[inputs.leading].mean,
                    difference=tested,
                )
            )
    return result


def logged_means(inputs: Inputs, split: str, metrics: Iterable[str]) -> dict[str, dict[str, Spread]]:
    """Means over each training's log of the metrics that it has, over seeds, by system in the config's order."""
    means: dict[str, dict[str, list[float]]] = {}
    for run in inputs.runs_in_order(inputs.logs):
        for metric in metrics:
            values = [row["value"] for row in inputs.logs[run] if (row["split"], row["metric"]) == (split, metric)]
            if values:
                means.setdefault(run.system, {}).setdefault(metric, []).append(float(np.mean(values)))
    return {
        system: {metric: spread(values) for metric, values in by_metric.items()} for system, by_metric in means.items()
    }


def warnings(inputs: Inputs) -> list[tuple[str, str]]:
    """What a reader should know first, as (where, what): of the corpus, the EM loop, trainings, NCM."""
    counts: dict[str, dict[str, int]] = {}
    for row in inputs.cleaning:
        counts.setdefault(row["split"], {})[row["reason"]] = row["pairs"]
    lost = [warning for split, pairs in counts.items() if (warning := loss_warning(split, pairs))]
    runs = inputs.runs_in_order(inputs.checkpoints)
    unknown = [unknown_warning(row["split"], row) for row in inputs.encoding if row["side"] == "target"]
    left_out = [left_out_warning(text, text_counts) for text, text_counts in inputs.gathered.items()]
    found = [("corpus", warning) for warning in [*lost, *unknown, *left_out] if warning]
    found += [("em", warning) for table in inputs.guards for warning in impossible_warnings(table)]
    found += [(str(run), warning) for run in runs for warning in inputs.checkpoints[run].warnings]
    found += [
        (str(Run(row["system"], row["seed"])), f"no NCM: none of {row['infeasible']} pairs fits into the model's slots")
        for row in inputs.multimodality
        if not row["tokens"]
    ]
    return found


def pareto(points: list[tuple[float, float]], sign: int = 1) -> list[int]:
    """Indices of the (latency, quality) points that no other beats: none is as fast and better, or faster and as
    good. In order of latency. ``sign`` -1: lower quality values are better."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1])):
        if not front or sign * points[index][1] > sign * points[front[-1]][1]:
            front.append(index)
    return front


def objective(inputs: Inputs, system: str) -> str:
    """Name of a system's training objective, from the config or its checkpoint; none of the external teacher."""
    if system in inputs.systems:
        return inputs.systems[system].objective.name
    trained = (checkpoint.objective for run, checkpoint in inputs.checkpoints.items() if run.system == system)
    return next((named.name for named in trained if named), "")


def _data(inputs: Inputs, system: str) -> str:
    return ", ".join(dict.fromkeys(row["data"] for row in inputs.scores if row["system"] == system))


def _runs(inputs: Inputs, key: Key) -> list[str]:
    """A system and search with each of its seeds."""
    return [str(Run(key[0], seed, key[1])) for seed in _seeds(inputs, key[0])]


def _seeds(inputs: Inputs, system: str) -> list[int]:
    return sorted({row["seed"] for row in inputs.scores if row["system"] == system})


def _finite(costs: list[dict[str, float]], name: str) -> list[float]:
    return [float(cost[name]) for cost in costs if name in cost and math.isfinite(cost[name])]
