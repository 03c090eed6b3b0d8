"""What exporting changes: outputs of a bundle beside those of torch in float32, on real lines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from retort.config.tokenizers import AUTO, Tokenizer
from retort.data.compression import UNREADABLE, read_decompressed
from retort.data.parquet import read_table
from retort.data.references import references_of
from retort.data.runs import run_directory
from retort.data.tables import CORPUS
from retort.errors import RetortError
from retort.evaluation.metrics import score
from retort.filenames import table_name
from retort.runtime.system import System

CHECKED_LINES = 1000
"""Lines of a run's test set that are compared; of a file that a user gives, all are."""


@dataclass(frozen=True)
class Lines:
    """Source lines, where they are from, and the references of each if there are any."""

    origin: str
    sources: list[str]
    references: list[list[str]] | None
    tokenizer: str = AUTO
    """What BLEU splits texts with."""


def lines_of_file(path: Path, references: Path | None, checkpoint: Path | None = None) -> Lines:
    """The lines of a file of sources, and of one of references, with the tokenizer of the run that a checkpoint is in.
    Raises RetortError if they do not fit."""
    tokenizer = _configured_tokenizer(run_directory(checkpoint)) if checkpoint else AUTO
    sources = _read(path)
    if references is None:
        return Lines(path.name, sources, None, tokenizer)
    targets = _read(references)
    if len(targets) != len(sources):
        raise RetortError(
            f"{references}: {len(targets)} lines, and {path} has {len(sources)}; give one reference for each source"
        )
    return Lines(path.name, sources, [[line] for line in targets], tokenizer)


def lines_of_run(checkpoint: Path) -> Lines | None:
    """The first lines of the first test set of the run that a checkpoint is in, if it is in one."""
    run = run_directory(checkpoint)
    tests = sorted((run / "corpus").glob("test.*.parquet"))
    if not tests:
        return None
    names = [table_name(name) for name in _configured_tests(run)]
    first = next((path for name in names for path in tests if path.name == name), tests[0])
    table = read_table(first, CORPUS).slice(0, CHECKED_LINES)
    sources, references = table.column("source").to_pylist(), references_of(table)
    return Lines(f"{run.name}, {first.name}", sources, references, _configured_tokenizer(run))


def _configured_tests(run: Path) -> list[str]:
    """Names of the run's test sets, in the order of its configuration; none where that is not known."""
    tests = _configured(run, "corpus", "tests")
    return list(tests) if isinstance(tests, dict) else []


def _configured_tokenizer(run: Path) -> str:
    """The tokenizer of the run's scores; that for the writing of the references where it is not known."""
    name = _configured(run, "evaluation", "tokenizer")
    return str(name) if name in get_args(Tokenizer) else AUTO


def _configured(run: Path, section: str, key: str) -> Any:
    """A value of the run's configuration; None where that is not known."""
    try:
        return json.loads((run / "config.json").read_text(encoding="utf-8"))[section][key]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compare(exact: System, exported: System, lines: Lines) -> tuple[dict[str, Any], str | None]:
    """Facts about the differences for a bundle, and the first source whose output changed.

    ``bleu`` is the exported system's, ``bleu_difference`` what it gains over torch, and ``bleu_signature`` sacreBLEU's
    of both; None without references.
    """
    expected, outputs = exact.translate(lines.sources), exported.translate(lines.sources)
    changed = [i for i, (a, b) in enumerate(zip(expected, outputs, strict=True)) if a.tokens != b.tokens]
    bleu = difference = signature = None
    if lines.references:
        own, torch = (
            score("BLEU", [output.text for output in texts], lines.references, lines.tokenizer)
            for texts in (outputs, expected)
        )
        bleu, difference, signature = own.value, own.value - torch.value, own.signature
    facts = {
        "lines": len(lines.sources),
        "origin": lines.origin,
        "sha256": hashlib.sha256("\n".join(lines.sources).encode()).hexdigest(),
        "changed_outputs": len(changed),
        "bleu": bleu,
        "bleu_difference": difference,
        "bleu_signature": signature,
    }
    return facts, lines.sources[changed[0]] if changed else None


def _read(path: Path) -> list[str]:
    try:
        lines = read_decompressed(path.read_bytes()).decode("utf-8").removeprefix("\ufeff").split("\n")
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise RetortError(f"{path}: cannot be read ({error}); expected lines of UTF-8 text") from None
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise RetortError(f"{path}: no line in it; expected lines to compare outputs of")
    return [line.strip() for line in lines]
