"""What holds for every kind of external teacher that a configuration can name."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from retort.config.external import ExternalSection, ExternalTeacher

ROOT = Path(__file__).resolve().parents[3]
EVERY_KIND = get_args(get_args(ExternalTeacher)[0])


@pytest.mark.parametrize("section", EVERY_KIND, ids=lambda s: s.__name__)
def test_every_kind_has_a_module_an_environment_a_test_and_a_row(section: type[ExternalSection]) -> None:
    (kind,) = get_args(section.model_fields["kind"].annotation)
    opening = import_module(f"retort.teachers.{kind}").open_teacher
    assert list(inspect.signature(opening).parameters) == ["section", "split", "threads", "spent"]
    assert section.local_keys <= section.model_fields.keys()
    assert (ROOT / f"envs/{section.environment}.yaml").exists()
    assert (Path(__file__).parent / f"test_{kind}.py").exists()
    assert f"| `{kind}` |" in (ROOT / "docs/teachers.md").read_text()
