"""States of finished work go when its output is recorded, and not before."""

from __future__ import annotations

from pathlib import Path

from retort.data.files import mark_finished, write_bytes
from retort.workflow.states import forget_recorded


def test_only_the_states_of_recorded_outputs_that_are_there_are_removed(tmp_path: Path) -> None:
    outputs = {key: tmp_path / "systems" / key for key in ("recorded", "unrecorded", "removed")}
    for key, output in outputs.items():
        (tmp_path / "train_system" / key).mkdir(parents=True)
        mark_finished(tmp_path / "train_system" / key, output)
        write_bytes(output, b"weights")
    outputs["removed"].unlink()
    (tmp_path / "train_system/unfinished").mkdir()
    forget_recorded(tmp_path, lambda output: output != str(outputs["unrecorded"]))
    left = sorted(path.name for path in (tmp_path / "train_system").iterdir())
    assert left == ["removed", "unfinished", "unrecorded"]


def test_a_run_without_states_is_no_error(tmp_path: Path) -> None:
    forget_recorded(tmp_path / "absent", lambda output: True)
