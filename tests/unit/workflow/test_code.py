"""Code digests follow what can run, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from retort.data.provenance import file_digest, provenance, value_digest
from retort.errors import RetortError
from retort.workflow.code import code_digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "retort/__init__.py": "",
        "retort/a.py": '"""A."""\nfrom retort.sub import b\n\n\ndef f():\n    """Doc."""\n    return b.g()\n',
        "retort/sub/__init__.py": "",
        "retort/sub/b.py": "from .c import h\n\n\ndef g():\n    return h()\n",
        "retort/sub/c.py": "def h():\n    from retort import lazy\n\n    return lazy.X\n",
        "retort/lazy.py": "X = 1\n",
        "retort/other.py": "Y = 1\n",
        "retort/errors.py": "class E(Exception):\n    pass\n",
        "script.py": "import json\nfrom retort.a import f\nimport retort.errors\n\nf()\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def digest(tree: Path, *extra: str) -> str:
    return code_digest([tree / "script.py"], extra, root=tree)


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("retort/sub/c.py", "def h():\n    from retort import lazy\n\n    return lazy.X + 1\n", True),
        ("retort/lazy.py", "X = 2\n", True),
        ("retort/sub/__init__.py", "Z = 1\n", True),
        ("script.py", "import json\nfrom retort.a import f\nimport retort.errors\n\nf(1)\n", True),
        ("retort/lazy.py", '"""Now documented."""\n\n# why\nX   =   1\n"""What X is."""\n', False),
        ("retort/other.py", "Y = 2\n", False),
        ("retort/errors.py", "class E(ValueError):\n    pass\n", False),
    ],
)
def test_only_code_that_can_run_counts(tree: Path, name: str, text: str, changes: bool) -> None:
    before = digest(tree)
    (tree / name).write_text(text)
    assert (digest(tree) != before) == changes


def test_extra_modules_count(tree: Path) -> None:
    before = digest(tree, "retort.other")
    assert before != digest(tree)
    (tree / "retort/other.py").write_text("Y = 22\n")
    assert digest(tree, "retort.other") != before


def test_a_body_of_only_a_docstring_equals_pass(tree: Path) -> None:
    (tree / "retort/lazy.py").write_text("class X:\n    pass\n")
    before = digest(tree)
    (tree / "retort/lazy.py").write_text('class X:\n    """Said."""\n')
    assert digest(tree) == before


def test_errors_name_the_file(tree: Path) -> None:
    with pytest.raises(RetortError, match="retort.nothing"):
        digest(tree, "retort.nothing")
    with pytest.raises(RetortError, match="absent.py"):
        code_digest([tree / "absent.py"], root=tree)
    (tree / "retort/lazy.py").write_text("X = = 1\n")
    with pytest.raises(RetortError, match="lazy.py: row 1"):
        digest(tree)


def test_the_digest_does_not_depend_on_the_place(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    import shutil

    other = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(tree, other)
    assert digest(other) == digest(tree)


def test_values_and_files(tmp_path: Path) -> None:
    assert value_digest({"a": 1, "b": [2]}) == value_digest({"b": [2], "a": 1})
    assert value_digest({"a": 1}) != value_digest({"a": 2})
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_provenance_is_the_same_each_time() -> None:
    facts = provenance(seed=1)
    assert facts == provenance(seed=1)
    assert facts["seed"] == 1
    assert facts["retort"]
