"""Decoded text as training text: what is joined, left out, held out and refused."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retort.data import parquet
from retort.data.parquet import write_table
from retort.data.tables import ENCODED, TRANSLATIONS
from retort.distillation import gathering
from retort.distillation.gathering import Gathered, Rows, filtered, held_out_ids, left_out_warning
from retort.errors import RetortError

IDS = [40, 3, 17, 8, 25, 11]


def words(rows):
    return [" ".join(map(str, row)) for row in rows]


VOCABULARY = SimpleNamespace(target_size=12, decode_target=words)


@pytest.fixture
def train(tmp_path):
    """Training pairs in no order; the source of each is its id."""
    rows = [{"id": id_, "source": [id_], "target": [9, 9]} for id_ in IDS]
    write_table(tmp_path / "train.parquet", ENCODED, pa.Table.from_pylist(rows, schema=ENCODED.schema))
    return tmp_path / "train.parquet"


def decoded(ids, flaws=(), token=None, rank=0):
    """One decoded row an id, its token 6 or 7; ``flaws`` names a row's flaw."""
    flaws = dict(flaws)
    tokens = {i: [] if flaws.get(i) == "empty" else [6 + i % 2, *([token] if token else [])] for i in ids}
    rows = [
        {
            "system": "teacher",
            "seed": 1,
            "search": "beam5",
            "id": i,
            "test_set": "train",
            "rank": rank,
            "text": words([tokens[i]])[0],
            "tokens": tokens[i],
            "score": 0.0,
            "truncated": flaws.get(i) == "truncated",
            "empty": flaws.get(i) == "empty",
            "passes": 1,
        }
        for i in ids
    ]
    return pa.Table.from_pylist(rows, schema=TRANSLATIONS.schema)


@pytest.fixture
def gathered(tmp_path, train):
    def make(*tables):
        paths = [tmp_path / f"{number}.parquet" for number in range(len(tables))]
        for path, table in zip(paths, tables, strict=True):
            write_table(path, TRANSLATIONS, table)
        return Gathered(Rows(paths, TRANSLATIONS, best=True), train, VOCABULARY)

    return make


@pytest.mark.parametrize("part", [1, 2, 4, 100])
@pytest.mark.parametrize("shards", [[6], [2, 4], [1, 1, 0, 3, 1]])
def test_targets_find_their_sources_in_any_order_and_flawed_ones_are_counted(gathered, monkeypatch, part, shards):
    monkeypatch.setattr(gathering, "PART_ROWS", part)
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 2)
    flaws = {17: "truncated", 3: "empty", 8: "truncated"}
    ids = iter(sorted(IDS, reverse=True))
    found = gathered(*(decoded([next(ids) for _ in range(size)], flaws) for size in shards), decoded(IDS, rank=1))
    pairs = pa.concat_tables(found.pairs()).to_pylist()
    assert pairs == [{"id": i, "source": [i], "target": [6 + i % 2]} for i in (11, 25, 40)]
    assert found.counts == {"pairs": 6, "truncated": 2, "empty": 1, "kept": 3}
    whole = list(found.decoded.parts(found.ids))
    assert pa.concat_tables(whole).equals(decoded(sorted(IDS), flaws))
    assert [len(rows) for rows in whole] == [len(IDS[at : at + part]) for at in range(0, 6, part)]


def test_of_tables_in_order_each_row_group_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 5)
    monkeypatch.setattr(gathering, "PART_ROWS", 10)
    for number in range(2):
        write_table(tmp_path / f"{number}.parquet", TRANSLATIONS, decoded(range(20 * number, 20 * number + 20)))
    groups, read = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda *args, **options: groups.append(args[1]) or read(*args, **options)
    )
    rows = Rows([tmp_path / "0.parquet", tmp_path / "1.parquet"], TRANSLATIONS)
    assert [part["id"].to_pylist() for part in rows.parts(np.arange(40), "id")] == [
        list(range(at, at + 10)) for at in range(0, 40, 10)
    ]
    assert groups == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (decoded(IDS[:-1]), r"0.parquet: its ids are not the 6 of .*: 1 missing \[11\]; decode"),
        (decoded([*IDS, 99]), r"0.parquet: its ids .*: 1 unknown \[99\]; decode"),
        (decoded([*IDS, 25]), r"0.parquet: ids occur more than once: \[25\]"),
        (decoded(IDS, token=12), r"0.parquet: token 12 of id 3 is beyond the vocabulary's 12; .* set vocabulary.path"),
        (decoded(IDS, token=-1), "0.parquet: token -1 of id 3 is negative; decode"),
        (decoded(IDS, dict.fromkeys(IDS, "empty")), "0.parquet: all 6 outputs are empty or cut .* train it longer"),
        (
            decoded(IDS).set_column(
                TRANSLATIONS.names.index("rejected"), "rejected", pa.array(["copied"] * 5 + ["ratio"])
            ),
            "all 6 outputs are rejected, .* By reason: copied 5, ratio 1; .* external_teacher.filters",
        ),
    ],
    ids=["missing", "unknown", "twice", "foreign", "negative", "flawed", "rejected"],
)
def test_what_does_not_fit_is_refused(gathered, rows, message):
    with pytest.raises(RetortError, match=message):
        list(gathered(rows).pairs())


@pytest.mark.parametrize(
    ("flaws", "error"),
    [
        ({3: "empty", 8: "truncated"}, None),
        ({3: "empty", 8: "truncated", 11: "truncated"}, None),
        (
            {3: "empty", 8: "truncated", 11: "truncated", 17: "truncated"},
            r"0.parquet: 4 of 6 outputs train nothing \(3 cut, 1 empty\). At most 50 % are allowed "
            r"by training.max_untrained; train the teacher longer",
        ),
    ],
)
def test_more_outputs_without_use_than_are_allowed_are_an_error(tmp_path, train, flaws, error):
    write_table(tmp_path / "0.parquet", TRANSLATIONS, decoded(IDS, flaws))
    rows = Rows([tmp_path / "0.parquet"], TRANSLATIONS)
    if error is None:
        assert Gathered(rows, train, VOCABULARY, max_untrained=0.5).counts["kept"] == 6 - len(flaws)
        return
    with pytest.raises(RetortError, match=error):
        Gathered(rows, train, VOCABULARY, max_untrained=0.5)


def judged(tmp_path, flaws, reasons):
    """Decoded rows of an external teacher, with a reason each."""
    rows = decoded(IDS, flaws)
    rejected = pa.array([reasons.get(i) for i in IDS], pa.string())
    write_table(
        tmp_path / "0.parquet",
        TRANSLATIONS,
        rows.set_column(TRANSLATIONS.names.index("rejected"), "rejected", rejected),
    )
    return Rows([tmp_path / "0.parquet"], TRANSLATIONS)


def test_what_filters_reject_is_left_out_on_purpose_and_warned_of(tmp_path, train):
    rows = judged(tmp_path, {}, dict.fromkeys(IDS[:5], "copied"))
    found = Gathered(rows, train, VOCABULARY, max_untrained=0.5)
    warning = left_out_warning("a", found.counts)
    assert "83.3 % of 6 outputs train nothing (5 rejected by filters); look at the table of rejected" in warning


def test_cut_and_empty_outputs_of_an_external_teacher_are_bounded_and_no_training_of_it_is_advised(tmp_path, train):
    flaws = {3: "empty", 8: "truncated", 11: "truncated"}
    rows = judged(tmp_path, flaws, {**flaws, 17: "copied"})
    found = Gathered(rows, train, VOCABULARY, max_untrained=0.5)
    assert found.counts == {"pairs": 6, "truncated": 2, "empty": 1, "rejected": 1, "kept": 2}
    expected = r"3 of 6 outputs .*\(2 cut, 1 empty, 1 rejected by filters\)\. At most 40 %"
    with pytest.raises(RetortError, match=expected) as error:
        Gathered(rows, train, VOCABULARY, max_untrained=0.4)
    for message in (str(error.value), left_out_warning("a", found.counts)):
        assert "external_teacher.max_length or max_tokens" in message and "longer" not in message


def test_cut_outputs_of_an_external_teacher_alone_train_nothing(tmp_path, train):
    flaws = dict.fromkeys(IDS, "truncated")
    with pytest.raises(RetortError, match=r"By reason: truncated 6; .* external_teacher.max_length or max_tokens"):
        Gathered(judged(tmp_path, flaws, flaws), train, VOCABULARY)


@pytest.mark.parametrize(("kept", "warned"), [(1000, False), (950, False), (949, True), (1, True)])
def test_above_a_twentieth_without_use_there_is_a_warning(kept, warned):
    counts = {"pairs": 1000, "truncated": 1000 - kept, "empty": 0, "kept": kept}
    assert bool(left_out_warning("distilled/encoded.parquet", counts)) == warned


def test_all_tables_of_outputs_that_train_nothing_are_meant(gathered):
    halves = (decoded(ids, dict.fromkeys(ids, "empty")) for ids in (IDS[:3], IDS[3:]))
    with pytest.raises(RetortError, match=r"0.parquet and 1 more: all 6 outputs are empty"):
        gathered(*halves)


@pytest.mark.parametrize("first", [0, 3, 5])
def test_text_that_its_tokens_do_not_say_was_decoded_with_another_vocabulary(gathered, monkeypatch, first):
    """Wherever in the table it begins."""
    monkeypatch.setattr(gathering, "COMPARED", 3)
    rows = decoded(sorted(IDS))
    text = [*rows["text"].to_pylist()[:first], *["ja"] * (len(IDS) - first)]
    foreign = rows.set_column(rows.schema.get_field_index("text"), "text", pa.array(text))
    with pytest.raises(RetortError, match=r"0.parquet: the tokens of id \d+, 'ja', decode to '\d'; .* vocabulary.path"):
        list(gathered(foreign).pairs())


def test_a_table_whose_columns_may_be_null_and_are_not_is_taken(tmp_path, train):
    """What set_column and other programs leave."""
    rows, path = decoded(IDS), tmp_path / "nullable.parquet"
    write_table(path, TRANSLATIONS, rows)
    nullable = pa.schema([field.with_nullable(True) for field in rows.schema], pq.read_schema(path).metadata)
    pq.write_table(rows.cast(nullable), path)
    found = Gathered(Rows([path], TRANSLATIONS, best=True), train, VOCABULARY)
    assert [row["id"] for row in pa.concat_tables(found.pairs()).to_pylist()] == sorted(IDS)
    assert pa.concat_tables(found.rows()).schema == TRANSLATIONS.schema


def test_the_last_token_of_a_vocabulary_is_not_foreign(gathered):
    assert sum(len(part) for part in gathered(decoded(IDS, token=11)).pairs()) == 6


def encoded(ids):
    rows = [{"id": id_, "source": [id_], "target": [6]} for id_ in ids]
    return pa.Table.from_pylist(rows, schema=ENCODED.schema)


def many(directory, ids, without_target=()):
    """An ENCODED table of these ids, some of them without a target."""
    rows = [{"id": id_, "source": [id_], "target": [] if id_ in without_target else [6]} for id_ in ids]
    write_table(directory / "many.parquet", ENCODED, pa.Table.from_pylist(rows, schema=ENCODED.schema))
    return directory / "many.parquet"


@pytest.mark.parametrize("count", [1, 20, 50])
def test_the_same_ids_are_held_out_whatever_text_is_there(tmp_path, count):
    every = np.arange(0, 300, 3)
    chosen = held_out_ids(many(tmp_path, every[::-1]), count)
    expected = set(chosen.tolist())
    assert len(expected) == count and expected <= set(every.tolist())
    for ids in (every[::-1], every[::3], every[50:], [i for i in every if i not in expected]):
        parts = [encoded(ids[:7]), encoded(ids[7:])]
        kept, held_out = (pa.concat_tables(filtered(parts, chosen, inside)) for inside in (False, True))
        assert held_out["id"].to_pylist() == [i for i in ids if i in expected]
        assert kept["id"].to_pylist() == [i for i in ids if i not in expected]


def test_held_out_ids_come_from_everywhere(tmp_path):
    ids = sorted(held_out_ids(many(tmp_path, range(0, 300, 3)), 30).tolist())
    assert ids[0] < 75 and ids[-1] > 225 and ids != list(range(ids[0], ids[0] + 90, 3))


def test_sources_without_a_target_are_held_out_only_where_none_has_one(tmp_path):
    pairs = held_out_ids(many(tmp_path, range(30)), 10).tolist()
    assert held_out_ids(many(tmp_path, range(300), without_target=range(30, 300)), 10).tolist() == pairs
    assert held_out_ids(many(tmp_path, range(30), without_target=range(30)), 10).tolist() == pairs


def test_at_most_half_the_pairs_can_be_held_out(tmp_path):
    with pytest.raises(RetortError, match=r"many.parquet: 51 of 100 pairs cannot be held out; lower em.held_out"):
        held_out_ids(many(tmp_path, range(100)), 51)
