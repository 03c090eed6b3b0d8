"""Systems of several runs in one table: what can be compared, and why the rest cannot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from retort.config import EXTERNAL
from retort.data.parquet import read_table
from retort.data.tables import CORPUS
from retort.errors import RetortError
from retort.evaluation.significance import Spread
from retort.filenames import table_name
from retort.report.figures import COLOURS, DPI, latency_label, margins, plain_style, png
from retort.report.inputs import Inputs, Paths, Row, read_inputs
from retort.report.labels import place_labels
from retort.report.summary import score_spreads, test_sets
from retort.report.timing import Key, Latency, TimeColumn, engine_footprints, latencies, time_column, time_columns

TIMED = ("sentences", "threads", "turn")
"""Keys of ``latency`` that times of different runs must share."""


@dataclass(frozen=True)
class Compared:
    """A system and search of a run."""

    run: str
    key: Key
    scores: dict[str, Spread]
    """Means over seeds."""
    latency: Latency | None
    megabytes: float | None


@dataclass(frozen=True)
class Comparison:
    """The table; ``columns`` are those that its times are by, and ``refused`` says what is not in it, and why."""

    test_set: str
    metrics: list[str]
    rows: list[Compared]
    columns: set[TimeColumn]
    refused: list[str]


def compare_runs(directories: Sequence[Path]) -> Comparison:
    """Compare the systems of these runs, directories such as results/default, on the first test set that all have.

    Raises RetortError where no test set has the same text in all of them, or no metric the same signature.
    """
    directories = list({path.resolve(): path for path in directories}.values())
    names = _names(directories)
    runs = {name: _read(path) for name, path in zip(names, directories, strict=True)}
    for path, inputs in zip(directories, runs.values(), strict=True):
        if not inputs.scores:
            raise RetortError(f"{path}: this run has no scores yet; give its command again, which goes on with it")
    refused: list[str] = []
    test_set = _common_test_set(dict(zip(names, directories, strict=True)), runs, refused)
    wanted = dict.fromkeys(metric for inputs in runs.values() for metric in inputs.metrics)
    metrics = [metric for metric in wanted if _same_signature(runs, test_set, metric, refused)]
    if not metrics:
        raise RetortError("nothing can be compared: " + "; ".join(refused))
    timed = _same_clock(runs, dict(zip(names, directories, strict=True)), refused)
    columns = {column for inputs in runs.values() for column in time_columns(inputs).values()} if timed else set()
    rows = []
    for name, inputs in runs.items():
        medians, sizes = latencies(inputs), engine_footprints(inputs)
        for key, scores in score_spreads(inputs, test_set).items():
            latency = medians.get(key, {}).get(1)
            rows.append(
                Compared(
                    run=name,
                    key=key,
                    scores={metric: scores[metric] for metric in metrics if metric in scores},
                    latency=latency if timed else None,
                    megabytes=sizes[*key, latency.engine].megabytes if latency else None,
                )
            )
    return Comparison(test_set, metrics, rows, columns, refused)


def _names(directories: Sequence[Path]) -> list[str]:
    """The runs' names, or their paths where two have the same name."""
    if len(directories) < 2:
        raise RetortError("one run; expected two or more to compare")
    names = [path.resolve().name for path in directories]
    return names if len(set(names)) == len(names) else [str(path) for path in directories]


def _read(run: Path) -> Inputs:
    if not (run / "config.json").is_file():
        if (run / "progress.json").is_file():
            raise RetortError(
                f"{run}: this run has not come to its report yet (no config.json); give its command again, without "
                f"targets such as teacher"
            )
        raise RetortError(f"{run}: no config.json; expected the directory of a run, such as results/default")
    latency = run / "latency/latency.parquet"
    inputs = read_inputs(
        Paths(
            config=run / "config.json",
            scores=sorted(run.glob("scores/*/seed*/*.parquet")),
            latency=latency if latency.exists() else None,
        )
    )
    # files of systems, searches and seeds that an earlier configuration had stay where they are
    inputs.scores = [row for row in inputs.scores if _is_configured(inputs, row)]
    return inputs


def _is_configured(inputs: Inputs, row: Row) -> bool:
    config, system = inputs.config, row["system"]
    return row["search"] in config.searches_of(system) and row["seed"] in config.seeds_of(system)


def _common_test_set(directories: dict[str, Path], runs: dict[str, Inputs], refused: list[str]) -> str:
    """The first test set with the same sources and references in all runs."""
    first = next(iter(runs))
    for test_set in test_sets(runs[first]):
        texts = {name: _text(path, test_set) for name, path in directories.items()}
        others = [name for name, text in texts.items() if text != texts[first]]
        if not others and texts[first] is not None:
            return test_set
        refused.append(f"{test_set} is another text in {', '.join(others)} than in {first}, or is not there")
    raise RetortError(
        "nothing can be compared: " + ("; ".join(refused) or f"{first} has no scores") + "; compare runs of one corpus"
    )


def _text(run: Path, test_set: str) -> list[Any] | None:
    path = run / "corpus" / table_name(test_set)
    return read_table(path, CORPUS).sort_by("id").to_pylist() if path.exists() else None


def _same_signature(runs: dict[str, Inputs], test_set: str, metric: str, refused: list[str]) -> bool:
    signatures = {
        name: {row["signature"] for row in inputs.scores if (row["test_set"], row["metric"]) == (test_set, metric)}
        for name, inputs in runs.items()
    }
    if len(set.union(*signatures.values())) == 1 and all(signatures.values()):
        return True
    texts = "; ".join(f"{name}: {', '.join(sorted(found)) or 'none'}" for name, found in signatures.items())
    refused.append(f"{metric} has other signatures ({texts})")
    return False


def _same_clock(runs: dict[str, Inputs], directories: dict[str, Path], refused: list[str]) -> bool:
    """Whether the times of these runs can be compared; otherwise the first reason why not is added to ``refused``."""
    facts = {name: inputs.latency_provenance for name, inputs in runs.items()}
    for what, found in (
        ("are not there in all runs", {name: bool(inputs.latency) for name, inputs in runs.items()}),
        ("are of other devices", {name: fact.get("device") for name, fact in facts.items()}),
        ("are of other test sets", {name: fact.get("test_set") for name, fact in facts.items()}),
        (
            "were measured with other settings",
            {name: [fact.get("latency", {}).get(key) for key in TIMED] for name, fact in facts.items()},
        ),
        (
            "are the clock's in one run and the processor's in another, whose machine was loaded",
            {name: time_column(inputs) for name, inputs in runs.items()},
        ),
    ):
        values = list(found.values())
        if any(value != values[0] for value in values) or not values[0]:
            details = "; ".join(f"{name}: {value}" for name, value in found.items())
            refused.append(f"times {what} ({details})")
            return False
    timed = str(next(iter(facts.values())).get("test_set"))
    first, *others = (_text(path, timed) for path in directories.values())
    if any(text != first for text in others):
        refused.append(f"times are of test sets {timed} with other texts")
        return False
    return True


# ---- as text and figure ---------------------------------------------------------------------------------------------


def columns(compared: Comparison) -> list[list[str]]:
    """The table's rows, the head first."""
    milliseconds = "processor ms" if compared.columns == {"processor_seconds"} else "ms"
    head = ["run", "system", "search", "seeds", *compared.metrics, milliseconds, "engine", "MB"]
    body = [
        [
            row.run,
            *row.key,
            str(max((score.n for score in row.scores.values()), default=0)),
            *(f"{row.scores[metric].mean:.2f}" if metric in row.scores else "" for metric in compared.metrics),
            f"{row.latency.median * 1000:.2f}" if row.latency else "",
            f"{row.latency.engine} {row.latency.precision}" if row.latency else "",
            f"{row.megabytes:.1f}" if row.megabytes is not None else "",
        ]
        for row in compared.rows
    ]
    return [head, *body]


def lines(compared: Comparison) -> list[str]:
    """The table for a terminal, and below it what its times are by, unless that is the clock, and what is not in it."""
    table = columns(compared)
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    if "processor_seconds" in compared.columns:
        exception = f", but the clock's of {EXTERNAL}" if "total_seconds" in compared.columns else ""
        text.append(f"The machine was loaded in all runs: these are the processor's times{exception}.")
    return [f"On {compared.test_set}:", *text, *(f"left out: {reason}" for reason in compared.refused)]


def as_csv(compared: Comparison) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(columns(compared))
    return out.getvalue()


def figure(compared: Comparison) -> bytes | None:
    """The first metric against median latency at batch size 1, a colour per run; None without times."""
    metric, names = compared.metrics[0], list(dict.fromkeys(row.run for row in compared.rows))
    shown = [row for row in compared.rows if row.latency and metric in row.scores]
    points = [(row.latency.median * 1000, row.scores[metric].mean) for row in shown if row.latency]
    if not points:
        return None
    drawn = Figure(figsize=(9.2, 5.8), dpi=DPI, layout="tight")
    canvas = FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    plain_style(axes)
    colours = [COLOURS[names.index(row.run) % len(COLOURS)] for row in shown]
    for (x, y), colour in zip(points, colours, strict=True):
        axes.plot(x, y, "o", color=colour, markersize=7)
    axes.set_xscale("log")
    margins(axes, points)
    axes.set_xlabel(latency_label(compared.columns))
    axes.set_ylabel(f"{metric} on {compared.test_set}")
    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], marker="o", linestyle="", label=name)
        for i, name in enumerate(names)
    ]
    axes.legend(handles=handles, frameon=False, fontsize=8)
    place_labels(canvas, axes, points=points, texts=[" ".join(row.key) for row in shown], colours=colours)
    return png(drawn)
