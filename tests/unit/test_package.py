"""The distribution: what a wheel holds, and that it translates where only a deployment's packages are."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import distribution
from pathlib import Path
from subprocess import PIPE
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from packaging.requirements import Requirement

import retort
from retort import config
from retort.search import native
from tests.unit.fakes_export import exported

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", *sorted(path.name for path in ROOT.glob("requirements*.txt")))
NAME = f"retort_distill-{retort.__version__}"
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from the source distribution and nothing else."""
    checkout, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "retort", checkout / "retort", ignore=shutil.ignore_patterns("__pycache__"))
    archive = out / build("build_sdist", checkout, out)
    with tarfile.open(archive) as packed:
        # Python knows filters since 3.11.4
        packed.extractall(out, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return out / build("build_wheel", out / NAME, out)


def build(what, checkout, out):
    command = [sys.executable, "-c", BUILD, what, str(out)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()[-1]


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as content:
        return message_from_bytes(content.read(f"{NAME}.dist-info/METADATA"))


def test_a_wheel_has_all_modules_and_files(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        entry_points = content.read(f"{NAME}.dist-info/entry_points.txt").decode()
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "retort").rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("retort/")} == {
        n for n in expected if "__pycache__" not in n and (not n.endswith(".so") or n.endswith(EXTENSION_SUFFIXES[0]))
    }
    assert native.library() is None or any(name.startswith("retort/search/native/_beams.") for name in names)
    assert {"retort/py.typed", "retort/__init__.pyi"} < names and any(name.endswith(".jinja") for name in names)
    assert entry_points.split() == ["[console_scripts]", "retort", "=", "retort.cli:main"]


def test_the_metadata(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("retort-distill", retort.__version__)
    assert set(metadata.get_all("Provides-Extra")) == {"serve", "export", "workflow", "transformers"}
    assert not metadata.get_all("Project-URL") and not metadata["Home-page"]
    names = {Requirement(r).name for r in metadata.get_all("Requires-Dist") if "extra" not in r}
    assert names == {"numpy", "pydantic", "sentencepiece"}


def required(requirements, extra, found):
    """Distributions that pip would install, with those that they need."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name not in found:
            found[requirement.name] = distribution(requirement.name)
            required(found[requirement.name].requires or (), "", found)
    return found


@pytest.fixture(scope="module")
def deployment(wheel, metadata, tmp_path_factory):
    """Directories that stand for an environment: the wheel, and packages that its extra "serve" brings in."""
    installed, packages = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target"]
    subprocess.run([*pip, str(installed), str(wheel)], check=True, capture_output=True, cwd=installed)
    for needed in required(metadata.get_all("Requires-Dist"), "serve", {}).values():
        for top in {file.parts[0] for file in needed.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (packages / top).exists():
                (packages / top).symlink_to(needed.locate_file(top))
    return installed, packages


def environment(deployment):
    paths = os.pathsep.join(map(str, deployment))
    return {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def run(deployment, *arguments, **options):
    """A Python without the packages of this environment."""
    command = [sys.executable, "-S", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(deployment), cwd=deployment[0], capture_output=True, text=True, **options
    )


ABSENT = """
from importlib.util import find_spec
import retort
heavy = ("torch", "snakemake", "pandas", "pyarrow", "matplotlib", "scipy")
print(retort.__version__, [name for name in heavy if find_spec(name)])
"""


def test_a_deployment_pulls_neither_torch_nor_snakemake_nor_pandas(deployment):
    assert run(deployment, "-c", ABSENT).stdout == f"{retort.__version__} []\n"


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    objectives = (config.Vanilla(name="vanilla"), config.Autoregressive(name="autoregressive"))
    return exported(tmp_path_factory.mktemp("systems"), **{objective.name: objective for objective in objectives})


@pytest.mark.parametrize(
    ("name", "search", "options"),
    [
        ("vanilla", None, []),
        ("vanilla", "argmax length_beam=2", ["--n-best", "2", "--scores", "--json"]),
        ("autoregressive", "beam beam_size=2", ["--text"]),
    ],
)
def test_the_wheel_translates_in_a_deployment(deployment, systems, name, search, options):
    chosen = [] if search is None else ["--search", search]
    arguments = ["translate", "--model", systems / name, "--threads", "1", *chosen, *options]
    found = run(deployment, deployment[0] / "bin/retort", *arguments, input="abcd efgh\n")
    assert (found.returncode, found.stderr) == (0, "")
    expected = retort.load(systems / name, search=search).translate("abcd efgh").text
    assert expected and expected in found.stdout


def test_a_bundle_starts_within_a_second(deployment, systems):
    arguments = ["translate", "--model", systems / "vanilla", "--threads", "1"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run(deployment, deployment[0] / "bin/retort", *arguments, input="abcd\n").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # by the processor's time: other tests run beside this one
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_a_bundle_is_served_from_a_deployment(deployment, systems):
    command = [sys.executable, "-S", str(deployment[0] / "bin/retort"), "serve", str(systems / "vanilla")]
    served = subprocess.Popen(
        [*command, "--port", "0"], env=environment(deployment), stdout=PIPE, stderr=PIPE, text=True
    )
    address = served.stdout.readline().split()[-1]
    body = json.dumps({"texts": ["abcd efgh", ""]}).encode()
    with urlopen(Request(address, body, {"Content-Type": "application/json"}), timeout=10) as answer:
        first, second = json.load(answer)["translations"]
    assert first["text"] == retort.load(systems / "vanilla").translate("abcd efgh").text and second["text"] == ""
    with pytest.raises(HTTPError, match="415"):
        urlopen(Request(address, body, {"Content-Type": "text/plain"}), timeout=10)
    served.terminate()
    logged = served.communicate(timeout=10)[1].splitlines()
    assert served.returncode == 0 and len(logged) == 2 and '"POST /translate HTTP/1.1" 200' in logged[0]


def test_a_command_that_needs_more_says_so(deployment, systems):
    model = systems / "vanilla-checkpoint"
    found = run(deployment, deployment[0] / "bin/retort", "export", "--model", model, "--output", systems / "out")
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "is not installed; install retort-distill[export] to export, or retort-distill[workflow]" in found.stderr


def test_a_checkpoint_says_what_is_missing(deployment, systems):
    model = systems / "vanilla-checkpoint"
    found = run(deployment, deployment[0] / "bin/retort", "translate", "--model", model, input="abcd\n")
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert "is not installed; export it, or install retort-distill[export]" in found.stderr
