"""Texts, tables and configurations as hypothesis draws them; few examples, and the same ones in every run."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

few = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""Settings of every property: fast, and without state between runs."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
"""Any text without halves of surrogate pairs, which UTF-8 cannot hold."""
lines = texts.map(lambda text: text.replace("\n", " "))
"""Any text that is one line of a file."""
words = st.text("ab é猫", min_size=0, max_size=12)
"""Short texts that often are equal, empty or of odd lengths."""
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""What a YAML or JSON file can hold."""
