import json
import os
import subprocess
from pathlib import Path

import pytest

from retort.data.files import descriptor_of, is_special, temporary_path, write_bytes, write_json
from retort.errors import RetortError


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
    with pytest.raises(RetortError, match="no space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["b"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left, other = tmp_path / f".b.{dead.pid}.tmp", tmp_path / f".b.c.{dead.pid}.tmp"
    running = tmp_path / f".b.{os.getppid()}.tmp"
    for path in (left, other, running):
        path.write_bytes(b"half")
    write_bytes(tmp_path / "b", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"b", other.name, running.name}
    # what becomes a directory is one before; in a container both processes may have the same number
    left, running, own = (tmp_path / f".d.{pid}.tmp" for pid in (dead.pid, os.getppid(), os.getpid()))
    for path in (left, running, own):
        path.mkdir()
        (path / "half").write_bytes(b"")
    assert temporary_path(tmp_path / "d") == own
    assert (left.exists(), running.exists(), own.exists()) == (False, True, False)


def test_nothing_takes_the_place_of_a_pipe_or_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert is_special(Path("/dev/null")) and is_special(tmp_path / "pipe")
    assert not any(map(is_special, (tmp_path, tmp_path / "absent", Path(__file__))))
    with pytest.raises(RetortError, match="pipe: a pipe or a device, which a file must not replace; name a file"):
        write_bytes(tmp_path / "pipe", b"x")
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(RetortError, match="names a directory, not a file"):
        write_bytes(Path(), b"x")


def test_an_open_file_is_not_replaced(tmp_path: Path) -> None:
    link, other = tmp_path / "link", tmp_path / "other"
    link.symlink_to("other")
    with open(other, "w") as file:
        names = [Path(f"{place}/{file.fileno()}") for place in ("/dev/fd", "/proc/self/fd", f"/proc/{os.getpid()}/fd")]
        assert [descriptor_of(name) for name in names] == [file.fileno()] * 3
        assert descriptor_of(Path("/dev/stdout")) == 1
        assert not any(map(descriptor_of, (link, other, tmp_path, tmp_path / "absent/x", Path("x" * 5000))))
        with pytest.raises(RetortError, match="which a file must not replace"):
            write_bytes(names[0], b"x")
    link.unlink()
    link.symlink_to("/dev/stderr")
    assert descriptor_of(link) == 2
