"""A checkout where nothing has run, and one with a finished tiny run, which tests share."""

from __future__ import annotations

import pytest

from tests.workflow.checkouts import TERMINAL, TINY, Checkout, copy_checkout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout where nothing has run."""
    return copy_checkout(tmp_path_factory.mktemp("workflow") / "checkout")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout where ``retort run`` has run the tiny configuration to its end, at a path that needs quoting."""
    result = copy_checkout(tmp_path_factory.mktemp("workflow") / "it's a $(run)")
    flags = ("--cores", "2", "--set-scatter", "distill=2")
    status, written = result.terminal("run", result.configure(TINY, "tiny.yaml"), *flags)
    assert status == 0, written
    (result.path / TERMINAL).write_text(written)
    return result
