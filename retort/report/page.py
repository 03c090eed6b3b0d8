"""The report as one HTML page without any external resource."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import retort
from retort.config import EXTERNAL, METRICS
from retort.data.provenance import value_digest
from retort.distillation.guards import MEANING
from retort.evaluation.diagnostics import RIGHT
from retort.evaluation.significance import Spread
from retort.report import budgets, continuations, dag, loop, mixing, summary, timing, verdict
from retort.report.inputs import Inputs
from retort.report.side_by_side import side_by_side
from retort.report.timing import Speedup

TEMPLATE = "report.html.jinja"
MINUS, MISSING = "\N{MINUS SIGN}", "\N{EN DASH}"
DEVICE_FACTS = {
    "type": "{}",
    "machine": "{}",
    "name": "{}",
    "cpus": "processors: {}",
    "threads": "threads: {}",
    "torch": "torch {}",
}
"""How each fact about a device reads, in this order."""


def render(inputs: Inputs, figures: Mapping[str, bytes | None]) -> str:
    """The whole page; ``figures`` are PNG files by name, None where not drawn."""
    sets = summary.test_sets(inputs)
    loops = {test_set: loop.iterations(inputs, test_set) for test_set in sets}
    config = inputs.config.model_dump(mode="json")
    shares = summary.logged_means(inputs, "train", summary.SHARES)
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            inputs=inputs,
            title=inputs.config.report.title,
            name=inputs.config.name,
            version=retort.__version__,
            figures={key: None if png is None else data_uri(png) for key, png in figures.items()},
            tables={test_set: summary.entries(inputs, test_set) for test_set in sets},
            short=summary.short_outputs(inputs),
            gaps={test_set: summary.gaps(inputs, test_set) for test_set in sets},
            metrics=[
                metric for metric in (*inputs.metrics, RIGHT) if any(row["metric"] == metric for row in inputs.scores)
            ],
            loops={test_set: iterations for test_set, iterations in loops.items() if iterations},
            loop_kept=loop.kept(next(iter(loops.values()), []), inputs.leading_sign),
            loop_ended=loop.ended(inputs),
            modalities=loop.modalities(inputs),
            mixed=mixing.mixed_systems(inputs),
            guarded={metric: MEANING[metric] for metric in loop.GUARDED},
            buckets={test_set: continuations.length_buckets(inputs, test_set) for test_set in sets if inputs.lengths},
            by_length={
                test_set: {
                    metric: continuations.by_length(inputs, test_set, metric)
                    for metric in inputs.config.evaluation.metrics
                }
                for test_set in sets
            },
            completions={test_set: continuations.completions(inputs, test_set) for test_set in sets if inputs.exposure},
            prefixes=continuations.PREFIXES,
            **_times(inputs),
            **_verdict(inputs),
            shares={
                metric: meaning
                for metric, meaning in summary.SHARES.items()
                if any(metric in means for means in shares.values())
            },
            training_shares=shares,
            readings=budgets.readings(inputs),
            unvalidated=budgets.unvalidated(inputs),
            warnings=summary.warnings(inputs),
            significant=summary.SIGNIFICANT,
            facts=flatten({key: value for key, value in inputs.facts.items() if key != "provenance"}),
            filled=inputs.config.filled,
            entropy=inputs.facts.get("true_conditional_entropy"),
            cleaning=cleaning_table(inputs.cleaning),
            truncates=inputs.config.model.truncate_sources,
            total_seconds=sum(stage.seconds for stage in inputs.stages),
            graph=rule_graph(inputs),
            signatures=signatures(inputs),
            devices=devices(inputs),
            seeds=sorted({row["seed"] for row in inputs.scores}),
            config=config,
            config_digest=value_digest(config),
            code_versions=code_versions(inputs),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        signed=signed,
        spread=spread_text,
        speedup=speedup_text,
        duration=duration,
        words=repeated_words,
        json=json_text,
    )
    return environment


def _verdict(inputs: Inputs) -> dict[str, Any]:
    """The verdict and its texts; outputs of the systems that it names beside the original's."""
    found = verdict.verdict(inputs)
    shown = [system for system in [found.winner, *found.best] if system] if found else []
    beside = [
        side_by_side(inputs, found.judge, key)
        for key in dict.fromkeys(system.key for system in shown)
        if found is not None
    ]
    return {
        "verdict": found,
        "commands": verdict.commands(found) if found else [],
        "no_verdict": verdict.MISSING,
        "beside": [pairs for pairs in beside if pairs],
    }


def _times(inputs: Inputs) -> dict[str, Any]:
    """What the page says about latency."""
    return {
        "latencies": timing.engine_latencies(inputs),
        "best_engines": timing.best_engines(timing.engine_latencies(inputs)),
        "speedups": timing.speedups(inputs, inputs.config.reference),
        "rival": timing.rival_key(inputs),
        "rival_speedups": timing.speedups(inputs, timing.rival_key(inputs)),
        "times_by_length": timing.by_length(inputs),
        "source_lengths": timing.LENGTHS,
        "interval_batches": timing.MIN_BATCHES,
        "busy_ratio": timing.busy_ratio(inputs),
        "is_busy": timing.time_column(inputs) == "processor_seconds",
        "external_by_clock": inputs.config.external_is_timed
        and timing.time_column(inputs, EXTERNAL) == "total_seconds",
        "changed_outputs": timing.changed_outputs(inputs),
        "omissions": timing.omissions(inputs),
        "footprints": timing.engine_footprints(inputs),
        "load": inputs.latency_provenance.get("load"),
        "turn": inputs.latency_provenance.get("latency", {}).get("turn"),
        "reference": inputs.config.reference,
    }


def data_uri(png: bytes) -> str:
    """A PNG as a data address."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def number(value: float | None, digits: int = 2) -> str:
    """A number with thousands separated; a dash for none and for not-a-number."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", MINUS).replace(",", "\N{THIN SPACE}")


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign."""
    text = number(value, digits)
    return text if text in (MISSING, number(0, digits)) or text.startswith(MINUS) else f"+{text}"


def spread_text(value: Spread | None, digits: int = 2) -> Markup:
    """The mean, and the deviation over seeds where there are several."""
    if value is None:
        return Markup(MISSING)
    if not math.isfinite(value.sd):
        return Markup(number(value.mean, digits))
    deviation = number(value.sd, digits)
    return Markup('{} <span class="sd">±{}</span>').format(number(value.mean, digits), deviation)


def speedup_text(value: Speedup | None, digits: int = 2) -> Markup:
    """How many times faster, and the interval where there are batches enough for one."""
    if value is None:
        return Markup(MISSING)
    ratio = Markup(f"{number(value.ratio, digits)}\N{MULTIPLICATION SIGN}")
    if not math.isfinite(value.low):
        return ratio
    interval = number(value.low, digits), number(value.high, digits)
    return ratio + Markup(' <span class="range">{} to {}</span>').format(*interval)


def duration(seconds: float) -> str:
    """Seconds in the units that a person would use."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{hours} h {minutes % 60:02d} min" if hours else f"{minutes} min {int(seconds % 60):02d} s"


def repeated_words(text: str) -> Markup:
    """The text, every word that repeats the one before it marked."""
    words = text.split(" ")
    marked = [
        Markup("<mark>{}</mark>").format(word) if index and word and word == words[index - 1] else word
        for index, word in enumerate(words)
    ]
    return Markup(" ").join(marked)


def json_text(value: Any) -> str:
    """Indented JSON, for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as (path, text) pairs, in their order; lists stay on one line."""
    if isinstance(value, Mapping):
        start = f"{prefix} / " if prefix else ""
        return [pair for key, part in value.items() for pair in flatten(part, f"{start}{key}")]
    if isinstance(value, float):
        return [(prefix, f"{value:.6g}")]
    if isinstance(value, int) and not isinstance(value, bool):
        return [(prefix, number(value, 0) if abs(value) >= 10_000 else str(value))]
    return [(prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]


def cleaning_table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Splits in columns, reasons in rows: 'read' first and 'kept' last."""
    splits = list(dict.fromkeys(row["split"] for row in rows))
    reasons = sorted(
        dict.fromkeys(row["reason"] for row in rows), key=lambda reason: (reason == "kept") - (reason == "read")
    )
    pairs = {(row["reason"], row["split"]): row["pairs"] for row in rows}
    counts = [(reason, [pairs.get((reason, split)) for split in splits]) for reason in reasons]
    return {"splits": splits, "rows": counts}


def rule_graph(inputs: Inputs) -> Markup | None:
    """A drawing of what snakemake --rulegraph printed."""
    return Markup(dag.svg(dag.parse(inputs.dag))) if inputs.dag.strip() else None


def signatures(inputs: Inputs) -> list[tuple[str, list[str]]]:
    """Every distinct signature by metric; of diagnostics, whose signatures hold counts, only how they are counted."""
    texts: dict[str, dict[str, None]] = {}
    metrics = {*(metric.name for metric in METRICS), *inputs.config.evaluation.learned}
    for row in inputs.scores:
        text = row["signature"] if row["metric"] in metrics else row["signature"].split("|")[0]
        texts.setdefault(row["metric"], {})[text] = None
    for row in inputs.comparison:
        texts.setdefault(f"difference in {row['metric']}", {})[row["signature"]] = None
    return [(metric, list(distinct)) for metric, distinct in texts.items()]


def devices(inputs: Inputs) -> list[tuple[str, str]]:
    """The devices of each part, as far as its files name them."""
    trained = [checkpoint.device for checkpoint in inputs.checkpoints.values() if checkpoint.device]
    timed = inputs.latency_provenance.get("device")
    parts = {"training": trained, "latency": [timed] if timed else []}
    return [(part, "; ".join(dict.fromkeys(map(described, names)))) for part, names in parts.items() if names]


def described(device: Any) -> str:
    """A device as the files have it: a name, or facts by name."""
    if isinstance(device, str):
        return device
    facts = dict(flatten(device))
    known = [form.format(facts.pop(fact)) for fact, form in DEVICE_FACTS.items() if fact in facts]
    return ", ".join([*known, *(f"{fact}: {text}" for fact, text in facts.items())])


def code_versions(inputs: Inputs) -> list[str]:
    """Distinct versions of Retort that wrote the tables and the checkpoints."""
    facts = [source.provenance for source in inputs.sources]
    facts += [checkpoint.provenance for checkpoint in inputs.checkpoints.values()]
    return sorted({f"{fact['retort']} ({fact.get('git') or 'no git commit'})" for fact in facts if "retort" in fact})
