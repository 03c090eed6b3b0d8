"""Rows of similar lengths, which are decoded together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def similar_rows(lengths: Sequence[int], tokens: int, shortest: float = 0.0) -> Iterator[list[int]]:
    """Each row once, the longest first, in groups of at most ``tokens`` with their padding, or of one row.

    ``shortest``: length of the shortest row of a group at least, as a share of the longest.
    """
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        longest = lengths[group[0] if group else row]
        if group and ((len(group) + 1) * longest > tokens or lengths[row] < shortest * longest):
            yield group
            group = []
        group.append(row)
    if group:
        yield group
