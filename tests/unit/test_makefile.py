import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def of_version(version: tuple[int, int]) -> str:
    """What runs the code behind -c as a Python of this version."""
    return f'exec {sys.executable} -c "import sys; sys.version_info = {version}; exec(sys.argv[1])" "$2"'


def install(directory: Path, version: tuple[int, int] = (3, 12)) -> str:
    """What `make` says where `python3` has this version, and says "made" instead of making an environment."""
    program(directory / "python3", f'test "$1" = -c || {{ echo "made $*"; exit 1; }}\n{of_version(version)}')
    environment = directory / ".venv"
    ended = subprocess.run(
        ["make", f"{environment}/.installed", f"VENV={environment}", f"PYTHON={directory}/python3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (4, 0)])
def test_another_version_of_python_is_named(tmp_path: Path, version: tuple[int, int]) -> None:
    said = install(tmp_path, version)
    assert f"Python 3.11 to 3.13 is needed, {tmp_path}/python3 is {version[0]}.{version[1]}: " in said
    assert "made" not in said and "Traceback" not in said


def environment(directory: Path, version: tuple[int, int], pip: bool) -> None:
    """An environment of a Python of this version, with pip or without."""
    status = f"exit {int(not pip)}"
    program(
        directory / ".venv/bin/python",
        f'test "$*" = "-m pip --version" && {status}\n'
        f'test "$1" = -c || {{ echo installing; exit 1; }}\n{of_version(version)}',
    )


def test_an_environment_without_pip_is_made_again(tmp_path: Path) -> None:
    assert f"made -m venv --clear {tmp_path}/.venv" in install(tmp_path)
    environment(tmp_path, (3, 12), pip=False)
    assert "made" in install(tmp_path)


def test_an_environment_of_another_version_is_made_again(tmp_path: Path) -> None:
    environment(tmp_path, (3, 10), pip=True)
    assert "made" in install(tmp_path)


def test_an_environment_with_pip_is_kept(tmp_path: Path) -> None:
    environment(tmp_path, (3, 11), pip=True)
    said = install(tmp_path, (3, 10))
    assert "installing" in said and "made" not in said


def test_the_versions_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classes = "Programming Language :: Python :: "
    versions = [name.removeprefix(classes) for name in project["classifiers"] if name.startswith(f"{classes}3.")]
    assert f"found in {tuple(versions)} or" in (ROOT / "Makefile").read_text()
