import json
import os

import pytest

from retort.files import write_bytes, write_json


def test_write_json_creates_folders_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"z": "ü", "a": 1})
    assert json.loads(path.read_text()) == {"z": "ü", "a": 1}
    assert path.read_text().endswith("}\n")
    assert os.listdir(path.parent) == ["b.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "b"
    write_bytes(path, b"old")

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["b"]
