"""Both ways of the searches with n-grams."""

from __future__ import annotations

import pytest

from retort.search import native


@pytest.fixture
def compiled() -> None:
    """Skips the test where there was no C compiler."""
    if native.library() is None:
        pytest.skip("no C compiler")


@pytest.fixture(params=["compiled", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the test compiled and in Python."""
    if request.param == "plain":
        monkeypatch.setattr(native, "library", lambda: None)
    else:
        request.getfixturevalue("compiled")
