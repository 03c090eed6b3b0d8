"""Code digests follow what can run, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from retort.config import GeneratedCorpus
from retort.data.provenance import file_digest, provenance, value_digest
from retort.errors import RetortError
from retort.workflow import code
from retort.workflow.code import CodeRecords, code_digest, code_digests, combined

SCRIPTS = sorted((Path(__file__).parents[3] / "workflow_scripts").glob("*.py"))
BY_NAME = ("retort/objectives/", "retort/corpus/language/")
LOADERS = ["retort/objectives/__init__.py", "retort/objectives/base.py"]
FAMILIES = [f"retort/models/{name}.py" for name in ("autoregressive", "bang", "dag", "janus", "parallel", "recurrent")]


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


@pytest.mark.parametrize("name", ["retort/sub/fast.c", "retort/sub/fast.h"])
def test_the_c_files_of_a_package_count(tree: Path, name: str) -> None:
    before = digest(tree)
    compiled = tree / name
    compiled.write_text("int c;\n")
    assert digest(tree) != before and name in code_digests([tree / "script.py"], root=tree)
    between = digest(tree)
    compiled.write_text("int d;\n")
    assert digest(tree) not in (before, between)


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


def test_the_table_names_every_file_that_can_run(tree: Path) -> None:
    table = code_digests([tree / "script.py"], ["retort.other"], tree)
    modules = ("__init__", "a", "lazy", "other", "sub/__init__", "sub/b", "sub/c")
    assert list(table) == [*(f"retort/{name}.py" for name in modules), "script.py"]
    assert combined(table) == digest(tree, "retort.other")
    (tree / "retort/other.py").write_text("Y = 22\n")
    after = code_digests([tree / "script.py"], ["retort.other"], tree)
    assert [name for name in table if table[name] != after[name]] == ["retort/other.py"]


def test_what_only_type_checkers_import_is_not_followed(tree: Path) -> None:
    branches = "if TYPE_CHECKING:\n    from retort import other\nelse:\n    from retort import a\n"
    (tree / "script.py").write_text(f"from typing import TYPE_CHECKING\n{branches}")
    table = code_digests([tree / "script.py"], root=tree)
    assert "retort/a.py" in table and "retort/other.py" not in table


def test_tables_are_kept_by_their_digest_from_the_start_of_a_run(tree: Path, tmp_path: Path) -> None:
    records = CodeRecords(tmp_path / "code", tree)
    first = records.digest(tree / "script.py")
    assert not (tmp_path / "code").exists()
    records.keep()
    second = records.digest(tree / "script.py", ["retort.other"])
    assert {path.stem for path in (tmp_path / "code").iterdir()} == {first, second}
    later = CodeRecords(tmp_path / "code", tree)
    assert later.read(second) == code_digests([tree / "script.py"], ["retort.other"], tree)
    assert later.read("0" * 64) is None
    (tmp_path / "code" / f"{first}.json").write_text("{half")
    assert later.read(first) is None


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_no_script_depends_on_what_is_imported_by_name(script: Path) -> None:
    """Or else an edit of one model, objective or of the made-up language would re-run what does not use it."""
    table = code_digests([script])
    by_name = [name for name in table if name in FAMILIES or name.startswith(BY_NAME)]
    assert [name for name in by_name if name not in LOADERS] == []
    assert all((script.parents[1] / name).is_file() for name in [*table, *FAMILIES])


def test_scores_depend_on_the_language_only_where_it_is_made_up_and_never_on_the_cleaning() -> None:
    script = next(path for path in SCRIPTS if path.stem == "score")
    judge = f"retort.corpus.{GeneratedCorpus.judge}"
    assert not [name for name in code_digests([script]) if name.startswith("retort/corpus/language")]
    names = list(code_digests([script], [judge]))
    assert "retort/corpus/language/grammar.py" in names and "retort/corpus/cleaning.py" not in names


def test_the_report_depends_on_neither_models_nor_searches() -> None:
    script = next(path for path in SCRIPTS if path.stem == "build_report")
    names = list(code_digests([script]))
    assert "retort/report/continuations.py" in names
    assert [name for name in names if name.startswith(("retort/models/", "retort/search/", "retort/losses/"))] == []


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


def test_what_was_parsed_is_kept_from_call_to_call(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "parsed.json"

    def records() -> CodeRecords:
        """As a new process has them."""
        monkeypatch.setattr(code, "_PARSED", {})
        code._parsed_as_of.cache_clear()
        return CodeRecords(tmp_path / "code", tree, parsed=kept)

    first = records().digest(tree / "script.py")
    with monkeypatch.context() as no_parser:
        no_parser.setattr(code.ast, "parse", None)
        assert records().digest(tree / "script.py") == first
    (tree / "retort/lazy.py").write_text("X = 2\n")
    assert records().digest(tree / "script.py") != first
    for damaged in ("{half", "[]", '{"key": 1}'):
        kept.write_text(damaged)
        (tree / "retort/lazy.py").write_text("X = 1\n")
        assert records().digest(tree / "script.py") == first


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_serves_exported_systems_re_runs_their_times_alone(script: Path) -> None:
    runs = any(name.startswith("retort/runtime/") for name in code_digests([script]))
    assert runs == (script.stem == "measure_latency")


def test_a_module_runs_the_packages_that_it_is_in(tree: Path) -> None:
    assert "retort/sub/__init__.py" in code_digests([], ["retort.sub.c"], tree)


def test_modules_of_the_configuration_are_not_followed(tree: Path) -> None:
    (tree / "retort/config").mkdir()
    for name in ("__init__", "model"):
        (tree / f"retort/config/{name}.py").write_text("X = 1\n")
    before = digest(tree)
    (tree / "retort/a.py").write_text("from retort.config.model import X\n")
    assert not [name for name in code_digests([tree / "script.py"], root=tree) if "config" in name]
    assert digest(tree) != before


def test_the_same_code_under_another_name_is_other_code() -> None:
    assert combined({"a.py": "1"}) != combined({"b.py": "1"})
