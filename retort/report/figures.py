"""The report's figures, as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from retort.config import EXTERNAL
from retort.data.runs import Run
from retort.evaluation.significance import Spread
from retort.report.continuations import by_length, length_buckets
from retort.report.inputs import Inputs, Row
from retort.report.labels import place_labels
from retort.report.loop import iterations
from retort.report.mixing import mixed_systems
from retort.report.spacing import spaced
from retort.report.summary import objective, pareto, score_spreads
from retort.report.timing import Key, TimeColumn, latencies, time_columns

DPI = 130
INK, GRID = "#333333", "#dddddd"
# After Okabe and Ito's palette, readable with colour-blindness; pale ones darkened for text and lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B5528A", "#3A9BD1", "#B97F00", "#000000", "#7F5AA2", "#8A6D3B")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
COLUMNS = 4
KINDS: dict[str, Literal["--", "-"]] = {"raw": "--", "distilled": "-"}
"""Line styles of what concerns references, and the teacher's translations."""
TRAIN_LOSS = "#9a9a9a"
TRAIN_BINS = 120
"""A training curve is averaged in at most so many bins of updates."""


def quality_latency(inputs: Inputs, test_set: str) -> bytes | None:
    """The leading metric against median latency at batch size 1, None without both.

    One point per system and search, in its fastest engine.
    """
    timed = {key: sizes[1] for key, sizes in latencies(inputs).items() if 1 in sizes}
    metric = inputs.leading
    scores = {k: s[metric] for k, s in score_spreads(inputs, test_set).items() if k in timed and metric in s}
    if not scores:
        return None
    keys = list(scores)
    points = [(timed[key].median * 1000, scores[key].mean) for key in keys]
    colours = _objective_colours(inputs)
    figure = Figure(figsize=(9.2, 5.8), dpi=DPI, layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    plain_style(axes)
    for key, (x, y) in zip(keys, points, strict=True):
        colour = colours[objective(inputs, key[0])]
        filled = _distilled(inputs, key[0])
        axes.errorbar(x, y, yerr=_bar(scores[key].sd), color=colour, linewidth=1, capsize=2.5, zorder=3)
        axes.plot(x, y, "o", color=colour, markerfacecolor=colour if filled else "white", markersize=7, zorder=4)
    front = [points[index] for index in pareto(points, inputs.leading_sign)]
    axes.set_xscale("log")
    margins(axes, points)
    ends = [front[0][0], *[x for x, _ in front], axes.get_xlim()[1]]
    heights = [axes.get_ylim()[0], *[y for _, y in front], front[-1][1]]
    axes.step(ends, heights, where="post", color="#888888", linestyle=(0, (4, 3)), linewidth=1.1, zorder=1)
    axes.set_xlabel(latency_label(time_columns(inputs).values()))
    axes.set_ylabel(f"{metric} on {test_set}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(LogLocator(subs="all"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.legend(handles=_legend(inputs, keys, colours), frameon=False, fontsize=8, loc="upper center",
                bbox_to_anchor=(0.5, 1.09), ncols=8, columnspacing=1.4, handletextpad=0.3)  # fmt: skip
    strokes = [((x, y), (x2, y)) for x, x2, y in zip(ends[1:], ends[2:], heights[1:], strict=False)]
    strokes += [((x, y), (x, y2)) for x, y, y2 in zip(ends[1:], heights, heights[1:], strict=False)]
    for key, (x, y) in zip(keys, points, strict=True):
        bar = _bar(scores[key].sd) or 0
        strokes.append(((x, y - bar), (x, y + bar)))
    inks = [colours[objective(inputs, system)] for system, _ in keys]
    place_labels(canvas, axes, points=points, texts=_labels(keys), colours=inks, lines=strokes)
    return png(figure)


def training_curves(inputs: Inputs) -> bytes | None:
    """The leading metric on the validation set against wall time of all systems; below, loss and it against updates,
    system by system."""
    runs = inputs.runs_in_order(run for run, log in inputs.logs.items() if log)
    systems = list(dict.fromkeys(run.system for run in runs))
    if not systems:
        return None
    columns = min(COLUMNS, len(systems))
    rows = math.ceil(len(systems) / columns)
    has_quality = any(_series(inputs.logs[run], "valid", inputs.leading)[0].size for run in runs)
    top = 3.4 if has_quality else 0.01
    figure = Figure(figsize=(max(2.75 * columns, 7.5), top + 3.5 * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    outer = figure.add_gridspec(1 + 2 * rows, columns, height_ratios=[top, *([1.9, 1.6] * rows)])
    if has_quality:
        _wall_time(figure.add_subplot(outer[0, :]), inputs, runs=runs, systems=systems)
    shared: Axes | None = None
    for index, system in enumerate(systems):
        row, column = divmod(index, columns)
        loss = figure.add_subplot(outer[1 + 2 * row, column])
        quality = figure.add_subplot(outer[2 + 2 * row, column], sharex=loss, sharey=shared)
        shared = shared or quality
        _system_curves(loss, quality, inputs=inputs, runs=[run for run in runs if run.system == system])
        loss.set_title(system, fontsize=9, loc="left", color=INK, fontweight="bold")
        if column == 0:
            loss.set_ylabel("loss", fontsize=8)
            quality.set_ylabel(f"valid {inputs.leading}", fontsize=8)
        quality.set_xlabel("updates", fontsize=8)
    losses = {"training loss": TRAIN_LOSS, "validation loss": COLOURS[0]}
    handles = [Line2D([], [], color=colour, label=label) for label, colour in losses.items()]
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside upper right", ncols=len(handles))
    return png(figure)


def em_iterations(inputs: Inputs, test_set: str) -> bytes | None:
    """NCM and the leading metric of every search against the EM iteration, means over seeds; None without two
    iterations."""
    rows = iterations(inputs, test_set)
    if len(rows) < 2:
        return None
    figure = Figure(figsize=(7.6, 3.2), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes, label in ((left, "NCM (nats per token)"), (right, f"{inputs.leading} on {test_set}")):
        plain_style(axes)
        axes.set_xlabel("EM iteration")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    spreads = [(row.number, row.modality.ncm) for row in rows if row.modality]
    _line(left, spreads, colour=COLOURS[0], label="")
    for index, search in enumerate(rows[0].scores):
        spreads = [(row.number, row.scores[search]) for row in rows if search in row.scores]
        _line(right, spreads, colour=COLOURS[index % len(COLOURS)], label=search)
    right.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=1.2)
    return png(figure)


def mixed_training(inputs: Inputs) -> bytes | None:
    """Share of the samples that count, and loss on references and on translations of training pairs, against updates;
    the first seed of each system. None where no system's samples differ."""
    systems = [mixed.system for mixed in mixed_systems(inputs)]
    if not systems:
        return None
    figure = Figure(figsize=(9.2, 3.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes, label in ((left, "share of samples that count"), (right, "loss on training pairs")):
        plain_style(axes)
        axes.set_xlabel("updates")
        axes.set_ylabel(label)
    first = {run.system: run for run in reversed(inputs.runs_in_order(inputs.logs))}
    for index, system in enumerate(systems):
        log, colour = inputs.logs[first[system]], COLOURS[index % len(COLOURS)]
        for axes, split, name in ((left, "train", "kept"), (right, "valid", "loss")):
            for kind, style in KINDS.items():
                updates, values, _ = _series(log, split, f"{name}_{kind}")
                axes.plot(*_binned(updates, values), color=colour, linestyle=style, linewidth=1.3)
    handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], label=name) for i, name in enumerate(systems)]
    handles += [Line2D([], [], color=INK, linestyle=style, label=kind) for kind, style in KINDS.items()]
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside upper center", ncols=5)
    return png(figure)


def lengths(inputs: Inputs, test_set: str) -> bytes | None:
    """The leading metric less the teacher's by the length of the reference, each system with its first search, means
    over seeds; None without the teacher's."""
    buckets = length_buckets(inputs, test_set)
    all_scores = by_length(inputs, test_set, inputs.leading)
    scores = {key[0]: values for key, values in all_scores.items() if _is_first(inputs, key)}
    teacher = scores.pop(EXTERNAL, None) or scores.pop("teacher", None)
    if not teacher or not scores:
        return None
    figure = Figure(figsize=(7.6, 4.2), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    plain_style(axes)
    for index, (system, values) in enumerate(scores.items()):
        points = [(i, values[b].mean - teacher[b].mean) for i, b in enumerate(buckets) if b in values and b in teacher]
        axes.plot(*zip(*points, strict=True), **_style(index), marker="o", markersize=4, linewidth=1.3, label=system)
    axes.axhline(0, color="#888888", linewidth=1)
    axes.set_xticks(range(len(buckets)), [f"{b.name}\n({b.sentences})" for b in buckets])
    axes.set_xlabel("words of the reference (sentences)")
    axes.set_ylabel(f"{inputs.leading} on {test_set}, less the teacher's")
    axes.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return png(figure)


def _is_first(inputs: Inputs, key: Key) -> bool:
    """Whether this is the first search of its system."""
    system, search = key
    return inputs.config.searches_of(system)[:1] == [search]


def _line(axes: Axes, points: Sequence[tuple[int, Spread]], colour: str, label: str) -> None:
    numbers = [number for number, _ in points]
    bars = [_bar(value.sd) or 0.0 for _, value in points]
    axes.errorbar(
        numbers,
        [v.mean for _, v in points],
        yerr=bars,
        color=colour,
        marker="o",
        capsize=2.5,
        linewidth=1.4,
        label=label,
    )


def _style(index: int) -> dict[str, Any]:
    """Colour and dashes of one of several lines."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}


def placeholder(text: str) -> bytes:
    """A figure with the reason why there is nothing to draw: the workflow needs every file that it declares."""
    figure = Figure(figsize=(6, 1), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=INK, fontsize=10)
    return png(figure)


def _wall_time(axes: Axes, inputs: Inputs, runs: list[Run], systems: list[str]) -> None:
    plain_style(axes)
    ends, texts, colours = [], [], []
    for run in runs:
        _, values, seconds = _series(inputs.logs[run], "valid", inputs.leading)
        if not values.size:
            continue
        style, first = _style(systems.index(run.system)), run.system not in texts
        axes.plot(seconds / 60, values, **style, linewidth=1.4, alpha=0.95 if first else 0.25)
        if first:
            ends.append((seconds[-1] / 60, float(values[-1])))
            texts.append(run.system)
            colours.append(style["color"])
    axes.set_xlim(0, max(x for x, _ in ends) * 1.22 or 1)
    axes.set_title(
        f"validation {inputs.leading} against wall time", fontsize=9, loc="left", color=INK, fontweight="bold"
    )
    axes.set_xlabel("minutes of training", fontsize=8)
    low, high = axes.get_ylim()
    order = sorted(range(len(ends)), key=lambda i: ends[i][1])
    heights = spaced([ends[i][1] for i in order], [(high - low) * 0.062] * (len(ends) - 1))
    for i, height in zip(order, heights, strict=True):
        (x, y), text, colour = ends[i], texts[i], colours[i]
        place = axes.get_xlim()[1] * 0.985
        axes.plot([x, place * 0.87], [y, height], color=colour, linewidth=0.5, alpha=0.5)
        axes.text(place * 0.875, height, text, fontsize=7.5, color=colour, va="center")


def _system_curves(loss: Axes, quality: Axes, inputs: Inputs, runs: list[Run]) -> None:
    for axes in (loss, quality):
        plain_style(axes)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1000:g}k" if abs(v) >= 1000 else f"{v:g}"))
    loss.tick_params(labelbottom=False)
    highest = []
    for index, run in enumerate(runs):
        alpha = 1.0 if index == 0 else 0.45
        updates, values = _binned(*_series(inputs.logs[run], "train", "loss")[:2])
        if values.size:
            loss.plot(updates, values, color=TRAIN_LOSS, linewidth=1, alpha=alpha)
        valid_updates, valid, _ = _series(inputs.logs[run], "valid", "loss")
        if valid.size:
            loss.plot(valid_updates, valid, color=COLOURS[0], linewidth=1.3, alpha=alpha)
        highest += [float(np.percentile(part, 92)) for part in (values, valid) if part.size]
        updates, scores, _ = _series(inputs.logs[run], "valid", inputs.leading)
        if scores.size:
            quality.plot(updates, scores, color=COLOURS[2], linewidth=1.3, alpha=alpha)
    if not quality.lines:
        quality.text(0.5, 0.5, "not measured", fontsize=8, color="#888888", ha="center", va="center",
                  transform=quality.transAxes)  # fmt: skip
        quality.tick_params(labelleft=False)
    if highest and loss.get_ylim()[1] > max(highest) * 1.3:
        # The first updates would flatten everything after them.
        loss.set_ylim(top=max(highest) * 1.1)


def _series(log: list[Row], split: str, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Updates, finite values and seconds of one curve, in order of updates."""
    points = sorted(
        (row["update"], row["value"], row["seconds"])
        for row in log
        if row["split"] == split and row["metric"] == metric and math.isfinite(row["value"])
    )
    columns = np.array(points, dtype=np.float64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def _binned(updates: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(updates) <= TRAIN_BINS:
        return updates, values
    parts = np.array_split(np.arange(len(updates)), TRAIN_BINS)
    return np.array([updates[part].mean() for part in parts]), np.array([values[part].mean() for part in parts])


def _objective_colours(inputs: Inputs) -> dict[str, str]:
    names = dict.fromkeys(objective(inputs, system) for system, _ in latencies(inputs))
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def _legend(inputs: Inputs, keys: list[Key], colours: dict[str, str]) -> list[Line2D]:
    used = dict.fromkeys(objective(inputs, system) for system, _ in keys)
    marks = [
        Line2D([], [], marker="o", linestyle="", color=colours[name], label=name or _unnamed(keys)) for name in used
    ]
    for label, face in (("raw data", "white"), ("distilled data", INK)):
        if any(_distilled(inputs, system) == (face == INK) for system, _ in keys if system != EXTERNAL):
            marks.append(Line2D([], [], marker="o", linestyle="", color=INK, markerfacecolor=face, label=label))
    marks.append(Line2D([], [], color="#888888", linestyle=(0, (4, 3)), label="Pareto front"))
    return marks


def _unnamed(keys: list[Key]) -> str:
    """What systems without a known objective are called."""
    return "external teacher" if any(system == EXTERNAL for system, _ in keys) else "unknown objective"


def _labels(keys: list[Key]) -> list[str]:
    several = {system for system, _ in keys if sum(other == system for other, _ in keys) > 1}
    return [f"{system} · {search}" if system in several else system for system, search in keys]


def _distilled(inputs: Inputs, system: str) -> bool:
    """Whether a system was trained on text that a teacher generated, the EM loop's included; an external teacher is
    drawn like those."""
    return any(row["data"] not in ("raw", "references") for row in inputs.scores if row["system"] == system)


def latency_label(columns: Collection[TimeColumn]) -> str:
    """The label of an axis of latencies that are by these columns."""
    time = "processor time" if "processor_seconds" in columns else "latency"
    exception = f" (clock of {EXTERNAL})" if len(set(columns)) > 1 else ""
    return f"median {time}{exception} at batch size 1, text to text (ms, log scale)"


def margins(axes: Axes, points: list[tuple[float, float]]) -> None:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    reach = max(max(xs) / min(xs), 1.5) ** 0.14
    axes.set_xlim(min(xs) / reach, max(xs) * reach)
    rise = max(max(ys) - min(ys), 1.0)
    axes.set_ylim(min(ys) - 0.14 * rise, max(ys) + 0.14 * rise)


def _bar(sd: float) -> float | None:
    return sd if math.isfinite(sd) else None


def plain_style(axes: Axes) -> None:
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(labelsize=8, colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
