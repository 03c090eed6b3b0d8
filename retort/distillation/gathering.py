"""Joins decoded shards to their sources by id, as training text; flawed outputs are left out and counted.

Outputs without tokens are text of an external teacher, and are encoded with the students' vocabulary.

Tables are read by ranges of ids. In memory are one part of the text, and a few bytes per pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retort.config.training import WARNED
from retort.data.ids import check_ids
from retort.data.parquet import ROW_GROUP_ROWS, Table, iterate_table, read_between, read_provenance, read_table
from retort.data.tables import ENCODED
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError

PART_ROWS = 2 * ROW_GROUP_ROWS
"""Ids per part. A table in the order of ids is read once, another table once per part."""

COMPARED = 1000
"""Outputs per part, spread over it, whose text is compared with their decoded tokens."""

_REMEDY = (
    "train the teacher longer where its validation scores are low, and raise model.max_length where sources are longer"
)
_EXTERNAL_REMEDY = (
    "look at the table of rejected outputs; raise external_teacher.max_length or max_tokens where outputs ended by "
    "length, and see external_teacher.filters"
)


class Rows:
    """The rows of some files of one table, by id."""

    def __init__(self, paths: Sequence[Path | str], table: Table, best: bool = False) -> None:
        """``best``: only rows of rank 0."""
        self.paths, self.table, self.best = list(paths), table, best

    def column(self, name: str) -> np.ndarray:
        """A column of all rows, in the order of the files."""
        names = [name, "rank"] if self.best else [name]
        parts = [self._chosen(read_table(path, self.table, names)) for path in self.paths]
        return np.concatenate([part[name].to_numpy() for part in parts])

    def between(self, first: int, last: int, *names: str) -> pa.Table:
        """The named columns (all, if none is named) of the rows with ids from ``first`` to ``last``, in their order."""
        wanted = [*(names or self.table.names)]
        read = [*dict.fromkeys([*wanted, "id", *(["rank"] if self.best else [])])]
        rows = [self.table.schema.empty_table().select(read)]
        for path in self.paths:
            parts = read_between(path, self.table, first=first, last=last, columns=read)
            rows += [self._chosen(part) for part in parts]
        return pa.concat_tables(rows).sort_by("id").select(wanted)

    def parts(self, ids: np.ndarray, *names: str) -> Iterator[pa.Table]:
        """The named columns of all rows, in parts of PART_ROWS ids; ``ids`` are the sorted ids of all rows."""
        for start in range(0, len(ids), PART_ROWS):
            part = ids[start : start + PART_ROWS]
            yield self.between(part[0], part[-1], *names)

    def _chosen(self, rows: pa.Table) -> pa.Table:
        return rows.filter(pc.equal(rows["rank"], 0)) if self.best else rows


class Gathered:
    """The training sources with their decoded targets, without outputs that are empty, cut at the length limit, or
    rejected."""

    def __init__(
        self,
        decoded: Rows,
        train: Path | str,
        vocabulary: Vocabulary,
        names: Sequence[Path | str] | None = None,
        max_untrained: float = 1.0,
    ) -> None:
        """``decoded`` has the columns id, tokens, text, truncated and empty, perhaps rejected, and each id of ``train``
        once.

        Errors name the files ``names``; default: those of ``decoded``. Raises RetortError if ids are missing, unknown
        or repeated, if no pair would be left, or if a larger share than ``max_untrained`` is empty or cut; what filters
        reject is left out on purpose.
        """
        self.decoded, self.train, self.vocabulary = decoded, Rows([train], ENCODED), vocabulary
        self.names = names or decoded.paths
        self._where = f"{self.names[0]}{f' and {len(self.names) - 1} more' if len(self.names) > 1 else ''}"
        self.ids = np.sort(self.train.column("id"))
        check_decoded(decoded.column("id"), self.ids, train=train, names=self.names)
        truncated, empty = decoded.column("truncated"), decoded.column("empty")
        self.flaws = ["truncated", "empty", *(["rejected"] if "rejected" in decoded.table.names else [])]
        judged = np.zeros_like(empty)
        if "rejected" in self.flaws:
            judged = np.array([reason is not None for reason in decoded.column("rejected")], dtype=bool)
        # the reasons of an external teacher's outputs name the other flaws, too
        rejected = judged & ~truncated & ~empty
        self.counts: dict[str, int] = {
            "pairs": len(self.ids),
            "truncated": int(truncated.sum()),
            "empty": int(empty.sum()),
            **({"rejected": int(rejected.sum())} if judged.any() else {}),
            "kept": int((~truncated & ~empty & ~judged).sum()),
        }
        if not self.counts["kept"]:
            raise RetortError(f"{self._where}: {self._nothing_left()}")
        flawed = len(self.ids) - self.counts["kept"] - self.counts.get("rejected", 0)
        if flawed > max_untrained * len(self.ids):
            raise RetortError(
                f"{self._where}: {flawed:,} of {len(self.ids):,} outputs train nothing ({_flaws(self.counts)}). At "
                f"most {100 * max_untrained:g} % are allowed by training.max_untrained; {_remedy(self.counts)}"
            )

    def _nothing_left(self) -> str:
        """Why no output can be trained on."""
        if not _is_external(self.counts):
            return (
                f"all {len(self.ids)} outputs are empty or cut at the length limit: the teacher has not learned to "
                f"translate; look at its validation scores, and train it longer"
            )
        reasons = Counter(reason for reason in self.decoded.column("rejected") if reason is not None)
        found = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        return f"all {len(self.ids)} outputs are rejected, empty or cut. By reason: {found}; {_EXTERNAL_REMEDY}"

    def pairs(self) -> Iterator[pa.Table]:
        """Parts of the ENCODED table, in the order of ids. Raises RetortError for tokens of another vocabulary."""
        names = ("id", "tokens", "text", *self.flaws)
        sources = self.train.parts(self.ids, "source")
        for decoded, source in zip(self.decoded.parts(self.ids, *names), sources, strict=True):
            tokens = self._tokens(decoded)
            both = pa.table({"id": decoded["id"], "source": source["source"], "target": tokens})
            yield both.filter(trainable(decoded))

    def rows(self) -> Iterator[pa.Table]:
        """Parts of the decoded table with the tokens of every row, in the order of ids."""
        for part in self.decoded.parts(self.ids):
            place = part.schema.get_field_index("tokens")
            yield part.set_column(place, part.schema.field(place), self._tokens(part))

    def _tokens(self, decoded: pa.Table) -> pa.ChunkedArray:
        """The tokens of each row; text without tokens is encoded."""
        tokens = decoded["tokens"]
        if not tokens.null_count:
            self._check_tokens(decoded)
            return tokens
        if tokens.null_count < len(tokens):
            raise RetortError(f"{self._where}: some rows have tokens and some have none; decode this corpus again")
        return pa.chunked_array([self.vocabulary.encode_target(decoded["text"].to_pylist())], tokens.type)

    def _check_tokens(self, decoded: pa.Table) -> None:
        other = "it was decoded with another vocabulary: set vocabulary.path to that one"
        tokens, size = decoded["tokens"], self.vocabulary.target_size
        bounds = pc.min_max(pc.list_flatten(tokens)).as_py()
        for bound, what in (("min", "is negative"), ("max", f"is beyond the vocabulary's {size}")):
            token = bounds[bound] or 0
            if not 0 <= token < size:
                row = next(row for row, ids in enumerate(tokens.to_pylist()) if token in ids)
                advice = other if token >= size else "decode this corpus again"
                raise RetortError(f"{self._where}: token {token} of id {decoded['id'][row]} {what}; {advice}")
        last = len(decoded) - 1
        compared = decoded.take(np.unique(np.linspace(0, last, min(COMPARED, len(decoded))).astype(np.int64)))
        texts = self.vocabulary.decode_target(compared["tokens"].to_pylist())
        for id_, here, there in zip(compared["id"].to_pylist(), texts, compared["text"].to_pylist(), strict=True):
            if here != there:
                raise RetortError(f"{self._where}: the tokens of id {id_}, {there!r}, decode to {here!r}; {other}")


def left_out_warning(text: Path | str, counts: Mapping[str, Any]) -> str | None:
    """A warning where more than a twentieth of the outputs are left out of the training text ``text``. ``counts`` are
    those of ``Gathered``."""
    left_out = counts["pairs"] - counts["kept"]
    if left_out <= WARNED * counts["pairs"]:
        return None
    share = 100 * left_out / counts["pairs"]
    return f"{text}: {share:.3g} % of {counts['pairs']:,} outputs train nothing ({_flaws(counts)}); {_remedy(counts)}"


def _is_external(counts: Mapping[str, Any]) -> bool:
    """Whether the left-out outputs are an external teacher's, which alone are judged."""
    return "rejected" in counts


def _remedy(counts: Mapping[str, Any]) -> str:
    return _EXTERNAL_REMEDY if _is_external(counts) else _REMEDY


def _flaws(counts: Mapping[str, Any]) -> str:
    """The flaws of outputs, an output with two under both."""
    flaws = {"cut": "truncated", "empty": "empty", "rejected by filters": "rejected"}
    return ", ".join(f"{counts[flaw]:,} {what}" for what, flaw in flaws.items() if counts.get(flaw))


def trainable(decoded: pa.Table) -> pa.ChunkedArray:
    """Whether each output is training text: it is not empty, cut at the length limit, or rejected."""
    flawed = pc.or_(decoded["truncated"], decoded["empty"])
    if "rejected" in decoded.column_names:
        flawed = pc.or_(flawed, pc.is_valid(decoded["rejected"]))
    return pc.invert(flawed)


def held_out_ids(train: Path | str, count: int) -> np.ndarray:
    """``count`` ids of the ENCODED table ``train``, which no iteration trains on; the draw is always the same.

    They are drawn from the sources with a target, or from all where none has one. Raises RetortError if fewer than half
    of those would be left to train on.
    """
    every = Rows([train], ENCODED).column("id")
    paired = [
        part["id"].to_numpy()[pc.list_value_length(part["target"]).to_numpy() > 0]
        for part in iterate_table(train, ENCODED)
    ]
    ids = np.sort(np.concatenate(paired) if any(map(len, paired)) else every)
    if 2 * count > len(ids):
        raise RetortError(f"{train}: {count} of {len(ids)} pairs cannot be held out; lower em.held_out")
    return np.random.default_rng(0).choice(ids, count, replace=False)


def filtered(parts: Iterable[pa.Table], ids: np.ndarray, inside: bool) -> Iterator[pa.Table]:
    """The rows whose id is among ``ids``; with ``inside`` false, the other rows."""
    values = pa.array(ids)
    for part in parts:
        is_inside = pc.is_in(part["id"], values)
        yield part.filter(is_inside if inside else pc.invert(is_inside))


def check_sources(translations: Path | str, train: Path | str) -> str | None:
    """The digest of the sources of the ENCODED table ``train``; None where it has none.

    Raises RetortError if the TRANSLATIONS table was gathered for other sources.
    """
    own, given = (read_provenance(path).get("sources") for path in (train, translations))
    if own and given and own != given:
        raise RetortError(
            f"{translations}: its translations are of other sources (sha256 {given[:12]}) than those of {train} "
            f"({own[:12]}), so ids name other texts; give distillation.corpus a table of this corpus, or leave it out"
        )
    return own


def check_decoded(ids: np.ndarray, expected: np.ndarray, train: Path | str, names: Sequence[Path | str]) -> None:
    """Raises RetortError unless ``ids``, of the files ``names``, are the ``expected`` ones of ``train``, each once."""
    where = ", ".join(str(path) for path in names)
    check_ids(ids, expected, where=where, of=train, advice="decode this corpus again")
