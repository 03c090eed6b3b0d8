"""Digests of the code that a script can run.

The digest follows imports statically from a script through the package, so that a workflow can re-run what uses
an edited module and nothing else. Comments, docstrings and formatting do not count.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from retort.errors import RetortError

PACKAGE = "retort"

# Their effect reaches a result only through values that the workflow tracks by themselves (the configuration's
# sections are parameters of the rules, defaults filled in), or not at all (the text of an error).
UNTRACKED = frozenset({"retort.config", "retort.errors"})


def code_digest(starts: Iterable[Path | str], extra: Iterable[str] = (), root: Path | None = None) -> str:
    """Digest of all code that can run from ``starts``: SHA-256 in hex.

    ``starts`` are script files or module names, ``extra`` names of modules that are imported by computed names and so
    cannot be seen in the source. ``root`` is the directory that holds the package; default: this package's own.
    Raises RetortError for a file or module that does not exist or is not Python.
    """
    root = Path(__file__).resolve().parents[2] if root is None else Path(root)
    files: dict[str, Path] = {}
    modules: list[str] = []
    for start in [*starts, *extra]:
        if isinstance(start, Path) or str(start).endswith(".py"):
            files[Path(start).name] = Path(start)
        else:
            modules.append(str(start))
    for name, path in list(files.items()):
        modules += _parse(path, "", root, path.stat().st_mtime_ns if path.exists() else 0)[1]
        files[name] = path
    for module in modules:
        if _module_file(module, root) is None:
            raise RetortError(f"module {module} not found below {root}; expected a file of the package")
    closure = _closure(modules, root)
    digest = hashlib.sha256()
    for name, path in sorted({**files, **closure}.items()):
        source, _ = _parse(path, name, root, path.stat().st_mtime_ns)
        digest.update(f"{name}\0{source}\0".encode())
    return digest.hexdigest()


def _closure(modules: Iterable[str], root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or module in UNTRACKED or module.rpartition(".")[0] in UNTRACKED:
            continue
        path = _module_file(module, root)
        if path is None:
            continue
        found[module] = path
        waiting += _parse(path, module, root, path.stat().st_mtime_ns)[1]
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return found


def _module_file(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file():
            return path
    return None


@cache
def _parse(path: Path, module: str, root: Path, _mtime: int) -> tuple[str, tuple[str, ...]]:
    """Normalised source of ``path`` and the package's modules it imports; ``_mtime`` only keys the cache."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except FileNotFoundError:
        raise RetortError(f"{path}: no such file; expected a Python script") from None
    except SyntaxError as error:
        raise RetortError(f"{path}: row {error.lineno}: not valid Python: {error.msg}") from None
    is_package = path.name == "__init__.py"
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            imported.add(base)
            imported.update(f"{base}.{alias.name}" for alias in node.names)
    known = {m for m in imported if m.partition(".")[0] == PACKAGE and _module_file(m, root) is not None}
    return ast.unparse(ast.fix_missing_locations(_WithoutDocstrings().visit(tree))), tuple(sorted(known))


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parents = module.split(".")
    keep = len(parents) - node.level + (1 if is_package else 0)
    return ".".join([*parents[: max(keep, 0)], *([node.module] if node.module else [])])


class _WithoutDocstrings(ast.NodeTransformer):
    """Drops every statement that is only a string: docstrings of modules, classes, functions and attributes."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not _is_string(s)]
            node.body = kept if kept or isinstance(node, ast.Module) else [ast.Pass()]  # type: ignore[attr-defined]
        return node


def _is_string(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
