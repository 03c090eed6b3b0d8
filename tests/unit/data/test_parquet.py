import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retort.data.parquet import (
    iterate_shard,
    iterate_table,
    read_between,
    read_provenance,
    read_table,
    write_table,
)
from retort.data.references import corpus_table
from retort.data.tables import CORPUS, ENCODED
from retort.errors import RetortError


def test_another_table_is_not_to_be_deleted(tmp_path):
    write_table(tmp_path / "t.parquet", CORPUS, corpus_table([0], ["source"], [["target"]]))
    with pytest.raises(RetortError, match=r"t\.parquet: holds table corpus version \d+, .*; give a table encoded$"):
        read_table(tmp_path / "t.parquet", ENCODED)


def test_a_damaged_table_is_one_clear_error_however_it_is_read(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, CORPUS, corpus_table(range(500), [f"source {i}" for i in range(500)], [["target"]] * 500))
    whole = path.read_bytes()
    readers = [lambda: read_table(path, CORPUS), lambda: list(iterate_table(path, CORPUS))]
    readers += [lambda: list(read_between(path, CORPUS, 0, 9, ["id", "source"])), lambda: read_provenance(path)]
    path.write_bytes(whole[:4] + bytes(3000) + whole[3004:])
    for read in readers[:3]:
        with pytest.raises(RetortError, match=r"t\.parquet: not a readable Parquet file"):
            read()
    path.write_bytes(whole[:-40])
    for read in readers:
        with pytest.raises(RetortError, match=r"t\.parquet: not a readable Parquet file"):
            read()
    path.unlink()
    for read in readers:
        with pytest.raises(RetortError, match=r"t\.parquet: no such file"):
            read()
    os.mkfifo(path)
    for read in readers:
        with pytest.raises(RetortError, match=r"t\.parquet: a pipe or a device, not a file"):
            read()


def test_a_flipped_bit_is_an_error_and_never_another_value(tmp_path):
    path = tmp_path / "t.parquet"
    table = corpus_table(range(200), [f"source {i * 7919}" for i in range(200)], [[f"target {i}"] for i in range(200)])
    write_table(path, CORPUS, table)
    whole, random = path.read_bytes(), np.random.default_rng(1)
    for place in random.choice(len(whole), 150, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            assert read_table(path, CORPUS).equals(table)
        except RetortError:
            continue


def test_what_fails_while_parts_are_made_keeps_its_own_error(tmp_path):
    def parts():
        yield corpus_table([1], ["a"], [["b"]])
        raise FileNotFoundError(2, "No such file", "teacher.bin")

    with pytest.raises(FileNotFoundError, match=r"teacher\.bin"):
        write_table(tmp_path / "table", CORPUS, parts())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shards", [1, 2, 4, 11, 15])
def test_every_row_is_in_one_shard(tmp_path, shards):
    path = tmp_path / "t.parquet"
    write_table(path, CORPUS, corpus_table(range(11), list("abcdefghijk"), [["x"]] * 11))
    parts = [[part["id"].to_pylist() for part in iterate_shard(path, CORPUS, i, shards, rows=3)] for i in range(shards)]
    assert [i for shard in parts for part in shard for i in part] == list(range(11))
    assert max(sum(map(len, shard)) for shard in parts) == -(-11 // shards)
    assert all(part[-1] % 3 == 2 for shard in parts for part in shard[:-1]), "borders are of the table"
    for shard in (-1, shards):
        with pytest.raises(RetortError, match=f"there is no shard {shard} of {shards}; number them from 0"):
            list(iterate_shard(path, CORPUS, shard, shards, rows=3))


def test_a_null_is_named_by_its_row_in_the_file_however_it_is_read(tmp_path):
    path, rows = tmp_path / "t.parquet", [{"id": i, "source": [i], "target": [i]} for i in range(40)]
    write_table(path, ENCODED, ENCODED.of_rows(rows))
    header = pq.read_schema(path).metadata
    readers = [lambda: read_table(path, ENCODED), lambda: list(iterate_table(path, ENCODED, rows=7))]
    readers += [lambda: list(read_between(path, ENCODED, 20, 39, ["id", "source"]))]
    for value, found in (([1, None], "has a list with a null in row 33"), (None, "is null in row 33")):
        rows[33]["source"] = value
        schema = pa.schema([field.with_nullable(True) for field in ENCODED.schema], header)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=10)
        for read in readers:
            with pytest.raises(RetortError, match=rf"t\.parquet: column 'source' {found}; expected none"):
                read()
