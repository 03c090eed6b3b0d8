"""Nothing in the package unpickles: no import and no call that could."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "multiprocessing"}
CALLS = {
    "all_gather_object",
    "broadcast_object_list",
    "gather_object",
    "scatter_object_list",
    "send_object_list",
    "recv_object_list",
    "elastic_launch",
    "read_pickle",
}


@pytest.mark.slow
def test_no_module_imports_or_calls_what_unpickles() -> None:
    files = [path for folder in ("retort", "workflow_scripts") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    assert [problem for path in files for problem in unpickling(path)] == []


def unpickling(path: Path) -> list[str]:
    problems = []
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").partition(".")[0], *(alias.name for alias in node.names)]
            if (node.module or "").startswith("torch.distributed.elastic"):
                problems.append(f"{path}:{line}: {node.module}")
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
            loads = isinstance(node.value, ast.Name) and (node.value.id, node.attr) in {
                ("torch", "load"),
                ("np", "load"),
            }
            if loads:
                problems.append(f"{path}:{line}: {ast.unparse(node)}")
        problems += [f"{path}:{line}: {name}" for name in names if name in MODULES | CALLS]
    return problems


def test_the_check_finds_what_unpickles(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import pickle\nimport torch\ntorch.load('x')\ntorch.distributed.all_gather_object([], 1)\n")
    assert [problem.partition(": ")[2] for problem in unpickling(bad)] == ["pickle", "torch.load", "all_gather_object"]
