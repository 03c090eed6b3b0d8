"""The verdict on a run: the teacher, its autoregressive rival, and the best system at each of a few speed-ups over the
teacher; what to do with them."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.config import EXTERNAL, SearchSection
from retort.data.runs import Run
from retort.report.inputs import Inputs
from retort.report.summary import Difference, difference, pareto, score_spreads, test_sets
from retort.report.timing import (
    Footprint,
    Key,
    Latency,
    Speedup,
    best_speedups,
    busy_ratio,
    changed_outputs,
    deep_reference,
    engine_footprints,
    has_shallow_rival,
    latencies,
    rival_key,
    time_column,
    time_columns,
)

MISSING = "No verdict: the run has no scores, or no times at batch size 1 of the system that speed-ups are over."
LIMIT = 3
"""Speed-ups that the best system is named at, at most."""
APART = 1.1
"""Least factor between two speeds: less is no reason to take the worse system."""
CHANGED = 0.2
"""Share of outputs that an engine changes above which the scores, which are of torch's outputs, deserve doubt. In the
int8 exports of docs/results/shapes.md it was an eighth at most, and BLEU, where it was measured, changed by 0.2 at
most. Where an eighth changes, more than a fifth of 100 timed sentences do so once in a hundred times."""


@dataclass(frozen=True)
class Ranked:
    """A system and search in its fastest engine, at batch size 1."""

    key: Key
    value: float
    """The leading metric, mean over seeds."""
    difference: Difference | None
    """To the original; None for the original, and where it was not compared."""
    gap: float
    """The leading metric minus the original's: seed by seed where that was compared."""
    worse_on: list[str]
    """Other test sets on which it is significantly worse than the original, for any seed."""
    speedup: Speedup | None
    """Over the reference."""
    over_rival: Speedup | None
    """None for the rival, and where it is the reference."""
    latency: Latency
    footprint: Footprint
    directory: str | None
    """The checkpoint of the timed seed; None of an external teacher."""
    search: str | None
    """JSON of the search, where it is not the one that the checkpoint decodes by unless it is told."""
    teacher: str | None = None
    """The checkpoint that scores the search's candidates, where it has a teacher do that."""
    changed: tuple[int, int] | None = None
    """Outputs that differ from torch's in its engine, and the sentences compared; None in torch, or where unknown."""

    @property
    def changed_share(self) -> float:
        """The share of changed outputs, as far as it is known."""
        return self.changed[0] / self.changed[1] if self.changed else 0.0


@dataclass(frozen=True)
class Original:
    """An external teacher that was scored and not timed."""

    key: Key
    value: float
    """The leading metric."""


@dataclass(frozen=True)
class Verdict:
    """What a reader wants first; ``metric`` is the leading one, on the first test set."""

    metric: str
    test_set: str
    agrees_only: bool
    """The references of this test set are outputs of the external teacher."""
    original: Original | None
    """The external teacher, whose quality the others are judged by, where it was not timed; None: the reference."""
    reference: Ranked
    """What speed-ups are over; a copy of the original where that was not timed."""
    rival: Ranked | None
    """The fastest that decodes from left to right; None where that is the reference, or was not scored."""
    best: list[Ranked]
    """The best system at each speed-up, the fastest last; empty where none is known to be faster than the reference."""
    winner: Ranked | None
    """The fastest of them that is not significantly worse than the original, or else the best one; where none is
    faster, the best of all. None where there is no other system."""
    is_worse: bool
    """The winner is worse than the original, as then all of them are."""
    no_rival: str | None
    """That no rival of few decoder layers was timed, as a sentence, and what to add; None where one was."""
    loaded: str | None
    """Why the times deserve doubt; None where they do not."""

    @property
    def judge(self) -> Key:
        """What the others' quality is compared with."""
        return self.original.key if self.original else self.reference.key

    @property
    def doubts(self) -> list[str]:
        """Why the verdict deserves doubt, as sentences."""
        return [doubt for doubt in (self.loaded, self.no_rival, self.changed) if doubt]

    @property
    def changed(self) -> str | None:
        """Systems whose scores are hardly those of the engine that was timed; None where there is none."""
        named = {system.key: system for system in (self.reference, *self.shown, self.winner) if system}
        shares = [
            f"{system.changed_share:.0%} of {name(key)} in {system.latency.engine}"
            for key, system in named.items()
            if system.changed_share > CHANGED
        ]
        if not shares:
            return None
        return (
            f"Scores are of torch's outputs, and the engine changes many ({', '.join(shares)}); retort export measures "
            f"what that costs"
        )

    @property
    def choice(self) -> str:
        """What the winner is, of those that are faster: the beginning of a sentence."""
        if self.is_worse:
            return "All that are faster are significantly worse; the best of them"
        return "The fastest that is not significantly worse"

    @property
    def shown(self) -> list[Ranked]:
        """The rival and the best systems, the slowest first."""
        rival = [self.rival] if self.rival and self.rival not in (*self.best, self.winner) else []
        return sorted([*rival, *self.best], key=lambda system: -system.latency.median)


def verdict(inputs: Inputs) -> Verdict | None:
    """The verdict on a run; None where it has no scores, or no times at batch size 1 of what speed-ups are over."""
    sets, reference, original = test_sets(inputs), inputs.config.reference, inputs.config.original
    scored = score_spreads(inputs, sets[0]) if sets else {}
    timed = {key: sizes[1] for key, sizes in latencies(inputs).items() if 1 in sizes}
    values = {key: metrics[inputs.leading].mean for key, metrics in scored.items() if inputs.leading in metrics}
    if reference not in timed or reference not in values or original not in values:
        return None
    faster, taken, changed = best_speedups(inputs, reference), engine_footprints(inputs), changed_outputs(inputs)
    rival = rival_key(inputs)
    faster_than_rival = {} if rival == reference else best_speedups(inputs, rival)

    def ranked(key: Key) -> Ranked:
        tested, *others = [None if key == original else _difference(inputs, key, original, name) for name in sets]
        return Ranked(
            key=key,
            value=values[key],
            difference=tested,
            gap=tested.mean if tested else values[key] - values[original],
            worse_on=[name for name, d in zip(sets[1:], others, strict=True) if d and d.is_worse(inputs.leading_sign)],
            speedup=None if key == reference else faster.get(key),
            over_rival=None if key == rival else faster_than_rival.get(key),
            latency=timed[key],
            footprint=taken[*key, timed[key].engine],
            directory=_directory(inputs, key[0]),
            search=chosen_search(inputs, key),
            teacher=_teacher_of(inputs, key),
            changed=changed.get((*key, timed[key].engine)),
        )

    others = [ranked(key) for key in timed if key in values and key != reference]
    fast = [other for other in others if other.speedup and other.speedup.ratio >= APART]
    chosen = winner(fast, inputs.leading_sign) if fast else _best(others, inputs.leading_sign)
    return Verdict(
        metric=inputs.leading,
        test_set=sets[0],
        agrees_only=sets[0] in inputs.config.filled,
        original=None if original == reference else Original(original, values[original]),
        reference=ranked(reference),
        rival=next((other for other in others if other.key == rival), None),
        best=at_speedups(fast, inputs.leading_sign, chosen) if fast else [],
        winner=chosen,
        is_worse=chosen is not None and is_worse(chosen, inputs.leading_sign),
        no_rival=no_rival(inputs),
        loaded=doubt(inputs),
    )


def at_speedups(systems: list[Ranked], sign: int, chosen: Ranked | None = None) -> list[Ranked]:
    """The systems that none of the others beats in both time and quality, the slowest first: of those that are about as
    fast the ``chosen`` one or else the best one, and of more than ``LIMIT`` the slowest, the fastest, and the chosen
    one or else what is nearest to their middle."""
    points = [(system.latency.median, system.value) for system in systems]
    kept: list[Ranked] = []
    # from the slowest on, quality falls
    for index in reversed(pareto(points, sign)):
        if not kept or not _about_as_fast(kept[-1], systems[index]):
            kept.append(systems[index])
    if chosen is not None and chosen not in kept:
        kept = [system for system in kept if not _about_as_fast(system, chosen)]
        kept = sorted([*kept, chosen], key=lambda system: -system.latency.median)
    if len(kept) <= LIMIT:
        return kept
    middle = math.sqrt(kept[0].latency.median * kept[-1].latency.median)
    nearest = min(kept[1:-1], key=lambda system: abs(math.log(system.latency.median / middle)))
    return [kept[0], chosen if chosen in kept[1:-1] else nearest, kept[-1]]


def _about_as_fast(a: Ranked, b: Ranked) -> bool:
    slower, faster = max(a.latency.median, b.latency.median), min(a.latency.median, b.latency.median)
    return slower < APART * faster


def winner(systems: list[Ranked], sign: int) -> Ranked | None:
    """The fastest of these that is not significantly worse than the original, the best of those about as fast; or
    else the best one."""
    equal = [system for system in systems if not is_worse(system, sign)]
    fastest = min(equal, key=lambda system: system.latency.median, default=None)
    choice = systems if fastest is None else [system for system in equal if _about_as_fast(system, fastest)]
    return _best(choice, sign)


def _best(systems: list[Ranked], sign: int) -> Ranked | None:
    """The best of these, of equals the fastest."""
    return max(systems, key=lambda system: (sign * system.value, -system.latency.median), default=None)


def is_worse(system: Ranked, sign: int) -> bool:
    """Whether a system is worse than the original on any test set: significantly, for any seed, where that was
    tested."""
    worse = system.difference.is_worse(sign) if system.difference else sign * system.gap < 0
    return worse or bool(system.worse_on)


def doubt(inputs: Inputs) -> str | None:
    """Why the times of a run deserve doubt, as a sentence; None where the machine did nothing else."""
    ratio, load = busy_ratio(inputs), inputs.latency_provenance.get("load") or {}
    if time_column(inputs) != "processor_seconds" or ratio is None:
        return None
    known = "" if load.get("before") is None else f", load {load['before']:.1f} before and {load['after']:.1f} after"
    clocked = "total_seconds" in time_columns(inputs).values()
    exception = f", but the clock's of {EXTERNAL}, which has no speed-ups" if clocked else ""
    return (
        f"Timed on a loaded machine (by the clock all took {ratio:.1f} times the processor's time{known}): these are "
        f"the processor's times{exception}; time again on a quiet one before you rely on them"
    )


def no_rival(inputs: Inputs) -> str | None:
    """That no rival of few decoder layers was timed, as a sentence, and what to add; None where one was."""
    if has_shallow_rival(inputs):
        return None
    deep = deep_reference(inputs)
    fewer = "than encoder layers" if deep is None else f"than {inputs.config.reference[0]} ({deep})"
    return (
        f"No shallow rival was timed, a left-to-right student with fewer decoder layers {fewer}: add one with "
        f"objective: autoregressive and model.decoder_layers: 1"
    )


def _difference(inputs: Inputs, key: Key, other: Key, test_set: str) -> Difference | None:
    """The compared difference to a system; None in runs that were compared before it always was."""
    system, search = other
    seeds = inputs.config.seeds_of(system)
    return difference(inputs, key, test_set, [str(Run(system, seed, search)) for seed in seeds])


def _directory(inputs: Inputs, system: str) -> str | None:
    """The checkpoint of the seed that was timed."""
    seeds = [row["seed"] for row in inputs.latency if row["system"] == system]
    trained = [c for run, c in inputs.checkpoints.items() if (run.system, run.seed) == (system, min(seeds))]
    return trained[0].directory if trained and system != EXTERNAL else None


def _teacher_of(inputs: Inputs, key: Key) -> str | None:
    """The checkpoint that scores a search's candidates, if one does."""
    section = inputs.systems.get(key[0])
    if section is None or key[1] not in section.searches or not section.asks_teacher(key[1]):
        return None
    return next((found.directory for run, found in inputs.checkpoints.items() if run.system == "teacher"), None)


def chosen_search(inputs: Inputs, key: Key) -> str | None:
    """JSON of a search as it was timed, with what was tuned and its table of n-grams; None of the one that the
    checkpoint decodes by unless it is told."""
    system, search = key
    section = inputs.systems.get(system)
    if section is None or search not in section.searches:
        return None
    timed = inputs.latency_provenance.get("searches") or {}
    written = section.searches[search]
    chosen = {"kind": written.kind, **(timed.get("/".join(key)) or _options(written))}
    return None if chosen == _options(section.objective.own_search) else json.dumps(chosen)


def _options(search: SearchSection) -> dict[str, Any]:
    """The kind of a search, and its options that differ from the defaults."""
    return search.model_dump(mode="json", exclude_defaults=True)


# ---- text -----------------------------------------------------------------------------------------------------------


def lines(found: Verdict | None, report: str | Path, warnings: int = 0) -> list[str]:
    """The verdict for a terminal, or why there is none; ``report`` is the path of the report, which begins with as many
    ``warnings``."""
    begins = f", which begins with {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
    where = f"report: {report}{begins}"
    if found is None:
        return [MISSING, where]
    reference = found.reference
    judge = found.original or reference
    quality = f"{name(judge.key)}: {judge.value:.1f} {found.metric} on {found.test_set}"
    if found.original:
        result = [
            f"{quality}; not timed, so speed-ups are over {name(reference.key)}",
            f"{advantage(reference, found)}; {cost(reference)}",
        ]
    else:
        result = [f"{quality}; {cost(reference)}"]
    result += [f"{advantage(system, found)}; {cost(system)}" for system in found.shown]
    if not found.best and found.winner:
        known = "no system is faster; " if found.winner.speedup else ""
        result.append(f"{known}the best is {advantage(found.winner, found)}")
    if found.agrees_only:
        result.append(f"The references of {found.test_set} are the teacher's outputs: scores are agreement with it.")
    result += [f"{doubt}." for doubt in found.doubts]
    result.append(where)
    if found.winner and found.best:
        result.append(f"{found.choice} is {name(found.winner.key)}:")
    return [*result, *(f"  {command}" for command in commands(found))]


def name(key: Key) -> str:
    return " ".join(part for part in key if part)


def advantage(system: Ranked, found: Verdict) -> str:
    """Such as "3.1x faster: dag-distilled greedy, -0.4 BLEU (-0.9 to 0.1), 1.5x the rival's speed"."""
    gap = f"{system.gap:+z.1f} {found.metric}"
    if system.difference:
        gap += f" ({system.difference.low:+z.1f} to {system.difference.high:+z.1f})"
    if system.worse_on:
        gap += f", significantly worse on {', '.join(system.worse_on)}"
    if system == found.rival:
        gap += ", the autoregressive rival"
    if system.over_rival and system.over_rival.ratio >= APART:
        gap += f", {system.over_rival.ratio:.1f}x the rival's speed"
    ratio = f"{system.speedup.ratio:.1f}x faster: " if system.speedup and system.speedup.ratio >= APART else ""
    return f"{ratio}{name(system.key)}, {gap}"


def cost(system: Ranked) -> str:
    """Time per sentence and where, with the outputs that this changes, size and memory."""
    changed = f" ({system.changed_share:.0%} of outputs changed)" if system.changed else ""
    parts = [f"{system.latency.median * 1000:.2f} ms in {system.latency.engine} {system.latency.precision}{changed}"]
    if system.footprint.megabytes is not None:
        parts.append(f"{system.footprint.megabytes:.1f} MB")
    if system.footprint.peak_megabytes is not None:
        parts.append(f"{system.footprint.peak_megabytes:.0f} MB of memory")
    return ", ".join(parts)


def commands(found: Verdict) -> list[str]:
    """The commands that translate with the winner, export it, and translate with what is exported, and serve it."""
    chosen = found.winner or found.reference
    if chosen.directory is None:
        return []
    search = f" --search {shlex.quote(chosen.search)}" if chosen.search else ""
    model, bundle = shlex.quote(chosen.directory), shlex.quote(f"{chosen.key[0]}-{chosen.latency.precision}")
    torch = chosen.latency.engine == "torch"
    given = f" --teacher {shlex.quote(chosen.teacher)}" if chosen.teacher else ""
    if torch and chosen.latency.precision != "float32":
        given += f" --precision {chosen.latency.precision}"
    translate = f"{program()} translate --model {model}{search}{given} --input in.txt > out.txt"
    if torch:
        # a server has no teacher, and decodes in float32
        return [translate] if given else [translate, f"{program()} serve {model}{search}"]
    return [
        translate,
        f"{program()} export --model {model}{search} --precision {chosen.latency.precision} --output {bundle}",
        f"{program()} translate --model {bundle} --input in.txt > out.txt",
        f"{program()} serve {bundle}",
    ]


def program() -> str:
    """The command line's path as seen from the working directory, where it is below that; else its name."""
    path = Path(sys.executable).parent / "retort"
    return shlex.quote(os.path.relpath(path)) if path.is_relative_to(Path.cwd()) and path.exists() else "retort"
