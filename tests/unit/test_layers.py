"""Imports go one way: a module imports from its own layer or a lower one, and no two modules import each other.

Modules imported by computed names (``import_module``) are not seen: they are methods that a configuration names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "retort"
LAYERS = (
    "errors", "filenames", "engines", "config", "data", "teachers", "corpus", "models", "losses", "search",
    "objectives", "distillation", "evaluation", "training", "runtime", "export", "serving", "report", "workflow", "cli",
    "__main__",
)  # fmt: skip
"""Parts of the package, the lowest first."""


Graph = dict[str, set[str]]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
SCRIPTS = sorted((ROOT / "workflow_scripts").glob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Modules of the package that the file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import; write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == PACKAGE:
                yield imported_module(name)


def imported_module(name: str) -> str:
    """The module that an imported name belongs to."""
    while name not in FILES:
        name = name.rpartition(".")[0]
    return name


def layer(module: str) -> str:
    """Part of the package that a module belongs to; the package itself is below all of them."""
    return module.split(".")[1] if "." in module else ""


def height(module: str) -> int:
    return LAYERS.index(layer(module)) if layer(module) else -1


GRAPH: Graph = {module: set(imports(path)) for module, path in FILES.items()}


def test_every_part_of_the_package_is_a_layer() -> None:
    assert {layer(module) for module in FILES} - {""} <= set(LAYERS), "a new part of the package needs its place"


def upward(graph: Graph) -> list[str]:
    """Imports from a higher layer."""
    return [
        f"{module} imports {imported}"
        for module, its_imports in graph.items()
        for imported in sorted(its_imports)
        if height(imported) > height(module)
    ]


def test_no_module_imports_from_a_higher_layer() -> None:
    assert not upward(GRAPH), "\n".join(upward(GRAPH))


def test_no_module_imports_a_script() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*FILES.values(), *SCRIPTS]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom) and "workflow_scripts" in ast.unparse(node)
    ]
    assert not wrong


def circles(graph: Graph) -> list[str]:
    """Chains of imports that end where they begin, one per circle that a depth-first walk meets."""
    chains: list[str] = []
    done: set[str] = set()

    def walk(module: str, chain: list[str]) -> None:
        if module in chain:
            chains.append(" > ".join([*chain[chain.index(module) :], module]))
        elif module not in done:
            for imported in sorted(graph.get(module, ())):
                walk(imported, [*chain, module])
            done.add(module)

    for module in graph:
        walk(module, [])
    return chains


def test_no_imports_go_in_a_circle() -> None:
    assert not circles(GRAPH), "\n".join(circles(GRAPH))


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, ["a > b > a"]),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": {"c"}}, ["d > c > d"]),
    ],
)
def test_circles_are_found(graph: Graph, expected: list[str]) -> None:
    assert circles(graph) == expected


def test_imports_from_a_higher_layer_are_found() -> None:
    graph = {"retort.losses.a": {"retort.search.b", "retort.config", "retort"}, "retort.cli": {"retort.losses.a"}}
    assert upward(graph) == ["retort.losses.a imports retort.search.b"]


def test_imports_are_seen_wherever_they_are(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import os\n\ndef f():\n    from retort.errors import RetortError\n    import retort.config.run\n")
    assert list(imports(path)) == ["retort.errors", "retort.config.run"]
