"""Outputs joined with their references, and their scores.

They are joined by ``id``, never by line order, and both sides must have the same ids: sacreBLEU would score one
hypothesis against two references without an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retort.config.tokenizers import AUTO
from retort.data.ids import SHOWN, check_ids, check_unique
from retort.data.parquet import read_provenance, read_table
from retort.data.references import references_of
from retort.data.tables import CORPUS, TRANSLATIONS
from retort.errors import RetortError
from retort.evaluation.metrics import Score, score
from retort.filenames import test_set_of


@dataclass(frozen=True)
class Pairs:
    """The best hypotheses of one test set with their references, in ascending order of id."""

    test_set: str
    ids: np.ndarray
    sources: list[str]
    references: list[list[str]]
    """All references of each source."""
    hypotheses: list[str]
    rows: pa.Table
    """The TRANSLATIONS rows of the hypotheses, in the same order."""


def read_tests(paths: Iterable[Path | str]) -> dict[str, pa.Table]:
    """Read test sets, named by their files: ``test.<name>.parquet``.

    Raises RetortError on other file names, an empty test set, a repeated name or id, and a source without a reference.
    """
    tests: dict[str, pa.Table] = {}
    for path in map(Path, paths):
        name = test_set_of(path)
        if name in tests:
            raise RetortError(f"{path}: a second test set named {name!r}; give each test set once")
        data = read_table(path, CORPUS).sort_by("id")
        if not data.num_rows:
            raise RetortError(f"{path}: an empty test set; expected at least one pair")
        check_unique(data["id"].to_numpy(), path, "run the stage that wrote the file again")
        without = data.filter(pc.equal(pc.list_value_length(data["references"]), 0))["id"].to_pylist()
        if without:
            raise RetortError(
                f"{path}: {len(without)} of {data.num_rows} sources have no reference, such as those with the ids "
                f"{without[:SHOWN]}; expected one or more of each: add them, or leave these sources out"
            )
        tests[name] = data
    if not tests:
        raise RetortError("no test set given; expected at least one file test.<test set>.parquet")
    return tests


def read_pairs(translations: Path | str, tests: dict[str, pa.Table]) -> list[Pairs]:
    """Join the best hypotheses (rank 0) of a TRANSLATIONS table to the references, one Pairs per test set.

    Raises RetortError unless the table holds exactly these test sets and, in each, exactly the references' ids.
    """
    data = read_table(translations, TRANSLATIONS)
    data = data.filter(pc.equal(data["rank"], 0))
    translated = set(pc.unique(data["test_set"]).to_pylist())
    if translated != set(tests):
        raise RetortError(
            f"{translations}: holds test sets {_names(translated)}, expected {_names(tests)}; "
            "translate the same test sets that are scored"
        )
    return [
        join(data.filter(pc.equal(data["test_set"], name)), corpus, test_set=name, origin=str(translations))
        for name, corpus in tests.items()
    ]


def join(translations: pa.Table, corpus: pa.Table, test_set: str, origin: str) -> Pairs:
    """Join rank-0 ``translations`` of one test set to its ``corpus`` by id.

    ``origin`` names the translations in errors. Raises RetortError when an id is repeated, missing or unknown.
    """
    corpus, translations = corpus.sort_by("id"), translations.sort_by("id")
    ids = corpus["id"].to_numpy()
    check_ids(
        translations["id"].to_numpy(),
        ids,
        where=f"{origin}, test set {test_set!r}",
        of="its references",
        advice="translate this test set again",
    )
    return Pairs(
        test_set=test_set,
        ids=ids,
        sources=corpus["source"].to_pylist(),
        references=references_of(corpus),
        hypotheses=translations["text"].to_pylist(),
        rows=translations,
    )


def quality(pairs: Pairs, metrics: Iterable[str], tokenizer: str = AUTO) -> list[Score]:
    """These metrics of one test set, in percent."""
    return [score(metric, pairs.hypotheses, references=pairs.references, tokenizer=tokenizer) for metric in metrics]


def with_teachers_named(rows: Iterable[dict[str, Any]], tests: Iterable[Path]) -> list[dict[str, Any]]:
    """Rows of scores, by test set; their signatures name the teacher where a test set has its outputs as references."""
    teachers = {test_set_of(path): read_provenance(path).get("references") for path in tests}
    notes = {name: f"|references:outputs of {teacher}" if teacher else "" for name, teacher in teachers.items()}
    return [{**row, "signature": row["signature"] + notes[row["test_set"]]} for row in rows]


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
