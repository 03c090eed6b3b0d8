"""Digests of given files follow their content, whatever their dates, and are not computed twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retort.workflow.contents import Contents


def test_a_file_that_is_replaced_by_an_older_one_of_its_size_has_another_digest(tmp_path: Path) -> None:
    text, other = tmp_path / "text", tmp_path / "other"
    text.write_text("one\n")
    other.write_text("two\n")
    kept = tmp_path / "kept/contents.json"
    before = Contents(kept).digests([str(text)])
    for path in (text, other):
        os.utime(path, ns=(10**18, 10**18))
    assert Contents(kept).digests([str(text)]) == before
    other.replace(text)
    assert list(before) == [str(text)] and Contents(kept).digests([str(text)]) != before


def test_a_file_is_read_once_and_what_is_no_file_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text"
    text.write_text("one\n")
    asked = [str(text), str(tmp_path), str(tmp_path / "absent")]
    before = Contents(tmp_path / "kept.json").digests(asked)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert Contents(tmp_path / "kept.json").digests(asked) == before and list(before) == [str(text)]


@pytest.mark.parametrize("kept", ["", "[]", "3", '{"text": 3}', '{"text": []}'])
def test_a_broken_file_of_digests_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("one\n")
    Path("kept.json").write_text(kept.replace("text", str(tmp_path / "text")))
    assert Contents(Path("kept.json")).digests(["text"]) == Contents(Path("absent.json")).digests(["text"])
