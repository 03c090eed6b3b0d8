"""Versions are said once: every other place agrees with requirements.txt."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def pinned_lines(name: str) -> list[str]:
    """Lines that pin a package, those of files that are included among them."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    included = [line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    own = [line for line in lines if not line.startswith("-r ")]
    return [*own, *(line for other in included for line in pinned_lines(other))]


def pins(name: str) -> dict[str, str]:
    pairs = [line.split("==") for line in pinned_lines(name)]
    return {re.sub("[-_.]+", "-", package).lower(): version for package, version in pairs}


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


def test_the_locks_have_hashes_of_every_pin_but_torch() -> None:
    entries = [
        entry.split()
        for lock in ("build", "run", "dev")
        for entry in (ROOT / f"locks/{lock}.txt").read_text().replace("\\\n", " ").splitlines()
    ]
    locked = {re.sub("[-_.]+", "-", words[0].split("==")[0]).lower(): words[0].split("==")[1] for words in entries}
    expected = pins("constraints.txt")
    del expected["torch"]
    assert locked == expected, "make lock"
    assert len(locked) == len(entries)
    for words in entries:
        assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", words[-1])


def test_packages_are_installed_by_hash_and_built_by_pinned_tools() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for lock in ("build", "run", "dev"):
        assert re.search(rf"\$\(HASHED\) --requirement locks/{lock}.txt", makefile)
    assert "--require-hashes" in makefile and "--no-build-isolation --editable ." in makefile
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert requires == [f"setuptools=={pins('constraints.txt')['setuptools']}"]


def test_the_conda_environment_installs_the_same_versions() -> None:
    environment = yaml.safe_load((ROOT / "envs/retort.yaml").read_text())
    given = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(given) == sorted(pinned_lines("requirements.txt"))


def test_the_environments_of_teachers_add_to_it() -> None:
    given, teachers = (
        yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"][-1]["pip"]
        for name in ("retort", "teacher-transformers")
    )
    assert sorted([*given, *(ROOT / "requirements-transformers.txt").read_text().split()]) == sorted(teachers)


def test_the_package_takes_its_dependencies_from_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"]["file"] == ["requirements-base.txt"]
    workflow = ["requirements-base.txt", *dynamic["optional-dependencies"]["workflow"]["file"]]
    lines = [line for name in workflow for line in pinned_lines(name)]
    assert sorted(lines) == sorted(pinned_lines("requirements.txt")) and len(set(lines)) == len(lines)


def test_no_file_names_an_index() -> None:
    locks = [f"locks/{name}.txt" for name in ("build", "run", "dev")]
    for name in (
        "requirements.txt",
        "requirements-dev.txt",
        "constraints.txt",
        *locks,
        "pyproject.toml",
        "envs/retort.yaml",
    ):
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
    assert "--require-hashes --no-deps --requirement /tmp/locks/build.txt" in text
    assert "--requirement /tmp/locks/run.txt" in text
    assert {"COPY requirements*.txt constraints.txt /tmp/", "COPY locks /tmp/locks"} <= set(lines)
    # no version is said here again
    assert re.findall(r"(\w+)==", text) == ["pip"]
