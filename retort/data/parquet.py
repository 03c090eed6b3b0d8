"""Reading and writing Parquet tables with a schema.

Every table is compressed with zstd. The file's metadata carries the schema's name and version, and the provenance.
A table is written to a temporary file that is synced and renamed, so a table that exists is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retort.data.files import is_special, move, no_file, temporary_path, writable
from retort.errors import RetortError

ROW_GROUP_ROWS = 65_536
METADATA_KEY = b"retort"
_REMEDY = "expected none: run the stage that writes the table again, or correct it"


@dataclass(frozen=True)
class Column:
    """One column: Arrow type, meaning, unit, and whether it may be null."""

    name: str
    type: pa.DataType
    description: str
    unit: str = ""
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A named, versioned schema."""

    name: str
    version: int
    columns: tuple[Column, ...]
    older: Mapping[int, Callable[[Path], dict[str, Any]]] = field(default_factory=dict)
    """Older versions that are still read: the values of the columns that they lack, from the path."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [c.name for c in self.columns]

    def of_rows(self, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        """Rows of this table; a column that a row lacks is null."""
        return pa.Table.from_pylist(list(rows), schema=self.schema)

    def of_columns(self, columns: Any) -> pa.Table:
        """Columns of this table, by name: a mapping or a data frame, which may have others too."""
        return pa.table({c.name: pa.array(columns[c.name], c.type) for c in self.columns})


def write_table(
    path: Path | str, table: Table, data: pa.Table | Iterable[pa.Table], provenance: dict[str, Any] | None = None
) -> int:
    """Write ``data`` (one Arrow table, or a stream of them) as ``table``; returns the number of rows.

    The file appears under its final name only when it is complete and on disk. A nullable column that is missing from
    the data is written as null. Raises RetortError if the data does not fit the schema.
    """
    path = Path(path)
    header = {"table": table.name, "version": table.version, "provenance": provenance or {}}
    schema = table.schema.with_metadata({METADATA_KEY: json.dumps(header, sort_keys=True).encode()})
    temporary = temporary_path(path)
    rows = 0
    try:
        with writable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True)
        try:
            # what makes the parts runs outside of the guard, so that its errors are its own
            for part in [data] if isinstance(data, pa.Table) else data:
                part = _completed(part, table)
                _check(part, table, path)
                with writable(path):
                    writer.write_table(part.select(table.names).cast(schema), row_group_size=ROW_GROUP_ROWS)
                rows += part.num_rows
        finally:
            with writable(path):
                writer.close()
        with writable(path):
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def open_table(path: Path | str, table: Table) -> pq.ParquetFile:
    """Open ``path``; raises RetortError unless it holds ``table`` in this version or one that is still read."""
    return _open(path, table)[0]


def _open(path: Path | str, table: Table) -> tuple[pq.ParquetFile, dict[str, Any]]:
    """The file, and the values of the columns that its older version lacks."""
    with _readable(path):
        file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
    header = _header(file, path)
    lacking: dict[str, Any] = {}
    if header["table"] == table.name and header["version"] in table.older:
        lacking = table.older[header["version"]](Path(path))
    elif (header["table"], header["version"]) != (table.name, table.version):
        same = header["table"] == table.name
        remedy = "delete it and run the stage that writes it again" if same else f"give a table {table.name}"
        raise RetortError(
            f"{path}: holds table {header['table']} version {header['version']}, expected {table.name} version "
            f"{table.version}; {remedy}"
        )
    names = file.schema_arrow.names
    if twice := [name for name in table.names if names.count(name) > 1]:
        raise RetortError(f"{path}: column {twice[0]!r} is there twice; run the stage that writes it again")
    missing = set(table.names) - set(names) - set(lacking)
    if missing:
        raise RetortError(
            f"{path}: a {table.name} table without column(s) {', '.join(sorted(missing))}; run the "
            f"stage that writes it again"
        )
    return file, lacking


def _stored(names: list[str], lacking: Mapping[str, Any]) -> list[str]:
    return [name for name in names if name not in lacking]


def _completed_and_checked(
    data: pa.Table, table: Table, path: Path | str, *, names: list[str], lacking: Mapping[str, Any], first: int = 0
) -> pa.Table:
    """The named columns with the table's schema, those that the file's version lacks filled in. ``first`` is the row of
    the file with which ``data`` begins. Raises RetortError if ``data`` does not fit."""
    for column in table.columns:
        if column.name in lacking and column.name in names:
            values = pa.repeat(pa.scalar(lacking[column.name], column.type), data.num_rows)
            data = data.append_column(column.name, values)
    data = data.select(names)
    _check(data, table, path=Path(path), columns=names, first=first)
    # another program may have written nullable columns, and parts that differ in that cannot be put together
    return data.cast(pa.schema([table.schema.field(name) for name in names]))


def read_table(path: Path | str, table: Table, columns: list[str] | None = None) -> pa.Table:
    """Read a whole table and check it; ``columns`` default to all, in the schema's order."""
    file, lacking = _open(path, table)
    names = columns or table.names
    with _readable(path):
        data = file.read(columns=_stored(names, lacking))
    return _completed_and_checked(data, table, path, names=names, lacking=lacking)


def iterate_table(path: Path | str, table: Table, rows: int = ROW_GROUP_ROWS) -> Iterator[pa.Table]:
    """Stream a table in parts of at most ``rows`` rows, each part checked."""
    file, lacking = _open(path, table)
    batches = file.iter_batches(batch_size=rows, columns=_stored(table.names, lacking))
    first = 0
    with _readable(path):
        for batch in batches:
            part = pa.Table.from_batches([batch])
            yield _completed_and_checked(part, table, path, names=table.names, lacking=lacking, first=first)
            first += part.num_rows


def iterate_shard(path: Path | str, table: Table, shard: int, shards: int, rows: int) -> Iterator[pa.Table]:
    """Stream a shard (numbered from 0), which is a contiguous range of the table, in parts of at most ``rows`` rows.

    The borders of the parts do not depend on the number of shards.
    """
    if not 0 <= shard < shards:
        raise RetortError(f"{path}: there is no shard {shard} of {shards}; number them from 0 to {shards - 1}")
    total = open_table(path, table).metadata.num_rows
    first = total * shard // shards
    last = total * (shard + 1) // shards
    position = 0
    for part in iterate_table(path, table, rows):
        start = max(first - position, 0)
        stop = min(last - position, part.num_rows)
        if start < stop:
            yield part.slice(start, stop - start)
        position += part.num_rows


def read_between(path: Path | str, table: Table, first: int, last: int, columns: list[str]) -> Iterator[pa.Table]:
    """Stream the rows with ids from ``first`` to ``last``; row groups that cannot hold any are not read."""
    file, lacking = _open(path, table)
    place = file.metadata.schema.names.index("id")
    start = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        ids, first_row, start = group.column(place).statistics, start, start + group.num_rows
        if ids is not None and ids.has_min_max and ids.min <= last and ids.max >= first:
            with _readable(path):
                part = file.read_row_group(number, columns=_stored(columns, lacking))
            part = _completed_and_checked(part, table, path, names=columns, lacking=lacking, first=first_row)
            yield part.filter(pc.and_(pc.greater_equal(part["id"], first), pc.less_equal(part["id"], last)))


def read_provenance(path: Path | str) -> dict[str, Any]:
    """Provenance that ``write_table`` stored with the table at ``path``."""
    with _readable(path):
        file = pq.ParquetFile(path)
    return _header(file, path)["provenance"]


def _header(file: pq.ParquetFile, path: Path | str) -> dict[str, Any]:
    metadata = file.schema_arrow.metadata or {}
    if METADATA_KEY not in metadata:
        raise RetortError(f"{path}: a Parquet file without Retort's header; expected one that Retort wrote")
    try:
        header = json.loads(metadata[METADATA_KEY])
        types = {"table": str, "version": int, "provenance": dict}
        if not all(isinstance(header[key], kind) for key, kind in types.items()):
            raise TypeError
        return {key: header[key] for key in types}
    except (ValueError, LookupError, TypeError, RecursionError):
        raise RetortError(f"{path}: Retort's header in it is damaged; run the stage that writes it again") from None


def _completed(data: pa.Table, table: Table) -> pa.Table:
    for column in table.columns:
        if column.nullable and column.name not in data.column_names:
            data = data.append_column(column.name, pa.nulls(data.num_rows, column.type))
    return data


def _check(data: pa.Table, table: Table, path: Path, columns: list[str] | None = None, first: int = 0) -> None:
    wanted = [c for c in table.columns if columns is None or c.name in columns]
    for column in wanted:
        if column.name not in data.column_names:
            raise RetortError(f"{path}: column {column.name!r} of table {table.name} is missing")
        values = data.column(column.name)
        if not _same_type(values.type, column.type):
            raise RetortError(f"{path}: column {column.name!r} is {values.type}, expected {column.type}")
        if values.null_count and not column.nullable:
            row = first + values.is_null().to_pylist().index(True)
            raise RetortError(f"{path}: column {column.name!r} is null in row {row}; {_REMEDY}")
        if pa.types.is_list(column.type) and pc.list_flatten(values).null_count:
            row = first + next(row for row, items in enumerate(values.to_pylist()) if None in (items or ()))
            raise RetortError(f"{path}: column {column.name!r} has a list with a null in row {row}; {_REMEDY}")


def _same_type(actual: pa.DataType, expected: pa.DataType) -> bool:
    if pa.types.is_list(expected):
        return pa.types.is_list(actual) and actual.value_type == expected.value_type
    return actual == expected


@contextmanager
def _readable(path: Path | str) -> Iterator[None]:
    """Turn errors of reading a Parquet file in the block into RetortError."""
    if is_special(Path(path)):
        raise RetortError(f"{path}: {no_file(Path(path))}; expected a table in Parquet")
    try:
        yield
    except FileNotFoundError:
        raise RetortError(f"{path}: no such file; expected a table in Parquet") from None
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise RetortError(
            f"{path}: not a readable Parquet file ({error}); if a run wrote it, delete it and run the stage again"
        ) from error
