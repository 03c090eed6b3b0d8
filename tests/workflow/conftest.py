"""A checkout where nothing has run, and one with a finished tiny run, which tests share."""

from __future__ import annotations

import pytest

from tests.workflow.checkouts import TINY, Checkout, copy_checkout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout where nothing has run."""
    return copy_checkout(tmp_path_factory.mktemp("workflow") / "checkout")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout where the tiny configuration has run to its end, at a path that needs quoting."""
    result = copy_checkout(tmp_path_factory.mktemp("workflow") / "it's a $(run)")
    result.snakemake("--configfile", result.configure(TINY, "tiny.yaml"))
    return result
