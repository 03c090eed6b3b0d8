"""Durations as text that a person reads at a glance."""

from __future__ import annotations

UNITS = {"h": 3600.0, "min": 60.0, "s": 1.0}
"""Seconds of each unit."""


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever a person would say."""
    unit = next(unit for unit, size in UNITS.items() if seconds >= 2 * size or unit == "s")
    return f"{max(seconds, 1) / UNITS[unit]:.0f} {unit}"
