"""Reads one YAML file as plain values; every fault ends in one error with its file, line and column.

Text, numbers, truth values, nulls, lists and mappings are read, and nothing else. What could exhaust time or memory
(deep nesting, aliases that expand to many values, endless numbers) is refused before it is expanded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from retort.errors import RetortError

MAX_BYTES = 8 << 20
"""Size of a file. The largest configurations we know have some 20 kB."""
MAX_DEPTH = 50
"""Levels of lists and mappings. A configuration has about eight."""
MAX_VALUES = 200_000
"""Values in a file, those of aliases counted as often as they appear."""
MAX_DIGITS = 30
"""Digits of an integer. No key takes one of more than 19."""

PREFIX = "tag:yaml.org,2002:"
PLAIN = {
    name: f"{PREFIX}{tag}"
    for name, tag in (
        ("an integer", "int"),
        ("a number", "float"),
        ("a truth value (true or false)", "bool"),
        ("null", "null"),
        ("text", "str"),
        ("a date (quote it if it is text)", "timestamp"),
    )
}
NODES = {f"{PREFIX}seq": yaml.SequenceNode, f"{PREFIX}map": yaml.MappingNode}
FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+|\.[0-9][0-9_]*[eE][-+]?[0-9]+)$")
"""Numbers such as 1e-3, which YAML 1.2 reads as numbers and YAML 1.1 as text."""


ODD_NUMBER = re.compile(r"[-+]?0[0-9_]+$|.*:")
"""What YAML 1.1 reads to the base 8 or 60."""


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file. Raises RetortError if it cannot be read, or repeats a key."""
    text = _text(path)
    try:
        raw = yaml.load(text, _PlainLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"character U+{error.character:04X}"
        raise RetortError(f"{path}: line {line}: not readable as YAML: {found} is not allowed; remove it") from None
    except yaml.MarkedYAMLError as error:
        raise RetortError(f"{path}: {_described(error, text)}") from None
    except yaml.YAMLError as error:
        raise RetortError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else "a list" if isinstance(raw, list) else f"only {str(raw)[:40]!r}"
        raise RetortError(f"{path}: line 1: expected a mapping of keys, such as 'name: my-run', found {found}")
    return raw


def lines_of(path: Path) -> dict[str, int]:
    """Line of each key and value by its path, such as students.ctc.data or seeds[0]. The file must be readable."""
    lines: dict[str, int] = {}

    def visit(node: yaml.Node, where: str) -> None:
        lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            for number, inner in enumerate(node.value):
                visit(inner, f"{where}[{number}]")
        elif isinstance(node, yaml.MappingNode):
            for key, inner in node.value:
                inner_path = f"{where}.{key.value}" if where else key.value
                lines[inner_path] = key.start_mark.line + 1
                visit(inner, inner_path)

    visit(yaml.compose(_text(path), _PlainLoader), "")
    return lines


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RetortError(f"{path}: no such file; expected a configuration in YAML") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RetortError(f"{path}: not readable as YAML: {reason}; expected a configuration file") from None
    if len(raw) > MAX_BYTES:
        raise RetortError(f"{path}: has more than {MAX_BYTES >> 20} MiB; expected a configuration in YAML")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RetortError(
            f"{path}: line {line}: not readable as YAML: byte 0x{raw[error.start]:02X} is not UTF-8; save it as UTF-8"
        ) from None


def _described(error: yaml.MarkedYAMLError, text: str) -> str:
    """Place, what is wrong, and the line that it is in."""
    mark = error.problem_mark or error.context_mark
    assert mark is not None
    problem = str(error.problem or error.context)
    if "'\\t'" in problem:
        problem += "; indent with spaces, not tabs"
    if "another document" in problem:
        problem = "a second document begins here; expected one, so remove '---' and what belongs to the other"
    elif error.context and error.context_mark and error.context_mark.line != mark.line:
        problem += f" ({error.context}, which begins in line {error.context_mark.line + 1})"
    lines = text.splitlines()
    line = lines[mark.line].strip() if mark.line < len(lines) else ""
    shown = line if len(line) <= 60 else f"{line[:57]}..."
    where = f"line {mark.line + 1}, column {mark.column + 1}"
    return f"{where}: not readable as YAML: {problem}; the line is: {shown or 'empty'}"


class _PlainLoader(yaml.SafeLoader):
    """Builds plain values only, and refuses what YAML would take in silence: a repeated key, for one."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _error(self.peek_event(), f"nested more than {MAX_DEPTH} levels deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _check_size(node)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in _PlainLoader.yaml_constructors:
            raise _error(node, f"the tag {node.tag.replace(PREFIX, '!!')} is not allowed; write a plain value")
        if NODES.get(node.tag, yaml.ScalarNode) is not type(node):
            raise _error(node, f"the tag {node.tag.replace(PREFIX, '!!')} does not fit its value; remove it")
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, OverflowError):
            kinds = {tag: name for name, tag in PLAIN.items()}
            raise _error(node, f"{node.value[:40]!r} is not {kinds.get(node.tag, 'a value')}") from None
        if node.tag in (PLAIN["an integer"], PLAIN["a number"]) and ODD_NUMBER.match(node.value):
            shown = f"{node.value[:40]} is read as {str(value)[:40]}"
            raise _error(node, f'{shown}; write it as a plain decimal number, or quote it if it is text: "..."')
        if isinstance(value, str):
            try:
                # JSON writes what is beyond U+FFFF as two halves
                value = value.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                raise _error(node, f"half of a surrogate pair in {value[:40]!a}; write the whole character") from None
        if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
            raise _error(node, f"an integer of more than {MAX_DIGITS} digits")
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{PREFIX}merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _error(key_node, "a key must be text, found a list or mapping")
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _error(key_node, f'a key must be text, and this one is read as {key!r}; quote it: "..."')
            if key in seen:
                raise _error(key_node, f"key {key[:60]!r} appears twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _error(place: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


def _check_size(root: yaml.Node) -> None:
    """Refuse a tree that refers to itself, or that is too large when its aliases are expanded."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise _error(node, "an alias refers to a value that contains it; write the value out")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            parts = [] if isinstance(node, yaml.ScalarNode) else node.value
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in node.value for part in pair]
            sizes[id(node)] = 1 + sum(map(size, parts))
            open_nodes.remove(id(node))
            if sizes[id(node)] > MAX_VALUES:
                raise _error(node, f"aliases expand to more than {MAX_VALUES:,} values; write out what is meant")
        return sizes[id(node)]

    size(root)


def _date_as_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    """A date as it is written: no key takes a date, and a title may be one."""
    loader.construct_yaml_timestamp(node)
    return str(node.value)


_PlainLoader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag in (*PLAIN.values(), f"{PREFIX}seq", f"{PREFIX}map")
}
_PlainLoader.add_constructor(PLAIN["a date (quote it if it is text)"], _date_as_text)
_PlainLoader.add_implicit_resolver(PLAIN["a number"], FLOAT, list("-+.0123456789"))
