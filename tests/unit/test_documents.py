"""Documents: links and paths that exist, lines and sentences that can be read."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import retort
from retort.config.load import load_config

ROOT = Path(__file__).parents[2]
GENERATED = "docs/configuration.md"
"""Written by retort.config.reference, whose own tests hold it."""

LONGEST_LINE, LONGEST_SENTENCE = 110, 30
"""Characters, and words."""

FOLDERS = "retort|workflow_scripts|rules|configs|profiles|envs|benchmarks|docs|tests"
MENTIONED_PATH = re.compile(rf"(?<![\w/.~-])(?:{FOLDERS})/[\w./-]*\w")
MENTIONED_MODULE = re.compile(r"(?<![\w./-])retort(?!\.(?:sif|tar))(?:\.\w+)+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
LIST, PART_OF_LIST = re.compile(r"(\d+\.|[-*+]) "), re.compile(r"(\d+\.|[-*+]) |  |#")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def tracked(*patterns: str) -> list[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return [name for name in names if (ROOT / name).is_file()]


DOCUMENTS = [name for name in tracked("*.md") if not name.startswith("tests/")]
PROSE = [name for name in DOCUMENTS if name.startswith(("README", "CONTRIBUTING", "docs/methods/"))]
PROSE += ["docs/overview.md", "docs/extending.md"]


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings: lower case, punctuation dropped, a hyphen for each space."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def example_files(name: str) -> set[str]:
    """Files that a page's examples make: a code block begins with the file's name."""
    return set(re.findall(r"^```\w+\n(?:#|//) ([\w./-]+)", text_of(name), re.MULTILINE))


def prose_lines(name: str) -> list[str]:
    """Lines that are neither code nor tables, with an empty line in the place of each."""
    lines, code = [], False
    for line in text_of(name).split("\n"):
        fence = line.lstrip().startswith("```")
        code ^= fence
        lines.append("" if code or fence or line.startswith(("    ", "|")) else line)
    return lines


def sentences(name: str) -> list[str]:
    """A heading, a list's item and a paragraph end a sentence; so does a full stop before a capital letter."""
    plain = []
    for line in prose_lines(name):
        new_block = re.match(r"\s*([-*#>]|\d+\.)\s", line)
        plain.append(f"\n\n{line}" if new_block else line)
    found = []
    for block in re.split(r"\n\s*\n", "\n".join(plain)):
        words = re.sub(r"`[^`]*`", "code", LINK.sub("]", block)).replace("\n", " ")
        found += re.split(r"[.?!:][)*\"]*\s+(?=[A-Z(*\[`\"]|code)", words)
    return [sentence.strip() for sentence in found if sentence.strip()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_lead_somewhere(name):
    broken = []
    for link in LINK.findall(FENCE.sub("", text_of(name))):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("name", DOCUMENTS)
def test_mentioned_paths_exist(name):
    examples = example_files(name)
    paths = MENTIONED_PATH.findall(text_of(name))
    assert not {path for path in paths if not any(ROOT.glob(path)) and path not in examples}


def test_documents_that_code_mentions_exist():
    """Documents alone: code names files that it makes."""
    names = tracked("*.py", "*.smk", "*.yaml", "Snakefile", "Makefile")
    mentioned = {
        (name, path)
        for name in names
        if not name.startswith("tests/")
        for path in MENTIONED_PATH.findall(text_of(name))
        if path.endswith(".md")
    }
    assert mentioned
    assert not {(name, path) for name, path in mentioned if not (ROOT / path).exists()}


@pytest.mark.parametrize("name", [n for n in DOCUMENTS if n != "CHANGELOG.md"])
def test_mentioned_modules_exist(name):
    missing = []
    for module in MENTIONED_MODULE.findall(text_of(name)):
        parts = module.split(".")
        # the last parts may be names in a module
        paths = [ROOT.joinpath(*parts[:n]) for n in range(2, len(parts) + 1)]
        examples = {path.removesuffix(".py").replace("/", ".") for path in example_files(name)}
        known = parts[1] in retort.__all__ or any(p.is_dir() or p.with_suffix(".py").is_file() for p in paths)
        if not known and module not in examples:
            missing.append(module)
    assert not missing


@pytest.mark.parametrize("name", [n for n in DOCUMENTS if n != GENERATED])
def test_lines_are_short(name):
    long = [
        (number, len(line))
        for number, line in enumerate(prose_lines(name), 1)
        if len(line) > LONGEST_LINE and "](" not in line and "<img" not in line
    ]
    assert not long, f"{name}: lines and their characters: {long}"


@pytest.mark.parametrize("name", [n for n in DOCUMENTS if n != GENERATED])
def test_no_paragraph_turns_into_a_list(name):
    """Markdown takes a line of a paragraph that begins with "1. " or "- " for a list."""
    turned = [
        number
        for number, (before, line) in enumerate(itertools.pairwise(prose_lines(name)), 2)
        if LIST.match(line) and before.strip() and not PART_OF_LIST.match(before)
    ]
    assert not turned, f"{name}: lines {turned}"


@pytest.mark.parametrize("name", PROSE)
def test_sentences_are_short(name):
    long = [sentence for sentence in sentences(name) if len(sentence.split()) > LONGEST_SENTENCE]
    assert not long


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), ["README.md"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        paths = [link.partition("#")[0] for link in LINK.findall(text_of(name)) if "://" not in link]
        names = [os.path.normpath(Path(name).parent / path) for path in paths if path.endswith(".md")]
        waiting += [name for name in names if name not in reached]
    assert reached >= set(DOCUMENTS)


def test_the_overview_names_every_folder_of_the_package():
    folders = {path.parent.name for path in (ROOT / "retort").glob("*/__init__.py")}
    assert folders == set(re.findall(r"^\| `retort/(\w+)/`", text_of("docs/overview.md"), re.MULTILINE))


def test_the_readme_has_a_complete_configuration():
    (example,) = re.findall(r"^```yaml\n(.*?)^```", text_of("README.md"), re.MULTILINE | re.DOTALL)
    assert list(load_config(yaml.safe_load(example), "README.md").students) == ["ctc"]


def test_sentences_are_counted_as_they_are_read(tmp_path, monkeypatch):
    text = "# Title\n\nOne, of `code.py` too. Another one (see\n[it](there.md)). A third\n\n- item\n  goes on\n- next\n"
    monkeypatch.setattr("tests.unit.test_documents.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(f"{text}\n    code. Not prose.\n\n| table. | Not prose. |\n")
    counts = [len(sentence.split()) for sentence in sentences("page.md")]
    assert counts == [2, 4, 4, 2, 4, 2]
