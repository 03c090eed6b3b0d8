"""Decoded text as training text: what is joined, left out, held out and refused."""

from types import SimpleNamespace

import pyarrow as pa
import pytest

from retort.distillation.gathering import gather, split_held_out
from retort.errors import RetortError
from retort.tables import ENCODED, write_table

IDS = [40, 3, 17, 8, 25, 11]
VOCABULARY = SimpleNamespace(target_size=12)


@pytest.fixture
def train(tmp_path):
    """Training pairs in no order; the source of each is its id."""
    rows = [{"id": id_, "source": [id_], "target": [9, 9]} for id_ in IDS]
    write_table(tmp_path / "train.parquet", ENCODED, pa.Table.from_pylist(rows, schema=ENCODED.schema))
    return tmp_path / "train.parquet"


def decoded(ids, flaws=(), token=None):
    """One decoded row an id, its token 6 or 7; ``flaws`` names a row's flaw."""
    flaws = dict(flaws)
    columns = {
        "id": pa.array(ids, pa.int64()),
        "tokens": pa.array(
            [[] if flaws.get(i) == "empty" else [6 + i % 2, *([token] if token else [])] for i in ids],
            pa.list_(pa.int32()),
        ),
        "truncated": pa.array([flaws.get(i) == "truncated" for i in ids]),
        "empty": pa.array([flaws.get(i) == "empty" for i in ids]),
    }
    return pa.table(columns)


def test_targets_find_their_sources_and_flawed_ones_are_counted(train):
    flaws = {17: "truncated", 3: "empty", 8: "truncated"}
    found, counts = gather(decoded(sorted(IDS, reverse=True), flaws), train, VOCABULARY, ["x.parquet"])
    assert found.to_pylist() == [{"id": i, "source": [i], "target": [6 + i % 2]} for i in (11, 25, 40)]
    assert counts == {"pairs": 6, "truncated": 2, "empty": 1, "kept": 3}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (decoded(IDS[:-1]), r"x.parquet: 5 rows for the 6 pairs .*1 id\(s\) missing \[11\], 0 unknown"),
        (decoded([*IDS, 99]), r"x.parquet: 7 rows .*0 id\(s\) missing \[\], 1 unknown \[99\]"),
        (decoded([*IDS, 25]), "x.parquet: id 25 occurs 2 times"),
        (decoded(IDS, token=12), "x.parquet: holds token ids beyond"),
        (decoded(IDS, dict.fromkeys(IDS, "empty")), "x.parquet: all 6 outputs are empty or cut"),
    ],
    ids=["missing", "unknown", "twice", "foreign", "flawed"],
)
def test_what_does_not_fit_is_refused(train, rows, message):
    with pytest.raises(RetortError, match=message):
        gather(rows, train, VOCABULARY, ["x.parquet"])


def test_the_last_token_of_a_vocabulary_is_not_foreign(train):
    found, _ = gather(decoded(IDS, token=11), train, VOCABULARY, ["x.parquet"])
    assert found.num_rows == 6


def encoded(ids):
    rows = [{"id": id_, "source": [id_], "target": [6]} for id_ in ids]
    return pa.Table.from_pylist(rows, schema=ENCODED.schema)


@pytest.fixture
def many(tmp_path):
    """A hundred training pairs, ids with gaps and in no order."""
    write_table(tmp_path / "many.parquet", ENCODED, encoded([(7 * i) % 100 * 3 for i in range(100)]))
    return tmp_path / "many.parquet"


@pytest.mark.parametrize("count", [1, 20, 50])
def test_the_same_ids_are_held_out_whatever_text_is_there(many, count):
    every = [3 * i for i in range(100)]
    _, chosen = split_held_out(encoded(every), many, count)
    expected = set(chosen["id"].to_pylist())
    assert len(expected) == count
    for ids in (every[::-1], every[::3], every[50:], [i for i in every if i not in expected]):
        kept, held_out = split_held_out(encoded(ids), many, count)
        assert held_out["id"].to_pylist() == [i for i in ids if i in expected]
        assert kept["id"].to_pylist() == [i for i in ids if i not in expected]


def test_held_out_ids_come_from_everywhere(many):
    _, chosen = split_held_out(encoded([3 * i for i in range(100)]), many, 30)
    ids = sorted(chosen["id"].to_pylist())
    assert ids[0] < 75 and ids[-1] > 225 and ids != list(range(ids[0], ids[0] + 90, 3))


def test_at_most_half_the_pairs_can_be_held_out(many):
    with pytest.raises(RetortError, match=r"many.parquet: 51 of 100 pairs cannot be held out; lower em.held_out"):
        split_held_out(encoded([0, 3]), many, 51)
