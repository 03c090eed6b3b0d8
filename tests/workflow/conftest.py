"""A checkout where nothing has run, which tests share."""

from __future__ import annotations

import pytest

from tests.workflow.checkouts import Checkout, copy_checkout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout where nothing has run."""
    return copy_checkout(tmp_path_factory.mktemp("workflow") / "checkout")
