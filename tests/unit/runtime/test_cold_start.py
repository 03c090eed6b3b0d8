"""New processes: their first line, and the memory that they take."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from retort import config
from retort.errors import RetortError
from retort.export.exporting import export_system
from retort.runtime.cold_start import cold_start, main
from tests.unit.fakes_export import saved, text_vocabulary

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    directory = tmp_path_factory.mktemp("systems")
    saved(directory / "ctc", text_vocabulary(directory / "text"), config.Ctc(name="ctc"))
    export_system(directory / "ctc", directory / "bundle")
    return directory / "bundle"


@pytest.mark.slow
def test_a_process_is_timed_from_its_start_and_by_its_own_processor_time(bundle):
    measured = cold_start(bundle, ["", "abcd efgh"], runs=2, search={"kind": "ctc_collapse"})
    assert 0.05 < measured.cold_start_processor_seconds < 5
    assert measured.cold_start_processor_seconds < 1.5 * measured.cold_start_seconds
    # without torch, which alone takes more
    assert measured.peak_bytes is None or 20e6 < measured.peak_bytes < 200e6


def test_a_process_that_fails_says_why(bundle, tmp_path):
    with pytest.raises(RetortError, match=r"ended with status 1: .*not by beam[^\n]*\Z"):
        cold_start(bundle, ["abcd"], runs=1, search={"kind": "beam"})
    with pytest.raises(RetortError, match="there is no line with text"):
        cold_start(bundle, ["", "  "], runs=1)


def test_outputs_and_errors_are_of_any_script_whatever_the_locale(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("retort.runtime.cold_start.first_line", SimpleNamespace(__name__="answer"))
    figures = '{"processor_seconds": 0.1, "peak_bytes": null}'
    (tmp_path / "answer.py").write_text(f"print('語 Straße')\nprint('{figures}')\n")
    assert cold_start(tmp_path, ["abcd"], runs=1).cold_start_processor_seconds == 0.1
    (tmp_path / "answer.py").write_text("raise SystemExit('語 Straße')\n")
    with pytest.raises(RetortError, match="ended with status 1: 語 Straße"):
        cold_start(tmp_path, ["abcd"], runs=1)


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        (["--threads", "0"], b"abcd\n", "threads: 0 is below 1"),
        (["--threads", "-1"], b"abcd\n", "threads: -1 is below 1"),
        (["--threads", "1025"], b"abcd\n", "threads: 1025 is above 1024"),
        (["--runs", "-3"], b"abcd\n", "runs: -3 is below 1"),
        ([], b"abcd\n\xff\n", "standard input: line 2: byte 0 is not valid UTF-8"),
    ],
    ids=str,
)
def test_what_the_command_cannot_use_is_an_error(bundle, monkeypatch, capsys, options, text, message):
    monkeypatch.setattr(sys, "argv", ["cold_start", "--model", str(bundle), *options])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2 and message in capsys.readouterr().err


def test_a_closed_input_is_named(bundle, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cold_start", "--model", str(bundle)])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit):
        main()
    assert "standard input is closed" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_prints_the_figures_of_a_system(bundle, tmp_path):
    command = [sys.executable, "-m", "retort.runtime.cold_start", "--runs", "1", "--model"]
    done = subprocess.run(
        [*command, bundle], input="abcd efgh\n", capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    assert set(json.loads(done.stdout)) == {"cold_start_seconds", "cold_start_processor_seconds", "peak_bytes"}
    failed = subprocess.run([*command, tmp_path], input="abcd\n", capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert failed.returncode == 2 and "expected" in failed.stderr and "Traceback" not in failed.stderr
