"""``retort run``: what it starts, and what it refuses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from retort.cli import main


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Arguments behind ``--snakefile`` and its value, of the call that ``retort run`` becomes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").touch()

    def start(*arguments: str) -> list[str]:
        calls: list[list[str]] = []
        monkeypatch.setattr(sys, "argv", ["retort", "run", *arguments])
        monkeypatch.setattr(os, "execve", lambda program, command, environment: calls.append(command))
        main()
        (command,) = calls
        return command[command.index("--snakefile") + 2 :]

    return start


def test_all_cores_work_and_the_view_is_of_retort(started) -> None:
    assert started("my.yaml", "teacher") == ["--cores", "all", "--logger=retort", "teacher"]
    assert started("my.yaml", "--cores=1") == ["--logger=retort", "--cores=1"]


@pytest.mark.parametrize("flag", ["-n", "-np", "-pn", "-Fn", "--dry-run", "-q", "--quiet"])
def test_snakemake_says_itself_what_a_dry_run_would_do(started, flag: str) -> None:
    assert started("my.yaml", flag) == ["--cores", "all", flag]


def test_a_value_of_config_may_end_as_a_file_does(started) -> None:
    assert started("my.yaml", "--config", "corpus.mirror=texts.json")[-2:] == ["--config", "corpus.mirror=texts.json"]


def test_layers_may_have_any_path(started) -> None:
    Path("lr=2").mkdir()
    Path("lr=2/layer.yaml").touch()
    assert started("my.yaml", "lr=2/layer.yaml", "teacher")[-1] == "teacher"
    with pytest.raises(SystemExit):
        started("my.yaml", "lr=3/layer.yaml")


def test_a_late_configuration_is_refused(started, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        started("my.yaml", "teacher", "layer.yaml")
    assert end.value.code == 2
    assert "layer.yaml: a configuration goes before targets and flags" in capsys.readouterr().err


def test_a_flag_before_the_configuration_shows_the_order(started, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        started("-n", "my.yaml")
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("usage: retort run CONFIGURATION [CONFIGURATION ...] [TARGET ...]")
    assert "unrecognized arguments: -n; a configuration goes before targets and flags" in told
