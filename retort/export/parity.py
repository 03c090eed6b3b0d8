"""What exporting changes: outputs of a bundle beside those of torch in float32, on real lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.data.compression import UNREADABLE, read_decompressed
from retort.data.parquet import read_table
from retort.data.references import references_of
from retort.data.runs import run_directory
from retort.data.tables import CORPUS
from retort.errors import RetortError
from retort.evaluation.metrics import score
from retort.filenames import table_name
from retort.runtime.system import Output, System

CHECKED_LINES = 1000
"""Lines of a run's test set that are compared; of a file that a user gives, all are."""


@dataclass(frozen=True)
class Lines:
    """Source lines, where they are from, and the references of each if there are any."""

    origin: str
    sources: list[str]
    references: list[list[str]] | None


def lines_of_file(path: Path, references: Path | None) -> Lines:
    """The lines of a file of sources, and of one of references. Raises RetortError if they do not fit."""
    sources = _read(path)
    if references is None:
        return Lines(path.name, sources, None)
    targets = _read(references)
    if len(targets) != len(sources):
        raise RetortError(
            f"{references}: {len(targets)} lines, and {path} has {len(sources)}; give one reference for each source"
        )
    return Lines(path.name, sources, [[line] for line in targets])


def lines_of_run(checkpoint: Path) -> Lines | None:
    """The first lines of the first test set of the run that a checkpoint is in, if it is in one."""
    run = run_directory(checkpoint)
    tests = sorted((run / "corpus").glob("test.*.parquet"))
    if not tests:
        return None
    names = [table_name(name) for name in _configured_tests(run)]
    first = next((path for name in names for path in tests if path.name == name), tests[0])
    table = read_table(first, CORPUS).slice(0, CHECKED_LINES)
    return Lines(f"{run.name}, {first.name}", table.column("source").to_pylist(), references_of(table))


def _configured_tests(run: Path) -> list[str]:
    """Names of the run's test sets, in the order of its configuration; none where that is not known."""
    try:
        return list(json.loads((run / "config.json").read_text(encoding="utf-8"))["corpus"]["tests"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def compare(exact: System, exported: System, lines: Lines) -> tuple[dict[str, Any], str | None]:
    """Facts about the differences for a bundle, and the first source whose output changed.

    ``bleu`` is the exported system's and ``bleu_difference`` what it gains over torch, both None without references.
    """
    expected, outputs = exact.translate(lines.sources), exported.translate(lines.sources)
    changed = [i for i, (a, b) in enumerate(zip(expected, outputs, strict=True)) if a.tokens != b.tokens]
    bleu = difference = None
    if lines.references:
        bleu = _bleu(outputs, lines.references)
        difference = bleu - _bleu(expected, lines.references)
    facts = {
        "lines": len(lines.sources),
        "origin": lines.origin,
        "sha256": hashlib.sha256("\n".join(lines.sources).encode()).hexdigest(),
        "changed_outputs": len(changed),
        "bleu": bleu,
        "bleu_difference": difference,
    }
    return facts, lines.sources[changed[0]] if changed else None


def _bleu(outputs: Sequence[Output], references: list[list[str]]) -> float:
    return score("BLEU", [output.text for output in outputs], references).value


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
