"""Digests of the code that a script can run.

The digest follows imports statically from a script through the package, so that a workflow can re-run what uses an
edited module and nothing else. C files belong to the package that they are in. Comments, docstrings, formatting and
what only type checkers import do not count. Modules that are imported by computed names must be given: objectives,
searches and families of models.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from retort.data.files import write_json
from retort.errors import RetortError

PACKAGE = "retort"

UNTRACKED = frozenset({"retort.config", "retort.errors", "retort.workflow.code", "retort.workflow.imports"})
"""Not hashed: configuration values are already rule parameters, error texts do not affect results, and the effect of
this module, and of the names of modules that it is given, is the digest itself."""


def code_digests(starts: Iterable[Path | str], extra: Iterable[str] = (), root: Path | None = None) -> dict[str, str]:
    """Digest (SHA-256 in hex) of each file that can run from ``starts``, by its path below ``root``, sorted.

    ``starts`` are script files or module names, ``extra`` names of modules that are imported by computed names and so
    cannot be seen in the source. ``root`` is the directory that holds the package; default: this package's own.
    Raises RetortError for a file or module that does not exist or is not Python.
    """
    root = package_root() if root is None else Path(root)
    scripts: list[Path] = []
    modules: list[str] = []
    for start in [*starts, *extra]:
        if isinstance(start, Path) or start.endswith(".py"):
            scripts.append(Path(start))
        else:
            modules.append(start)
    for path in scripts:
        modules += _imports(path, "", root)
    for module in modules:
        if _module_file(module, root) is None:
            raise RetortError(f"module {module} not found below {root}; expected a file of the package")
    files = dict.fromkeys(scripts, "") | {path: module for module, path in _closure(modules, root).items()}
    digests = {}
    for path, module in files.items():
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        digests[name] = _parsed(path, module).digest
        if path.name == "__init__.py":
            for compiled in path.parent.glob("*.[ch]"):
                digests[name.removesuffix(path.name) + compiled.name] = hashlib.sha256(
                    compiled.read_bytes()
                ).hexdigest()
    return dict(sorted(digests.items()))


def combined(digests: Mapping[str, str]) -> str:
    """One digest of a table of digests."""
    return hashlib.sha256(
        "".join(f"{name}\0{digest}\0" for name, digest in sorted(digests.items())).encode()
    ).hexdigest()


def code_digest(starts: Iterable[Path | str], extra: Iterable[str] = (), root: Path | None = None) -> str:
    """One digest of all code that can run from ``starts``; see ``code_digests``."""
    return combined(code_digests(starts, extra, root))


def package_root() -> Path:
    """The directory that holds the package."""
    return Path(__file__).resolve().parents[2]


class CodeRecords:
    """Digests of the code of a run's scripts; their tables by file are kept in a directory, one file per digest.

    With them it can be said later which file changed. No table is written before ``keep``, so a dry run leaves none.
    ``parsed`` is a file where what was parsed is kept from call to call, whatever the run.
    """

    def __init__(self, directory: Path, root: Path, parsed: Path | None = None) -> None:
        self.directory, self.root, self.parsed = directory, root, parsed
        if parsed:
            with suppress(OSError, ValueError, TypeError, AttributeError):  # it only saves time
                found = json.loads(parsed.read_text(encoding="utf-8"))
                _PARSED.update({key: _Parsed(digest, tuple(names)) for key, (digest, names) in found.items()})
        self._tables: dict[str, dict[str, str]] = {}
        self._digests: dict[tuple[Path, tuple[str, ...]], str] = {}
        self._keeping = False

    def digest(self, script: Path, extra: Iterable[str] = ()) -> str:
        """The digest of a script, with the modules that it imports by computed names."""
        key = (script, tuple(extra))
        if key not in self._digests:
            known = len(_PARSED)
            table = code_digests([script], key[1], self.root)
            if self.parsed and len(_PARSED) > known:
                with suppress(OSError):
                    write_json(self.parsed, _PARSED)
            digest = self._digests[key] = combined(table)
            self._tables[digest] = table
            if self._keeping:
                self._write(digest)
        return self._digests[key]

    def keep(self) -> None:
        """Write the tables of all digests so far, and from now on each new one."""
        self._keeping = True
        for digest in self._tables:
            self._write(digest)

    def read(self, digest: str) -> dict[str, str] | None:
        """The table of a digest, of this process or an earlier one; None where there is none."""
        if digest not in self._tables:
            try:
                return dict(json.loads((self.directory / f"{digest}.json").read_text(encoding="utf-8")))
            except (OSError, ValueError):
                return None
        return self._tables[digest]

    def _write(self, digest: str) -> None:
        path = self.directory / f"{digest}.json"
        if not path.exists():
            write_json(path, self._tables[digest])


def _closure(modules: Iterable[str], root: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in files or module in UNTRACKED or module.rpartition(".")[0] in UNTRACKED:
            continue
        path = _module_file(module, root)
        if path is None:
            continue
        files[module] = path
        waiting += _imports(path, module, root)
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return files


@cache
def _module_file(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file():
            return path
    return None


class _Parsed(NamedTuple):
    digest: str
    """SHA-256 in hex of the source without what does not run."""
    imported: tuple[str, ...]
    """Names that may be modules of the package, absolute and sorted."""


_PARSED: dict[str, _Parsed] = {}
"""By what it was parsed from: ``_key``. Parsing is most of what a dry run takes, so ``CodeRecords`` keeps this."""


def _parsed(path: Path, module: str) -> _Parsed:
    if not path.exists():
        raise RetortError(f"{path}: no such file; expected a Python script")
    return _parsed_as_of(path, module, path.stat().st_mtime_ns)


@cache
def _parsed_as_of(path: Path, module: str, _mtime: int) -> _Parsed:
    source = path.read_bytes()
    key = _key(source, module, path)
    if key not in _PARSED:
        _PARSED[key] = _parse(source, module, path)
    return _PARSED[key]


def _key(source: bytes, module: str, path: Path) -> str:
    about = f"{sys.version_info[:2]}\0{module}\0{path.name == '__init__.py'}\0"
    return hashlib.sha256(about.encode() + source).hexdigest()


def _parse(source: bytes, module: str, path: Path) -> _Parsed:
    try:
        tree = ast.parse(source, filename=str(path))
    except SyntaxError as error:
        raise RetortError(f"{path}: row {error.lineno}: not valid Python: {error.msg}") from None
    tree = ast.fix_missing_locations(_OnlyWhatRuns().visit(tree))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, path.name == "__init__.py")
            imported.add(base)
            imported.update(f"{base}.{alias.name}" for alias in node.names)
    own = {name for name in imported if name.partition(".")[0] == PACKAGE}
    return _Parsed(hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), tuple(sorted(own)))


def _imports(path: Path, module: str, root: Path) -> list[str]:
    """The package's modules that a file imports."""
    return [name for name in _parsed(path, module).imported if _module_file(name, root) is not None]


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parents = module.split(".")
    keep = len(parents) - node.level + (1 if is_package else 0)
    return ".".join([*parents[: max(keep, 0)], *([node.module] if node.module else [])])


class _OnlyWhatRuns(ast.NodeTransformer):
    """Drops every statement that is only a string (docstrings of modules, classes, functions and attributes), and what
    is imported for type checkers alone."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(statement) for statement in node.orelse]
        return self.generic_visit(node)

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
