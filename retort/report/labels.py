"""Labels beside the points of a scatter plot, moved until they neither overlap each other nor a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

DISTANCES = (7, 13, 20, 29, 40, 54, 70)
ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 20, 340, 160, 200)
MARKER = 7.0
LEADER_FROM = 18
"""Distance in points from which a thin line leads from the label to its point."""


def place_labels(
    canvas: FigureCanvasAgg,
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    colours: Sequence[Any],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> None:
    """Write ``texts`` beside ``points`` (data coordinates), each at the nearest free place inside the axes.

    ``canvas`` is that of the axes' figure. ``lines`` are horizontal or vertical strokes (data coordinates of their
    ends) that labels should keep off.

    Call it last: limits, scales and the figure's size must be final. Crowded points get a leader line; when no place is
    free, the one with the least overlap is taken.
    """
    canvas.draw()
    renderer = canvas.get_renderer()
    scale = canvas.figure.dpi / 72
    frame = axes.get_window_extent(renderer)
    pixels = [tuple(axes.transData.transform(point)) for point in points]
    taken = [_around(x, y, width=MARKER * scale, height=MARKER * scale) for x, y in pixels]
    strokes = [_stroke(axes.transData.transform(line), scale) for line in lines]
    crowded = [sum(math.dist(point, other) < 60 * scale for other in pixels) for point in pixels]
    for index in sorted(range(len(points)), key=lambda i: (-crowded[i], pixels[i])):
        label = axes.annotate(
            texts[index],
            points[index],
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8,
            color=colours[index],
            va="center",
            ha="center",
            annotation_clip=False,
            zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
        box = label.get_window_extent(renderer)
        width, height = box.width + 2 * scale, box.height + scale
        x, y = pixels[index]
        others = taken[:index] + taken[index + 1 :]
        _, dx, dy = min(
            (
                _cost(_around(x + dx, y + dy, width=width, height=height), others, strokes=strokes, frame=frame) + step,
                dx,
                dy,
            )
            for step, dx, dy in _places(width, height, scale)
        )
        label.set_position((dx / scale, dy / scale))
        taken.append(_around(x + dx, y + dy, width=width, height=height))
        if math.hypot(max(abs(dx) - width / 2, 0), max(abs(dy) - height / 2, 0)) > LEADER_FROM * scale:
            _lead(axes, points[index], offset=(dx, dy), height=height, scale=scale, colour=colours[index])


def _places(width: float, height: float, scale: float) -> list[tuple[float, float, float]]:
    """Offsets of the label's centre in pixels, each with the small cost of its distance and direction."""
    places = []
    for far, distance in enumerate(DISTANCES):
        for turn, angle in enumerate(ANGLES):
            cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            dx = cosine * distance * scale + math.copysign(width / 2, cosine) * (abs(cosine) > 0.3)
            dy = sine * distance * scale + math.copysign(height / 2, sine) * (abs(sine) > 0.3)
            places.append((far * 4 + turn * 0.1, dx, dy))
    return places


def _cost(box: Bbox, others: list[Bbox], strokes: list[Bbox], frame: Bbox) -> float:
    outside = box.width * box.height - _overlap(box, frame)
    overlaps = 5 * sum(_overlap(box, other) for other in others)
    return 10 * outside + overlaps + 9 * sum(_overlap(box, stroke) > 0 for stroke in strokes)


def _stroke(ends: Any, scale: float) -> Bbox:
    (x0, y0), (x1, y1) = ends
    return Bbox.from_extents(min(x0, x1) - scale, min(y0, y1) - scale, max(x0, x1) + scale, max(y0, y1) + scale)


def _overlap(one: Bbox, two: Bbox) -> float:
    width = min(one.x1, two.x1) - max(one.x0, two.x0)
    height = min(one.y1, two.y1) - max(one.y0, two.y0)
    return max(width, 0.0) * max(height, 0.0)


def _around(x: float, y: float, width: float, height: float) -> Bbox:
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def _lead(
    axes: Axes, point: tuple[float, float], offset: tuple[float, float], height: float, scale: float, colour: Any
) -> None:
    dx, dy = offset
    end = (dx / scale, (dy - math.copysign(height / 2, dy) * (abs(dy) > height)) / scale)
    axes.annotate(
        "",
        point,
        xytext=end,
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 0, "shrinkB": 4},
        zorder=2,
    )
