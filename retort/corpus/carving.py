"""Valid and test sets out of a corpus that comes without a split, so that nothing in them is also in train.

Two pairs belong together when they share a side up to case, punctuation and width. Everything that belongs together,
directly or through others, is a component and goes to one split. Small components are assigned in the order of a hash
of their text, so the split depends on the text alone, not on the order of the lines or a random stream.

Memory is bounded by the number of pairs: 8 bytes of hash and 8 of component per side, and the text of those components
whose pairs have not all been read.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from retort.config import Carve
from retort.config.base import count_of
from retort.corpus.cleaning import text_hash
from retort.data.parquet import iterate_table, open_table
from retort.data.tables import CORPUS
from retort.errors import RetortError

SPLITS = ("train", "valid", "test")


def sharing_key(text: str) -> str:
    """The key that texts share which count as the same: NFKC, case folded, letters and digits, single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


def carve(path: Path, settings: Carve) -> np.ndarray:
    """Split of every row of the CORPUS table at ``path``: an index into ``SPLITS``, uint8.

    Whole components of at most ``largest_component`` pairs, ordered by the SHA-256 of their smallest line (target, tab,
    source), fill valid until it has ``valid_pairs`` or more, then test likewise; the rest is train. Raises RetortError
    if there are too few.
    """
    components = _components(path)
    sizes = np.bincount(components)
    splits = np.zeros(len(components), np.uint8)
    order = [
        component
        for _, component in sorted(_ordering_keys(path, components, sizes, largest=settings.largest_component))
    ]
    split_of = np.zeros(len(sizes), np.uint8)
    waiting = iter(order)
    valid_pairs, test_pairs = (count_of(share, len(splits)) for share in (settings.valid_pairs, settings.test_pairs))
    for split, wanted in ((1, valid_pairs), (2, test_pairs)):
        pairs = 0
        while pairs < wanted:
            component = next(waiting, None)
            if component is None:
                raise RetortError(
                    f"corpus.carve: {len(splits)} pairs are too few to carve {valid_pairs} and "
                    f"{test_pairs} pairs from components of at most {settings.largest_component}; "
                    f"{SPLITS[split]} has only {pairs}: ask for fewer pairs, or allow larger components"
                )
            split_of[component] = split
            pairs += int(sizes[component])
    return split_of[components]


def _components(path: Path) -> np.ndarray:
    """Number of the component of every row, int64."""
    rows = open_table(path, CORPUS).metadata.num_rows
    keys = np.zeros((2, rows), np.uint64)
    for row, pair in enumerate(_pairs(path)):
        for side in (0, 1):
            keys[side, row] = text_hash(sharing_key(pair[side]))
    # Nodes are the distinct keys, source keys before target keys; every row is an edge between two of them.
    sources, source_node = np.unique(keys[0], return_inverse=True)
    target_node = np.unique(keys[1], return_inverse=True)[1] + len(sources)
    parent = np.arange(len(sources) + (int(target_node.max()) + 1 - len(sources) if rows else 0)).tolist()

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in zip(source_node.tolist(), target_node.tolist(), strict=True):
        parent[root(a)] = root(b)
    roots = np.fromiter((root(node) for node in source_node.tolist()), np.int64, count=rows)
    return np.unique(roots, return_inverse=True)[1]


def _ordering_keys(path: Path, components: np.ndarray, sizes: np.ndarray, largest: int) -> Iterator[tuple[bytes, int]]:
    """SHA-256 of the smallest line of every component that is small enough, with its number."""
    smallest: dict[int, str] = {}
    missing = sizes.copy()
    for component, (source, target) in zip(components.tolist(), _pairs(path), strict=True):
        if sizes[component] > largest:
            continue
        line = f"{target}\t{source}"
        if component not in smallest or line < smallest[component]:
            smallest[component] = line
        missing[component] -= 1
        if not missing[component]:
            yield hashlib.sha256(smallest.pop(component).encode()).digest(), component


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    for part in iterate_table(path, CORPUS):
        pairs = zip(part.column("source").to_pylist(), part.column("target").to_pylist(), strict=True)
        # source-only text shares its source alone
        yield from ((source, target or source) for source, target in pairs)
