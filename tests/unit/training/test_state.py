import errno
import os
import shutil

import pytest
import torch

from retort.errors import RetortError
from retort.training.state import COUNTERS, DIGESTS, TENSORS, TrainingState

COUNTS = {"update": 7, "best": [[1.5, 7]], "rows": [[7, "valid", "BLEU", 12.5, 0.25]], "sums": {"loss": 1.0}}


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"master": torch.full((3,), value), "0.step": torch.tensor(value), "kept.7": torch.arange(4.0)[::2]}


def test_round_trip(tmp_path):
    TrainingState(tmp_path, "key").save(7, tensors(0.1), COUNTS)
    found, counters = TrainingState(tmp_path, "key").load()
    assert counters == COUNTS
    assert set(found) == set(tensors(0.1))
    assert all(torch.equal(found[name], value) for name, value in tensors(0.1).items())


def test_nothing_saved_is_none(tmp_path):
    assert TrainingState(tmp_path / "absent", "key").load() is None


def test_only_the_newest_is_kept(tmp_path):
    state = TrainingState(tmp_path, "key")
    for update in (5, 40, 300):
        state.save(update, tensors(update), {"update": update})
    assert [path.name for path in state.directory.iterdir()] == ["update000000300"]
    assert state.load()[1] == {"update": 300}


def test_saving_an_update_again_replaces_it(tmp_path):
    state = TrainingState(tmp_path, "key")
    for value in (1.0, 2.0):
        state.save(5, tensors(value), {"value": value})
    assert state.load()[1] == {"value": 2.0}
    assert len(list(state.directory.iterdir())) == 1


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def piped(path):
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "cut": truncate,
    "gone": lambda path: path.unlink(),
    "other bytes": lambda path: path.write_bytes(b"\xff\0"),
    "one bit": flip,
    "a pipe": lambda path: piped(path),
    "deep": lambda path: path.write_bytes(b"[" * 99_999),
    "an empty object": lambda path: path.write_bytes(b"{}"),
}


@pytest.mark.parametrize("name", [TENSORS, COUNTERS, DIGESTS])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_corrupted_state_is_passed_over_for_an_older_one(tmp_path, name, damage):
    state = TrainingState(tmp_path, "key")
    state.save(90, tensors(90), {"update": 90})
    shutil.copytree(state.directory / "update000000090", tmp_path / "older")
    state.save(1000, tensors(1000), {"update": 1000})
    shutil.copytree(tmp_path / "older", state.directory / "update000000090")
    assert state.load()[1] == {"update": 1000}
    damage(state.directory / "update000001000" / name)
    found, counters = state.load()
    assert counters == {"update": 90} and torch.equal(found["master"], torch.full((3,), 90.0))
    damage(state.directory / "update000000090" / name)
    assert state.load() is None


def test_a_half_written_state_is_not_seen_and_goes_with_the_next_save(tmp_path):
    state = TrainingState(tmp_path, "key")
    state.save(5, tensors(5), {"update": 5})
    half = state.directory / ".update000000009.12345"
    shutil.copytree(state.directory / "update000000005", half)
    assert state.load()[1] == {"update": 5}
    state.save(10, tensors(10), {"update": 10})
    assert [path.name for path in state.directory.iterdir()] == ["update000000010"]


def test_keys_are_separate(tmp_path):
    one, other = TrainingState(tmp_path, "one"), TrainingState(tmp_path, "other")
    one.save(5, tensors(5), {"update": 5})
    assert other.load() is None
    other.save(6, tensors(6), {"update": 6})
    assert other.load()[1] == {"update": 6} and one.load()[1] == {"update": 5}


def test_a_damaged_state_is_named(tmp_path, caplog):
    state = TrainingState(tmp_path, "key")
    state.save(5, tensors(5), {"update": 5})
    flip(state.directory / "update000000005" / TENSORS)
    assert state.load() is None
    assert "update000000005 is damaged (tensors.safetensors: not what was saved)" in caplog.text


def test_a_finished_training_names_its_output(tmp_path):
    state = TrainingState(tmp_path, "key")
    state.save(5, tensors(5), {"update": 5})
    state.finish("results/x/model.safetensors")
    assert (state.directory / "finished").read_text() == "results/x/model.safetensors"
    assert state.load()[1] == {"update": 5}


def test_a_save_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    state = TrainingState(tmp_path, "key")
    state.save(5, tensors(5), {"update": 5})
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RetortError, match=r"tensors.safetensors: cannot be written \(No space left on device\)"):
        state.save(6, tensors(6), {"update": 6})
    assert [path.name for path in state.directory.iterdir()] == ["update000000005"]


def refuse(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
