"""States of finished work go when its output is recorded, and not before."""

from __future__ import annotations

from pathlib import Path

from retort.data.files import mark_finished, write_bytes
from retort.workflow.states import abandoned, forget_recorded


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


def test_states_of_interrupted_work_are_named_with_their_sizes_and_kept(tmp_path: Path) -> None:
    states = tmp_path / "a run" / "state"
    assert abandoned(states) is None
    write_bytes(states / "train_system/old/weights", b"w" * 2_000_000)
    write_bytes(states / "train_system/old/0/facts", b"f" * 500_000)
    write_bytes(states / "decode_shard/older/rows", b"r" * 100_000)
    text = abandoned(states)
    assert text and text.startswith(f"{states}: 2.6 MB of states") and f"rm -r '{states}'" in text
    assert f"\n  {states}/train_system/old (2.5 MB)" in text and f"\n  {states}/decode_shard/older (0.1 MB)" in text
    assert (states / "train_system/old/weights").exists()
