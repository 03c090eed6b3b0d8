"""Precisions of exported weights."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "int8"]
"""int8: symmetric, one scale per row of a weight; products of activations that are quantised as they come."""
