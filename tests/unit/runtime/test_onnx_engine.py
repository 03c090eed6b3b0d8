"""Graphs that fail."""

import sys

import numpy as np
import pytest

from retort import cli, config
from retort.export.exporting import export_system
from retort.runtime import open_system
from retort.runtime.names import LENGTHS, SOURCE
from retort.runtime.onnx_engine import Graphs
from tests.unit.fakes_export import saved, text_vocabulary


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    directory = tmp_path_factory.mktemp("systems")
    saved(directory / "ctc", text_vocabulary(directory), config.Ctc(name="ctc"))
    export_system(directory / "ctc", directory / "bundle")
    return directory / "bundle"


def test_sources_of_other_lengths_are_decoded_apart(bundle, monkeypatch):
    read, encoded = [], Graphs.encoded

    def recorded(self, name, sources):
        read.append([len(tokens) for tokens in sources])
        return encoded(self, name, sources)

    monkeypatch.setattr(Graphs, "encoded", recorded)
    system = open_system(bundle)
    given = [[7] * 3, [8] * 12, [9] * 3, [7] * 11]
    outputs = system.decode(given)
    assert read == [[12, 11], [3, 3]]
    assert outputs == [system.decode([tokens])[0] for tokens in given]


class TooLarge:
    """A session that gets no memory."""

    def run(self, names, inputs):
        raise Exception("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 99")


def test_a_failure_of_a_graph_is_a_runtime_error(bundle):
    graphs = open_system(bundle)._graphs
    wrong = {SOURCE: np.zeros((1, 3), np.float32), LENGTHS: np.array([3], np.int32)}
    with pytest.raises(RuntimeError, match=r"model\.onnx: ONNX Runtime: .*data type"):
        graphs.run("model.onnx", wrong)


def test_too_little_memory_is_one_clear_error(bundle, tmp_path, monkeypatch, capsys):
    (tmp_path / "in.txt").write_text("abcd\n")
    of_class = Graphs.__init__

    def without_memory(self, *arguments):
        of_class(self, *arguments)
        self._sessions = {name: TooLarge() for name in self._sessions}

    monkeypatch.setattr(Graphs, "__init__", without_memory)
    with pytest.raises(MemoryError):
        open_system(bundle).translate(["abcd"])
    monkeypatch.setattr(
        sys, "argv", ["retort", "translate", "--model", str(bundle), "--input", str(tmp_path / "in.txt")]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    errors = capsys.readouterr().err
    assert end.value.code == 2 and errors.startswith("error: retort: not enough memory (model.onnx: ONNX Runtime: ")
    assert errors.count("\n") == 1
