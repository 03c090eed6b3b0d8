from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import torch

from retort.data.batches import (
    LENGTH_STEP,
    EncodedCorpus,
    Ragged,
    epoch_batches,
    length_batches,
    round_up,
    source_batches,
)
from retort.data.parquet import write_table
from retort.data.tables import ENCODED, MIXED
from retort.data.vocabulary import EOS, PAD
from retort.errors import RetortError
from tests.unit.fakes_models import sentences


def corpus(count: int, seed: int = 0, longest: int = 40) -> EncodedCorpus:
    lengths = np.random.default_rng(seed).integers(0, longest, (2, count))
    source, target = (Ragged.from_lists(sentences(lengths[i], seed=i)) for i in range(2))
    return EncodedCorpus(np.arange(count) + 100, source, target)


def test_padded_rows_end_with_eos_and_are_a_multiple_of_the_step_wide():
    ragged = Ragged.from_lists([[7, 8], [], [9, 9, 9], [6, 7, 8, 9]])
    assert ragged.padded(np.array([2, 0])).tolist() == [[9, 9, 9, EOS], [7, 8, EOS, PAD]]
    assert ragged.padded(np.array([3, 1])).tolist() == [
        [6, 7, 8, 9, EOS, PAD, PAD, PAD],
        [EOS, PAD, PAD, PAD, PAD, PAD, PAD, PAD],
    ]
    assert ragged.padded(np.array([0]), step=1).tolist() == [[7, 8, EOS]]
    assert Ragged.from_lists([[], []]).padded(np.array([1])).tolist() == [[EOS, PAD, PAD, PAD]]


def test_a_batch_holds_its_rows_and_counts_target_tokens():
    pairs = corpus(20)
    rows = np.array([3, 17, 5])
    batch = pairs.batch(rows)
    assert batch.ids.tolist() == [103, 117, 105]
    assert batch.target_tokens == int(pairs.target.lengths[rows].sum()) + 3
    for side, ragged in ((batch.source_bs, pairs.source), (batch.target_bt, pairs.target)):
        for found, row in zip(side, rows, strict=True):
            expected = ragged.tokens[ragged.offsets[row] : ragged.offsets[row + 1]].tolist()
            assert found[found != PAD].tolist() == [*expected, EOS]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("batch_tokens", [16, 100, 1000])
def test_an_epoch_holds_each_row_once_within_the_token_budget(seed, batch_tokens):
    pairs = corpus(150, seed)
    groups = epoch_batches(pairs, batch_tokens, seed, epoch=2)
    assert sorted(np.concatenate(groups).tolist()) == list(range(150))
    for rows in groups:
        batch = pairs.batch(rows)
        widest = max(batch.source_bs.shape[1], batch.target_bt.shape[1])
        assert len(rows) * widest <= batch_tokens or len(rows) == 1


def test_batches_are_full():
    lengths = np.full(50, 6)
    assert [len(rows) for rows in length_batches(lengths, 100)] == [12, 12, 12, 12, 2]


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch():
    pairs = corpus(150)
    orders = {
        key: [rows.tolist() for rows in epoch_batches(pairs, 100, *key)] for key in ((1, 0), (1, 1), (2, 0), (0, 1))
    }
    assert orders[1, 0] == [rows.tolist() for rows in epoch_batches(corpus(150), 100, 1, 0)]
    assert len({str(order) for order in orders.values()}) == 4
    # other batches, not just the same ones in another order
    assert sorted(map(sorted, orders[1, 0])) != sorted(map(sorted, orders[1, 1]))
    longer = np.maximum(pairs.source.lengths, pairs.target.lengths)
    widths = [int(longer[rows].max()) // LENGTH_STEP for rows in orders[1, 0]]
    assert widths != sorted(widths)


def test_source_batches_cover_all_rows_longest_first():
    source = corpus(60).source
    found = list(source_batches(source, 64))
    assert sorted(row for rows, _ in found for row in rows.tolist()) == list(range(60))
    assert all(torch.equal(source_bs, source.padded(rows)) for rows, source_bs in found)
    widths = [source_bs.shape[1] for _, source_bs in found]
    assert widths == sorted(widths, reverse=True)
    assert len(widths) > widths.count(LENGTH_STEP) > 0


def test_select_and_head_keep_rows_together():
    pairs = corpus(57)
    rows = np.array([50, 2, 2])
    lists = [pairs.source.tokens[pairs.source.offsets[r] : pairs.source.offsets[r + 1]].tolist() for r in rows]
    selected = pairs.source.select(rows)
    assert selected.tokens.tolist() == list(chain(*lists))
    assert selected.lengths.tolist() == [len(tokens) for tokens in lists]
    head = pairs.head(10)
    assert len(head) == len(set(head.ids.tolist())) == 10
    assert (head.ids[0], head.ids[-1]) == (100, 156)
    assert np.diff(head.ids).max() <= 7
    for number, row in enumerate(head.ids - 100):
        assert torch.equal(head.batch(np.array([number])).target_bt, pairs.batch(np.array([row])).target_bt)
    assert pairs.head(99).ids.tolist() == pairs.ids.tolist()


def write(path, sources, targets):
    rows = {"id": [10 + i for i in range(len(sources))], "source": sources, "target": targets}
    write_table(path, ENCODED, pa.table(rows, schema=ENCODED.schema))
    return path


def test_an_encoded_table_is_read(tmp_path):
    sources, targets = sentences([3, 0, 8]), sentences([2, 5, 0], seed=1)
    pairs = EncodedCorpus.read(write(tmp_path / "train.parquet", sources, targets), longest=9)
    assert pairs.ids.tolist() == [10, 11, 12]
    assert pairs.source.tokens.tolist() == list(chain(*sources))
    assert pairs.target.lengths.tolist() == [2, 5, 0]


def test_the_parts_of_a_table_are_mapped_from_one_file_a_side(tmp_path, monkeypatch):
    monkeypatch.setattr("retort.data.parquet.iterate_table.__defaults__", (7,))
    sources, targets = (sentences(np.random.default_rng(i).integers(0, 9, 60), seed=i) for i in range(2))
    pairs = EncodedCorpus.read(write(tmp_path / "train.parquet", sources, targets), longest=9)
    same = EncodedCorpus(pairs.ids, Ragged.from_lists(sources), Ragged.from_lists(targets))
    for found, expected in ((pairs.source, same.source), (pairs.target, same.target)):
        assert isinstance(found.tokens.base, np.memmap) and found.tokens.tolist() == expected.tokens.tolist()
        assert found.offsets.tolist() == expected.offsets.tolist()
    batches = [corpus.batch(rows) for corpus in (pairs, same) for rows in epoch_batches(corpus, 64, 1, 0)]
    for one, other in zip(batches[: len(batches) // 2], batches[len(batches) // 2 :], strict=True):
        assert torch.equal(one.source_bs, other.source_bs) and torch.equal(one.target_bt, other.target_bt)


def test_a_side_without_tokens_is_read(tmp_path):
    pairs = EncodedCorpus.read(write(tmp_path / "train.parquet", [[7], [8, 9]], [[], []]), longest=9)
    assert pairs.batch(np.array([1, 0])).target_bt[:, 0].tolist() == [EOS, EOS]


def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    path = write(tmp_path / "train.parquet", sentences([3, 4]), sentences([2, 9]))
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(RetortError, match="4 bytes per token .No space left on device.; set TMPDIR to a directory"):
        EncodedCorpus.read(path, longest=10)


def test_lengths_are_right_beyond_offsets_of_31_bits():
    offsets = np.array([2**31 - 3, 2**31 + 4, 2**33, 2**33 + 2**31 - 1])
    ragged = Ragged(np.zeros(0, np.int32), offsets)
    assert ragged.lengths.tolist() == np.diff(offsets).astype(np.int32).tolist()
    assert ragged.lengths.dtype == np.int32


def test_pairs_that_the_model_cannot_hold_are_dropped_and_counted(tmp_path, caplog):
    sources, targets = sentences([3, 4, 5, 9]), sentences([2, 9, 2, 2])
    path = write(tmp_path / "train.parquet", sources, targets)
    whole = EncodedCorpus.read(path, longest=10)
    assert (len(whole), whole.dropped, caplog.messages) == (4, 0, [])
    found = EncodedCorpus.read(path, longest=9)
    assert (found.ids.tolist(), found.dropped) == ([10, 12], 2)
    assert found.source.lists() == sources[::2] and found.target.lists() == targets[::2]
    assert "2 of 4 pair(s) longer than the model's 9 tokens, first id 11 with 4 source" in caplog.text


def test_pairs_that_the_model_cannot_hold_are_refused_where_asked_or_where_none_is_left(tmp_path):
    path = write(tmp_path / "train.parquet", sentences([3, 4, 5, 9]), sentences([2, 9, 2, 2]))
    with pytest.raises(RetortError, match=r"2 of 4 pair\(s\) .*; drop them by training.long_pairs: drop, or raise"):
        EncodedCorpus.read(path, longest=9, drop_longer=False)
    with pytest.raises(RetortError, match=r"4 of 4 pair\(s\) longer than the model's 2 tokens.*no pair is left"):
        EncodedCorpus.read(path, longest=2)


def test_a_source_is_dropped_with_both_of_its_targets(tmp_path):
    rows = {
        "id": [1, 2, 3, 1, 3],
        "source": sentences([3, 3, 3, 3, 3]),
        "target": sentences([9, 2, 2, 2, 2]),
        "distilled": [False, False, False, True, True],
        "similarity": [1.0, None, 2.0, 1.0, 2.0],
    }
    write_table(tmp_path / "mixed.parquet", MIXED, pa.table(rows, schema=MIXED.schema))
    found = EncodedCorpus.read(tmp_path / "mixed.parquet", longest=9, table=MIXED)
    assert (found.ids.tolist(), found.dropped, found.distilled.tolist()) == ([2, 3, 3], 2, [False, False, True])


def test_a_table_without_pairs_is_refused(tmp_path):
    with pytest.raises(RetortError, match="holds no pairs"):
        EncodedCorpus.read(write(tmp_path / "train.parquet", [], []), longest=9)


@pytest.mark.parametrize(("x", "expected"), [(0, 0), (1, 4), (4, 4), (5, 8)])
def test_round_up(x, expected):
    assert round_up(x, 4) == expected
    assert round_up(np.array([x, 9]), 4).tolist() == [expected, 12]


def test_pairs_that_are_dropped_are_counted_over_all_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("retort.data.parquet.iterate_table.__defaults__", (2,))
    path = write(tmp_path / "train.parquet", sentences([3, 9, 9, 3, 3]), sentences([2, 2, 2, 2, 2]))
    assert EncodedCorpus.read(path, longest=9).dropped == 2
