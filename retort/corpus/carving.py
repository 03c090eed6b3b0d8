"""Valid and test sets out of a corpus that comes without a split, so that nothing in them is also in train.

Two pairs belong together when they share a side up to case, punctuation and width. Everything that belongs together,
directly or through others, is a component and goes to one split. Small components are assigned in the order of a hash
of their text, so the split depends on the text alone, not on the order of the lines or a random stream. A repeated
pair counts once and is in valid or test once. Pairs with an empty side stay in train, where cleaning drops them.

Memory is bounded by the number of pairs: some 80 bytes per pair, and the text of those small components whose pairs
have not all been read.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from retort.config import Carve
from retort.config.base import count_of
from retort.corpus.cleaning import first_of_each, judge_held_out, kept, text_hash
from retort.data.parquet import iterate_table, open_table
from retort.data.tables import CORPUS
from retort.errors import RetortError

SPLITS = ("train", "valid", "test")
REPEAT = len(SPLITS)
"""In the place of a split: the pair came before, and is in valid or test already."""

_SELECTORS = frozenset(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
"""Marks that say how a character is drawn, as after emoji."""


def sharing_key(text: str) -> str:
    """The key that texts share which count as the same: NFKC, case folded, letters with their marks (such as vowel
    signs) and digits, single spaces.

    Where there is neither, as in a text of emoji or signs, all that is visible.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if _is_of_word(c) else " " for c in folded).split()) or " ".join(folded.split())


def _is_of_word(c: str) -> bool:
    return c.isalnum() or (c > "~" and unicodedata.category(c) in ("Mn", "Mc") and c not in _SELECTORS)


def carve(path: Path, settings: Carve) -> np.ndarray:
    """Split of every row of the CORPUS table at ``path``: an index into ``SPLITS``, or ``REPEAT``, uint8.

    Whole components of at most ``largest_component`` pairs, ordered by the SHA-256 of their smallest line (target, tab,
    source), fill valid until it has ``valid_pairs`` or more, then test likewise; the rest is train. Only different
    pairs with both sides count. Raises RetortError if there are too few.
    """
    components = _components(path)
    whole = kept(judge_held_out(path))
    different = _different(path, whole)
    sizes = np.bincount(components[different], minlength=components.max(initial=-1) + 1)
    pairs_given = int(different.sum())
    wanted = [count_of(share, pairs_given) for share in (settings.valid_pairs, settings.test_pairs)]
    largest = settings.largest_component
    keys = _ordering_keys(path, components, different, sizes, largest=largest)
    split_of = _filled(sizes, keys, wanted, largest=largest)
    if split_of is None:
        keys = _ordering_keys(path, components, different, sizes, largest=pairs_given)
        raise RetortError(_shortage(sizes, keys, wanted, largest=largest))
    splits = split_of[components]
    splits[~whole] = 0
    splits[whole & ~different & (splits > 0)] = REPEAT
    return splits


def _filled(sizes: np.ndarray, keys: np.ndarray, wanted: Sequence[int], largest: int) -> np.ndarray | None:
    """Split of every component, uint8: valid and test have as many pairs as are ``wanted``, or more. None if components
    of at most ``largest`` pairs are too few, or leave nothing to train on."""
    small = np.flatnonzero((sizes > 0) & (sizes <= largest))
    waiting = small[np.argsort(keys[small], kind="stable")]
    ends = np.cumsum(sizes[waiting])
    split_of = np.zeros(len(sizes), np.uint8)
    first = pairs = 0
    for split, more in enumerate(wanted, start=1):
        last = int(np.searchsorted(ends, pairs + more))
        if last == len(ends):
            return None
        split_of[waiting[first : last + 1]] = split
        first, pairs = last + 1, int(ends[last])
    return split_of if pairs < sizes.sum() else None


def _shortage(sizes: np.ndarray, keys: np.ndarray, wanted: Sequence[int], largest: int) -> str:
    """Why components of at most ``largest`` pairs do not do, and which would. ``keys`` are those of all components."""
    pairs, asked = sizes.sum(), f"carve {wanted[0]} and {wanted[1]} pairs"
    if sum(wanted) >= pairs:
        return f"corpus.carve: {pairs} different pairs are too few to {asked}: ask for fewer pairs"
    larger = (int(size) for size in np.unique(sizes[sizes > largest]))
    enough = next((size for size in larger if _filled(sizes, keys, wanted, largest=size) is not None), None)
    return (
        f"corpus.carve: {sizes[sizes <= largest].sum()} of {pairs} different pairs are in components of at most "
        f"{largest}, which is not enough to {asked}: ask for fewer pairs"
        + (f", or set corpus.carve.largest_component to {enough}" if enough else "")
    )


def _different(path: Path, whole: np.ndarray) -> np.ndarray:
    """Which rows, of those that have both sides, no earlier row repeats, as booleans."""
    hashes = (text_hash(source, target) for source, target in _pairs(path))
    rows = np.flatnonzero(whole)
    different = np.zeros(len(whole), bool)
    different[rows] = first_of_each(np.fromiter(hashes, np.uint64, count=len(whole))[rows])
    return different


def _components(path: Path) -> np.ndarray:
    """Number of the component of every row, int64."""
    rows = open_table(path, CORPUS).metadata.num_rows
    keys = [np.zeros(rows, np.uint64) for _ in range(2)]
    for row, pair in enumerate(_pairs(path)):
        for side in (0, 1):
            keys[side][row] = sharing_hash(pair[side])
    return components_of(keys)


def sharing_hash(text: str) -> int:
    """64-bit hash of the key that texts share which count as the same."""
    return text_hash(sharing_key(text))


def components_of(keys: list[np.ndarray]) -> np.ndarray:
    """Number of the component of every pair, int64, by the ``sharing_hash`` of its source and of its target, uint64.

    Takes the two arrays out of the list, to free them in time.
    """
    # Nodes are the distinct keys, target keys before source keys; every row is an edge between two of them.
    nodes, edges = 0, []
    while keys:
        numbers = np.unique(keys.pop(), return_inverse=True)[1] + nodes
        edges.append(numbers)
        nodes = int(numbers.max(initial=nodes - 1)) + 1
    graph = coo_array((np.ones(len(edges[0]), bool), tuple(edges)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1][edges[0]].astype(np.int64)


def _ordering_keys(
    path: Path, components: np.ndarray, different: np.ndarray, sizes: np.ndarray, largest: int
) -> np.ndarray:
    """The first 8 bytes, as a number, of the SHA-256 of the smallest line of every component that is small enough.

    They order as the whole hashes do, but for one chance in two million that two of 4 million are equal.
    """
    keys = np.zeros(len(sizes), np.uint64)
    smallest: dict[int, str] = {}
    missing = sizes.copy()
    for component, counts, (source, target) in zip(components.data, different.data, _pairs(path), strict=True):
        if not counts or sizes[component] > largest:
            continue
        line = f"{target}\t{source}"
        if component not in smallest or line < smallest[component]:
            smallest[component] = line
        missing[component] -= 1
        if not missing[component]:
            digest = hashlib.sha256(smallest.pop(component).encode()).digest()
            keys[component] = int.from_bytes(digest[:8], "big")
    return keys


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    for part in iterate_table(path, CORPUS):
        pairs = zip(part.column("source").to_pylist(), part.column("target").to_pylist(), strict=True)
        # source-only text shares its source alone, and a row without a source its target
        yield from ((source or target, target or source) for source, target in pairs)
