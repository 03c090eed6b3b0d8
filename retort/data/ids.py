"""Ids that tables must agree on. Errors say how many differ, and name the first ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retort.errors import RetortError

SHOWN = 5
"""Ids that an error names."""


def check_unique(ids: np.ndarray, where: Path | str, advice: str) -> None:
    """Raises RetortError if an id is repeated. ``where``: the file that has them; ``advice``: what to do."""
    ordered = np.sort(ids)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(repeated):
        raise RetortError(f"{where}: ids occur more than once: {_first(repeated)}; {advice}")


def check_ids(ids: np.ndarray, expected: np.ndarray, where: Path | str, of: Path | str, advice: str) -> None:
    """Raises RetortError unless ``ids``, which are in ``where``, are the ``expected`` ones of ``of``, each once."""
    check_unique(ids, where, advice)
    if not np.array_equal(np.sort(ids), np.sort(expected)):
        differences = (("missing", np.setdiff1d(expected, ids)), ("unknown", np.setdiff1d(ids, expected)))
        found = ", ".join(f"{len(those)} {what} {_first(those)}" for what, those in differences if len(those))
        raise RetortError(f"{where}: its ids are not the {len(expected)} of {of}: {found}; {advice}")


def check_known(ids: np.ndarray, known: np.ndarray, where: Path | str, of: Path | str, advice: str) -> None:
    """Raises RetortError unless all ``ids``, of the text or file ``of``, are among the ``known`` ones of ``where``."""
    missing = np.setdiff1d(ids, known)
    if len(missing):
        raise RetortError(f"{where}: lacks {len(missing)} ids of {of}, {_first(missing)}; {advice}")


def _first(ids: np.ndarray) -> str:
    return f"[{', '.join([*map(str, ids[:SHOWN]), *(['...'] if len(ids) > SHOWN else [])])}]"
