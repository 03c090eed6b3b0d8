"""States of finished work go when its output is recorded, and not before."""

from __future__ import annotations

from pathlib import Path

from retort.data.files import mark_finished
from retort.workflow.states import forget_recorded


def test_only_the_states_of_recorded_outputs_are_removed(tmp_path: Path) -> None:
    for key, output in {"one": "results/a/model.safetensors", "other": "results/b/model.safetensors"}.items():
        (tmp_path / "train_system" / key).mkdir(parents=True)
        mark_finished(tmp_path / "train_system" / key, output)
    (tmp_path / "train_system/unfinished").mkdir()
    forget_recorded(tmp_path, lambda output: output == "results/a/model.safetensors")
    assert sorted(path.name for path in (tmp_path / "train_system").iterdir()) == ["other", "unfinished"]


def test_a_run_without_states_is_no_error(tmp_path: Path) -> None:
    forget_recorded(tmp_path / "absent", lambda output: True)
