import hashlib
import random
import tracemalloc
from functools import partial

import numpy as np
import pytest

from retort.config import Carve
from retort.corpus import carving, cleaning
from retort.corpus.carving import REPEAT, SPLITS, carve, sharing_key
from retort.data.parquet import iterate_table
from retort.errors import RetortError
from tests.unit.fakes_evaluation import pairs_table


def components(pairs: list[tuple[str, str]]) -> list[set[int]]:
    """Connected components by the definition: merge until nothing changes."""
    found = [{i} for i in range(len(pairs))]
    keys = [{("source", sharing_key(s)), ("target", sharing_key(t))} for s, t in pairs]

    def touch(a: set[int], b: set[int]) -> bool:
        return any(keys[i] & keys[j] for i in a for j in b)

    merged = True
    while merged:
        merged = False
        for a in range(len(found)):
            for b in range(a + 1, len(found)):
                if touch(found[a], found[b]):
                    found[a] |= found.pop(b)
                    merged = True
                    break
            if merged:
                break
    return found


def corpus(seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    return [
        (f"quelle {rng.randrange(60)}{rng.choice(['', '!', '.'])}", f"Target {rng.randrange(120)}") for _ in range(60)
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_split_follows_its_definition(tmp_path, seed):
    pairs = corpus(seed)
    settings = Carve(valid_pairs=5, test_pairs=7, largest_component=6)
    splits = carve(pairs_table(tmp_path / "t.parquet", pairs), settings)

    small = [c for c in components(pairs) if len(c) <= 6]
    small.sort(key=lambda c: hashlib.sha256(min(f"{pairs[i][1]}\t{pairs[i][0]}" for i in c).encode()).hexdigest())
    expected = np.zeros(len(pairs), int)
    for split, wanted in ((1, 5), (2, 7)):
        while (expected == split).sum() < wanted:
            expected[list(small.pop(0))] = split
    assert splits.tolist() == expected.tolist()


def test_nothing_is_shared_and_the_order_of_lines_does_not_count(tmp_path):
    pairs = corpus(5)
    settings = Carve(valid_pairs=4, test_pairs=4)
    splits = carve(pairs_table(tmp_path / "a.parquet", pairs), settings)
    for side in (0, 1):
        keys = [{sharing_key(p[side]) for p, s in zip(pairs, splits, strict=True) if s == k} for k in range(3)]
        assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    order = random.Random(0).sample(range(len(pairs)), len(pairs))
    again = carve(pairs_table(tmp_path / "b.parquet", [pairs[i] for i in order]), settings)
    assert again.tolist() == splits[order].tolist()


def test_a_repeated_pair_counts_once_and_is_held_out_once(tmp_path):
    pairs = [(f"quelle {i}", f"target {i}") for i in range(200)]
    once = carve(pairs_table(tmp_path / "a.parquet", pairs), Carve(valid_pairs=20, test_pairs="10%"))
    assert [(once == split).sum() for split in range(3)] == [160, 20, 20]
    settings = Carve(valid_pairs=20, test_pairs="10%", largest_component=1)
    splits = carve(pairs_table(tmp_path / "b.parquet", pairs * 10), settings)
    assert splits[:200].tolist() == once.tolist()
    assert splits[200:].tolist() == np.where(once == 0, 0, REPEAT).tolist() * 9


def test_pairs_with_an_empty_side_stay_in_train(tmp_path):
    pairs = [(f"quelle {i}", f"target {i}" if i % 3 else "") for i in range(150)] + [("", "target 1")]
    splits = carve(pairs_table(tmp_path / "t.parquet", pairs), Carve(valid_pairs=30, test_pairs=30))
    assert [(splits == split).sum() for split in range(4)] == [91, 30, 30, 0]
    assert all(all(pair) for pair, split in zip(pairs, splits, strict=True) if split)


def test_rows_without_a_source_share_nothing_but_their_target(tmp_path):
    """As units of a translation memory that lack the source language."""
    pairs = [(f"quelle {i}", f"target {i}") for i in range(40)]
    empty = [("", target) for _, target in pairs[:38]]
    splits = carve(pairs_table(tmp_path / "t.parquet", pairs + empty), Carve(valid_pairs=5, test_pairs=5))
    assert [(splits == split).sum() for split in range(4)] == [68, 5, 5, 0]


def test_memory_is_some_bytes_per_pair(tmp_path, monkeypatch):
    for module in (carving, cleaning):
        monkeypatch.setattr(module, "iterate_table", partial(iterate_table, rows=100))
    pairs = [(f"quelle nummer {i} im text", f"line number {i} of a text") for i in range(5000)]
    path = pairs_table(tmp_path / "t.parquet", pairs)
    tracemalloc.start()
    carve(path, Carve(valid_pairs=100, test_pairs=100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * len(pairs)


def test_sharing_key():
    assert sharing_key("  Straße, \uff21\uff22\uff23—42! ") == sharing_key("STRASSE abc 42") == "strasse abc 42"
    assert sharing_key(" + -  ") == "+ -" != sharing_key("\U0001f600")
    assert sharing_key("❤\ufe0f") != sharing_key("☀\ufe0f") and sharing_key("❤\ufe0f ja") == "ja"
    assert SPLITS[0] == "train"


@pytest.mark.parametrize(("text", "other"), [("दिन", "दान"), ("मैं जाता हूँ", "मैं जाती हूँ"), ("ไป", "ไปี่"), ("ที่นี่", "ที่นั่น")])
def test_words_that_differ_in_their_marks_differ(text, other):
    assert sharing_key(text) != sharing_key(other) and sharing_key(f"«{text}!»") == text
    assert sharing_key("Cafe\u0301, año") == sharing_key("CAFÉ AN\u0303O") == "café año"


@pytest.mark.parametrize("pairs", [[], [("a", "b")] * 30, [("a", "b"), ("c", "d")]])
def test_too_few_pairs(tmp_path, pairs):
    with pytest.raises(RetortError, match=f"{len(set(pairs))} different pairs are too few to carve 2 and 2"):
        carve(pairs_table(tmp_path / "t.parquet", pairs), Carve(valid_pairs=2, test_pairs=2))


@pytest.mark.parametrize(("largest", "advice"), [(7, ", or set corpus.carve.largest_component to 8"), (3, "")])
def test_pairs_in_large_components(tmp_path, largest, advice):
    questions = [(f"passage {i}", f"question {i} {j}") for i in range(10) for j in range(8)]
    several = questions if advice else [("passage", target) for _, target in questions]
    path = pairs_table(tmp_path / "t.parquet", [*several, ("alone", "allein")])
    with pytest.raises(RetortError) as error:
        carve(path, Carve(valid_pairs=9, test_pairs=9, largest_component=largest))
    assert str(error.value) == (
        f"corpus.carve: 1 of 81 different pairs are in components of at most {largest}, which is not enough to carve "
        f"9 and 9 pairs: ask for fewer pairs{advice}"
    )
    if advice:
        splits = carve(path, Carve(valid_pairs=9, test_pairs=9, largest_component=8))
        assert (splits == 1).sum() >= 9 <= (splits == 2).sum()
