"""Precisions of exported weights."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["float32", "int8"]
"""int8: symmetric, one scale per row of a weight; products of activations that are quantised as they come."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
