"""Judging an external teacher's outputs before they train: filters, and the choice among several outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from sacrebleu.metrics.chrf import CHRF

from retort.config.external import ExternalSection
from retort.data.tables import JUDGEMENT, TRANSLATIONS
from retort.distillation.filters import REASONS, reason_against, thresholds

OUTPUTS, SOURCES, KEPT, NONE_LEFT = "outputs", "sources", "kept", "sources without an output"


class Judge:
    """Chooses one output per source, and counts what it rejects."""

    def __init__(self, section: ExternalSection) -> None:
        self.section = section
        self.counts: Counter[str] = Counter()

    def judge(
        self, part: pa.Table, sources: Mapping[int, str], references: Mapping[int, str]
    ) -> tuple[pa.Table, pa.Table]:
        """The chosen rows, one per source, and the rejected ones, of TRANSLATIONS rows that hold whole sources.

        Where every output is rejected, the first one is chosen, with its reason, so that every id has a row.
        """
        chosen: list[int] = []
        reasons: list[str | None] = []
        rejected: dict[int, str] = {}
        texts, truncated = part["text"].to_pylist(), part["truncated"].to_pylist()
        for rows in _by_source(part):
            number = part["id"][rows[0]].as_py()
            against = [
                reason_against(sources[number], texts[r], truncated=truncated[r], filters=self.section.filters)
                for r in rows
            ]
            good = [row for row, reason in zip(rows, against, strict=True) if reason is None]
            rejected |= {row: reason for row, reason in zip(rows, against, strict=True) if reason is not None}
            best = self._choice([texts[row] for row in good], references.get(number)) if good else 0
            chosen.append(good[best] if good else rows[0])
            reasons.append(rejected.get(chosen[-1]))
            self.counts.update({SOURCES: 1, OUTPUTS: len(rows), KEPT: int(bool(good)), NONE_LEFT: int(not good)})
        self.counts.update(rejected.values())
        return (
            _with(part.take(pa.array(chosen, pa.int64())), rank=[0] * len(chosen), rejected=reasons),
            _with(part.take(pa.array(list(rejected), pa.int64())), rejected=list(rejected.values())),
        )

    def _choice(self, texts: Sequence[str], reference: str | None) -> int:
        """Place of the chosen one of several texts."""
        if len(texts) == 1 or self.section.choose == "first":
            return 0
        if self.section.choose == "reference" and reference:
            return nearest(texts, reference)
        return minimum_bayes_risk(texts)

    def table(self) -> pa.Table:
        """The JUDGEMENT table of all that was judged."""
        limits = thresholds(self.section.filters)
        rows = [{"reason": name, "threshold": None, "count": self.counts[name]} for name in (SOURCES, OUTPUTS)]
        rows += [
            {"reason": reason, "threshold": limits[reason] or None, "count": self.counts[reason]}
            for reason in REASONS
            if limits[reason] is not None
        ]
        rows += [{"reason": name, "threshold": None, "count": self.counts[name]} for name in (NONE_LEFT, KEPT)]
        return JUDGEMENT.of_rows(rows)


def minimum_bayes_risk(texts: Sequence[str]) -> int:
    """Place of the text with the highest mean sentence chrF against all others; of equals the first one."""
    return max(range(len(texts)), key=lambda i: (_mean_chrf(texts[i], [*texts[:i], *texts[i + 1 :]]), -i))


def nearest(texts: Sequence[str], reference: str) -> int:
    """Place of the text with the highest sentence chrF against the reference; of equals the first one."""
    return max(range(len(texts)), key=lambda i: (_mean_chrf(texts[i], [reference]), -i))


_CHRF = CHRF()


def _mean_chrf(text: str, others: Sequence[str]) -> float:
    if not others:
        return 0.0
    return sum(_CHRF.sentence_score(text, [other]).score for other in others) / len(others)


def _by_source(part: pa.Table) -> Iterator[list[int]]:
    """Row numbers of each source, which are next to each other, in the order of ranks."""
    ids, ranks = part["id"].to_pylist(), part["rank"].to_pylist()
    rows: list[int] = []
    for row, number in enumerate(ids):
        if rows and number != ids[rows[0]]:
            yield sorted(rows, key=lambda r: ranks[r])
            rows = []
        rows.append(row)
    if rows:
        yield sorted(rows, key=lambda r: ranks[r])


def _with(rows: pa.Table, **columns: list[Any]) -> pa.Table:
    for name, values in columns.items():
        column = TRANSLATIONS.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, column.type))
    return rows
