"""Versions are said once: every other place agrees with requirements.txt."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith(("#", "-r"))]
    return {re.sub("[-_.]+", "-", package).lower(): version for package, version in (s.split("==") for s in lines)}


def test_every_direct_dependency_is_pinned_exactly() -> None:
    assert pins("requirements.txt")["torch"] == "2.13.0"
    files = ("requirements.txt", "requirements-dev.txt", "requirements-transformers.txt")
    for version in [version for name in files for version in pins(name).values()]:
        assert re.fullmatch(r"\d+(\.\d+)+", version)


def test_constraints_hold_the_same_versions() -> None:
    constraints = pins("constraints.txt")
    names = ("requirements.txt", "requirements-dev.txt", "requirements-transformers.txt", "benchmarks/gpu/wheels.txt")
    for package, version in [pin for name in names for pin in pins(name).items()]:
        assert constraints[package] == version


def test_the_conda_environment_installs_the_same_versions() -> None:
    environment = yaml.safe_load((ROOT / "envs/retort.yaml").read_text())
    given = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(given) == sorted((ROOT / "requirements.txt").read_text().split())


def test_the_environments_of_teachers_add_to_it() -> None:
    given, teachers = (
        yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"][-1]["pip"]
        for name in ("retort", "teacher-transformers")
    )
    assert sorted([*given, *(ROOT / "requirements-transformers.txt").read_text().split()]) == sorted(teachers)


def test_the_package_takes_its_dependencies_from_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["dependencies"]["file"] == ["requirements.txt"]


def test_no_file_names_an_index() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "constraints.txt", "pyproject.toml", "envs/retort.yaml"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "index" not in text


def test_the_container_installs_the_same_versions() -> None:
    lines = (ROOT / "Containerfile").read_text().splitlines()
    environment = yaml.safe_load((ROOT / "envs/retort.yaml").read_text())["dependencies"]
    python, pip = (next(e for e in environment if str(e).startswith(name)).split("=")[-1] for name in ("python", "pip"))
    assert any(line.startswith(f"FROM docker.io/library/python:{python}-") for line in lines)
    text = " ".join(lines)
    assert f"pip=={pip}" in text
    assert "--constraint /tmp/constraints.txt --requirement /tmp/requirements.txt" in text
    assert "COPY requirements.txt constraints.txt /tmp/" in lines
    # no version is said here again
    assert re.findall(r"(\w+)==", text) == ["pip"]
