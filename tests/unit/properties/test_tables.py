"""Tables come back as they were written, and damage never becomes other text."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retort.data.parquet import iterate_table, read_provenance, read_table, write_table
from retort.data.references import corpus_table, references_of
from retort.data.tables import CORPUS
from retort.errors import RetortError
from tests.unit.properties.strategies import few, texts

rows = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), max_size=10)


def written(directory: str, content: list[tuple[str, list[str]]]) -> tuple[Path, pa.Table]:
    path = Path(directory, "train.parquet")
    table = corpus_table(range(len(content)), [source for source, _ in content], [texts for _, texts in content])
    write_table(path, CORPUS, table, {"origin": "a property"})
    return path, table


@pytest.mark.slow
@few
@given(rows, st.integers(1, 4))
def test_a_table_comes_back_whole_and_in_parts(content, size):
    with tempfile.TemporaryDirectory() as directory:
        path, _ = written(directory, content)
        table = read_table(path, CORPUS)
        assert table["source"].to_pylist() == [source for source, _ in content]
        assert references_of(table) == [texts for _, texts in content]
        parts = [row for part in iterate_table(path, CORPUS, rows=size) for row in part.to_pylist()]
        assert parts == table.to_pylist() and read_provenance(path) == {"origin": "a property"}


@pytest.mark.slow
@few
@given(rows.filter(bool), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_one_flipped_bit_is_an_error_or_changes_nothing(content, where, bit):
    with tempfile.TemporaryDirectory() as directory:
        path, _ = written(directory, content)
        expected = read_table(path, CORPUS).to_pylist()
        data = bytearray(path.read_bytes())
        data[int(where * len(data))] ^= 1 << bit
        path.write_bytes(data)
        try:
            found = read_table(path, CORPUS).to_pylist()
        except RetortError as error:
            assert str(path) in str(error)
        else:
            assert found == expected
