"""Which GPUs a workflow may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from retort.workflow.devices import local_devices


@pytest.mark.parametrize(
    ("visible", "names"),
    [("0,1", ["0", "1"]), (" 2 , GPU-abc", ["2", "GPU-abc"]), ("", []), ("-1", []), ("NoDevFiles,", ["NoDevFiles"])],
)
def test_the_variable_names_them(visible: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    assert local_devices({"CUDA_VISIBLE_DEVICES": visible}, tmp_path) == names


def test_without_it_all_of_the_machine_are_used(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert local_devices({}, tmp_path) == ["0", "1"]
    assert local_devices({}, tmp_path / "none") == []
