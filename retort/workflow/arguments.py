"""Numbers on command lines, within what a machine can serve."""

from __future__ import annotations

import argparse
import math
import os

from retort.data.limits import MOST_THREADS

MOST = 10**9


def count(text: str) -> int:
    """An argparse ``type``: a whole number from 1 to a thousand million."""
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    if value > MOST:
        raise argparse.ArgumentTypeError(f"a number of {len(text)} digits is above {MOST:,}")
    return value


def seed(text: str) -> int:
    """An argparse ``type``: a seed of random numbers, from 0 to 2^63 - 1."""
    value = _whole(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not between 0 and 2^63 - 1")
    return value


def minutes(text: str) -> float:
    """An argparse ``type``: a number of minutes above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]} is no number above 0")
    return value


def points(text: str) -> float:
    """An argparse ``type``: points of BLEU, from 0 to 100."""
    return _from_zero(text, 100)


def share(text: str) -> float:
    """An argparse ``type``: a number from 0 to 1."""
    return _from_zero(text, 1)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number") from None


def _from_zero(text: str, highest: float) -> float:
    value = _number(text)
    if not 0 <= value <= highest:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not between 0 and {highest}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number") from None


def available_cores() -> int:
    """Those that this process may use: a container or SLURM may have given it some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(text: str) -> int:
    """An argparse ``type``: a number of threads."""
    value = count(text)
    if value > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{value} is above {MOST_THREADS}; use as many as there are processors")
    return value
