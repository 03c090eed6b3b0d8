"""The rule graph as a small layered SVG, without Graphviz.

Layers are longest paths from the rules without needs; edges that span several layers pass through bends; the order
within a layer follows the neighbours' mean place (the barycentre heuristic of Sugiyama, Tagawa and Toda 1981).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from statistics import fmean

from retort.errors import RetortError
from retort.report.spacing import spaced

NODE_HEIGHT, LAYER_GAP, NODE_GAP, MARGIN = 30, 34, 18, 6
CHARACTER_WIDTH, PADDING, BEND_WIDTH, SWEEPS = 7.2, 24, 8, 12

_NODE = re.compile(r'^\s*"?(\w+)"?\s*\[.*?label\s*=\s*"((?:[^"\\]|\\.)*)"')
_EDGE = re.compile(r'^\s*"?(\w+)"?\s*->\s*"?(\w+)"?')

Graph = dict[str, list[str]]
"""What each rule needs."""
Node = str | tuple[str, str, int]
"""A rule, or the bend of an edge (from, to) in a layer."""


def parse(text: str) -> Graph:
    """Read a rule graph as ``snakemake --rulegraph`` prints it.

    That jobs of a rule need others of the same rule, as trainings that start from another one do, is left out. Raises
    RetortError when it holds no rule.
    """
    names: dict[str, str] = {}
    edges: list[tuple[str, str]] = []
    for line in text.splitlines():
        if edge := _EDGE.match(line):
            edges.append((edge[1], edge[2]))
        elif (node := _NODE.match(line)) and node[1] not in ("node", "edge", "graph"):
            names[node[1]] = node[2].split("\\n")[0]
    if not names:
        raise RetortError("the rule graph holds no rule; expected the output of snakemake --rulegraph")
    graph: Graph = {name: [] for name in names.values()}
    for upper, lower in edges:
        needs, need = graph.setdefault(names.get(lower, lower), []), names.get(upper, upper)
        if need not in (*needs, names.get(lower, lower)):
            needs.append(need)
    for needs in list(graph.values()):
        for rule in needs:
            graph.setdefault(rule, [])
    return graph


def svg(graph: Graph) -> str:
    """Draw the graph, needs above what needs them; colours are the page's own (currentColor).

    A need that follows from other needs is not drawn.
    """
    layers = _layers(graph)
    rows, edges = _with_bends(reduced(graph), layers)
    _reduce_crossings(rows, edges)
    places, width = _places(rows, edges)
    height = len(rows) * NODE_HEIGHT + (len(rows) - 1) * LAYER_GAP + 2 * MARGIN
    parts = [
        f'<svg class="dag" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'width="{width:.0f}" height="{height}" role="img" aria-label="Rule graph" font-size="12.5">'
    ]
    parts += [_edge(places, upper, lower) for upper, lower in edges]
    for row in rows:
        parts += [_box(node, *places[node]) for node in row if isinstance(node, str)]
    return "\n".join([*parts, "</svg>"])


def reduced(graph: Graph) -> Graph:
    """The graph without the needs that follow from others (its transitive reduction)."""
    all_needs: dict[str, set[str]] = {}
    for rule in _layers(graph):
        all_needs[rule] = set(graph[rule]).union(*(all_needs[need] for need in graph[rule]))
    return {
        rule: [need for need in needs if not any(need in all_needs[other] for other in needs)]
        for rule, needs in graph.items()
    }


def _layers(graph: Graph) -> dict[str, int]:
    layers: dict[str, int] = {}
    waiting = dict(graph)
    while waiting:
        ready = [rule for rule, needs in waiting.items() if all(need in layers for need in needs)]
        if not ready:
            raise RetortError(f"the rule graph has a circle among {', '.join(sorted(waiting))}")
        for rule in ready:
            layers[rule] = 1 + max((layers[need] for need in waiting.pop(rule)), default=-1)
    return layers


def _with_bends(graph: Graph, layers: dict[str, int]) -> tuple[list[list[Node]], list[tuple[Node, Node]]]:
    rows: list[list[Node]] = [[] for _ in range(1 + max(layers.values()))]
    for rule, layer in layers.items():
        rows[layer].append(rule)
    edges: list[tuple[Node, Node]] = []
    for rule, needs in graph.items():
        for need in needs:
            last: Node = need
            for layer in range(layers[need] + 1, layers[rule]):
                bend: Node = (need, rule, layer)
                rows[layer].append(bend)
                edges.append((last, bend))
                last = bend
            edges.append((last, rule))
    return rows, edges


def _reduce_crossings(rows: list[list[Node]], edges: Sequence[tuple[Node, Node]]) -> None:
    above: dict[Node, list[Node]] = {}
    below: dict[Node, list[Node]] = {}
    for upper, lower in edges:
        below.setdefault(upper, []).append(lower)
        above.setdefault(lower, []).append(upper)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        order = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for layer in order:
            neighbours = above if down else below
            place = {node: index for index, node in enumerate(rows[layer - 1 if down else layer + 1])}
            current = {node: index for index, node in enumerate(rows[layer])}
            wished = {node: [place[n] for n in neighbours.get(node, []) if n in place] for node in rows[layer]}
            centres = {node: fmean(near) if near else current[node] for node, near in wished.items()}
            rows[layer].sort(key=centres.__getitem__)


def _places(
    rows: list[list[Node]], edges: Sequence[tuple[Node, Node]]
) -> tuple[dict[Node, tuple[float, float, float]], float]:
    """Centre x, top y and width of every node, and the drawing's width."""
    widths = {node: _width(node) for row in rows for node in row}
    centres: dict[Node, float] = {}
    for row in rows:
        x = 0.0
        for node in row:
            centres[node] = x + widths[node] / 2
            x += widths[node] + NODE_GAP
    near: dict[Node, list[Node]] = {}
    for upper, lower in edges:
        near.setdefault(upper, []).append(lower)
        near.setdefault(lower, []).append(upper)
    for _ in range(SWEEPS):
        for row in rows:
            wished = [
                fmean(centres[other] for other in near[node]) if near.get(node) else centres[node] for node in row
            ]
            gaps = [(widths[left] + widths[right]) / 2 + NODE_GAP for left, right in pairwise(row)]
            centres.update(zip(row, spaced(wished, gaps), strict=True))
    left = min(centres[node] - widths[node] / 2 for node in widths) - MARGIN
    right = max(centres[node] + widths[node] / 2 for node in widths) + MARGIN
    places: dict[Node, tuple[float, float, float]] = {
        node: (centres[node] - left, float(MARGIN + layer * (NODE_HEIGHT + LAYER_GAP)), widths[node])
        for layer, row in enumerate(rows)
        for node in row
    }
    return places, right - left


def _width(node: Node) -> float:
    return len(node) * CHARACTER_WIDTH + PADDING if isinstance(node, str) else BEND_WIDTH


def _box(rule: str, x: float, y: float, width: float) -> str:
    return (
        f'<g><rect x="{x - width / 2:.1f}" y="{y}" width="{width:.1f}" height="{NODE_HEIGHT}" rx="6" '
        f'fill="currentColor" fill-opacity="0.06" stroke="currentColor" stroke-opacity="0.45"/>'
        f'<text x="{x:.1f}" y="{y + NODE_HEIGHT / 2 + 4.5:.1f}" text-anchor="middle" fill="currentColor">'
        f"{escape(rule)}</text></g>"
    )


def _edge(places: dict[Node, tuple[float, float, float]], upper: Node, lower: Node) -> str:
    (x1, y1, _), (x2, y2, _) = places[upper], places[lower]
    y1 += NODE_HEIGHT
    middle = (y1 + y2) / 2
    path = f"M{x1:.1f} {y1}C{x1:.1f} {middle} {x2:.1f} {middle} {x2:.1f} {y2}"
    if not isinstance(lower, str):
        path += f"V{y2 + NODE_HEIGHT}"
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity="0.35" stroke-width="1.3"/>'
