"""Every fault of a YAML file ends in one error that names file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retort.config.files import places_of
from retort.config.yaml_reader import MAX_BYTES, read_mapping
from retort.errors import RetortError

LAUGHS = "\n".join([f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)])
BAD = [
    ("a: 1\nb: {x: 1", "line 2, column 9: not readable as YAML: expected ',' or '}', but got '<stream end>'"),
    ("a: [1\nb: 2", "line 2, column 2: .* which begins in line 1"),
    ("a:\n\t- b", "line 2, column 1: .*; indent with spaces, not tabs"),
    ("a: 1\n---\nb: 2", "line 2, column 1: .*a second document begins here; expected one"),
    ("a: 1\nb: \0", "line 2: not readable as YAML: character U\\+0000 is not allowed; remove it"),
    (b"a: 1\nb: \xff", "line 2: not readable as YAML: byte 0xFF is not UTF-8; save it as UTF-8"),
    ("? [a]\n: b", "line 1, column 3: .*a key must be text, found a list or mapping"),
    ("? {a: b}\n: b", "line 1, column 3: .*a key must be text, found a list or mapping"),
    ("a:\n  no: 1", "line 2, column 3: .*this one is read as False; quote it"),
    ("a: 010000", "line 1, column 4: .*010000 is read as 4096; write it as a plain decimal number, or quote it"),
    ("a: 1:30", "line 1, column 4: .*1:30 is read as 90; write it"),
    ("1: 2", "line 1, column 1: .*this one is read as 1; quote it"),
    ("~: 2", "line 1, column 1: .*this one is read as None; quote it"),
    ("a: !!int abc", "line 1, column 4: .*'abc' is not an integer"),
    ("a: !!int", "line 1, column 4: .*'' is not an integer"),
    ("a: !!float x", "line 1, column 4: .*'x' is not a number"),
    ("a: !!bool maybe", "line 1, column 4: .*'maybe' is not a truth value"),
    ("a: !!timestamp x", "line 1, column 4: .*'x' is not a date"),
    ("a: 2020-99-99", "line 1, column 4: .*'2020-99-99' is not a date \\(quote it if it is text\\)"),
    ("a: -0x_", "line 1, column 4: .*'-0x_' is not an integer"),
    (f"a: {'9' * 5000}", "line 1, column 4: .*'9+' is not an integer"),
    (f"a: 0x{'f' * 5000}", "line 1, column 4: .*an integer of more than 30 digits"),
    ("a: !!python/object/apply:os.system [x]", "line 1, column 4: .*the tag !!python/object/apply:os.system is not"),
    ("a: !mine x", "line 1, column 4: .*the tag !mine is not allowed; write a plain value"),
    ("a: !!set {b}", "line 1, column 4: .*the tag !!set is not allowed"),
    ("a: !!binary zzz", "line 1, column 4: .*the tag !!binary is not allowed"),
    ("a: !!map x", "line 1, column 4: .*the tag !!map does not fit its value"),
    ("a: !!str [1]", "line 1, column 4: .*the tag !!str does not fit its value"),
    ("<<: 5", "line 1, column 5: .*expected a mapping or list of mappings for merging"),
    (f"a: {'[' * 2000}", "line 1, column 53: .*nested more than 50 levels deep"),
    (f"a0: &a0 [x]\n{LAUGHS}", "line 7, column 5: .*aliases expand to more than 200,000 values"),
    ("a: &x [*x]", "line 1, column 4: .*an alias refers to a value that contains it"),
    ("a: *x", "line 1, column 4: .*found undefined alias 'x'"),
    ("a: 1\nb: 2\na: 3", "line 3, column 1: .*key 'a' appears twice; the line is: a: 3"),
    ("a: b: c", "line 1, column 5: .*mapping values are not allowed here; the line is: a: b: c"),
    ('a: "\\q"', "line 1, column 6: .*found unknown escape character 'q'"),
    ('a: "b\\ud83d"', r"line 1, column 4: .*half of a surrogate pair in 'b\\ud83d'"),
    ("a: 'x", "line 1, column 6: .*found unexpected end of stream"),
    ("%YAML 9.9\n---\na: 1", "line 1, column 1: .*incompatible YAML document"),
    ("- 1", "line 1: expected a mapping of keys, such as 'name: my-run', found a list"),
    ("", "line 1: expected a mapping of keys, such as 'name: my-run', found nothing"),
    ("text", "line 1: expected a mapping of keys, such as 'name: my-run', found only 'text'"),
    ("a: " + "x" * MAX_BYTES, "has more than 8 MiB"),
]


@pytest.mark.parametrize(("content", "expected"), BAD, ids=[expected[:40] for _, expected in BAD])
def test_bad_files(tmp_path: Path, content: str | bytes, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RetortError, match=rf"bad\.yaml: {expected}") as error:
        read_mapping(path)
    assert len(str(error.value)) < 400 + len(str(path))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RetortError, match="no such file; expected a configuration in YAML"):
        read_mapping(tmp_path / "none.yaml")
    with pytest.raises(RetortError, match="Is a directory; expected a configuration file"):
        read_mapping(tmp_path)


def test_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(
        "\ufeffa: [1, 0x10, 1_000, -2.5, 1e-3, .5e2, true, null, ~]\n"
        "b: &b {x: 2020-01-31, y: '1', z: '1:2:3'}\nc: {<<: *b, x: 1}\nd: {}\n"
    )
    b = {"x": "2020-01-31", "y": "1", "z": "1:2:3"}
    assert read_mapping(path) == {
        "a": [1, 16, 1000, -2.5, 0.001, 50.0, True, None, None],
        "b": b,
        "c": {**b, "x": 1},
        "d": {},
    }


def test_json_that_escapes_what_is_beyond_the_first_plane(tmp_path: Path) -> None:
    given = {"a": ["Katzen \U0001f600", "\u00e9"], "\U0001f600": 1}
    (tmp_path / "a.json").write_text(json.dumps(given))
    assert read_mapping(tmp_path / "a.json") == given


def test_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("include: [b.yaml]\nx:\n  y: 1\n")
    (tmp_path / "b.yaml").write_text("x:\n  y: 0\n\n  z: [5,\n   6]\n")
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    files = {
        "include": f"{a}, line 1",
        "include[0]": f"{a}, line 1",
        "x": f"{a}, line 2",
        "x.y": f"{a}, line 3",
        "x.z": f"{b}, line 4",
        "x.z[0]": f"{b}, line 4",
        "x.z[1]": f"{b}, line 5",
    }
    assert places_of([a], {}) == files
    without_list = {path: place for path, place in files.items() if "x.z" not in path}
    assert places_of([a], {"x": {"z": [7]}, "w": 1}) == {**without_list, "x.z": "--config", "w": "--config"}
