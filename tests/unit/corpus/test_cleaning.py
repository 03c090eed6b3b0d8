from pathlib import Path

import numpy as np
import pytest

from retort.config import Cleaning, Draw
from retort.corpus import cleaning
from retort.data.parquet import read_table, write_table
from retort.data.references import corpus_table
from retort.data.tables import CORPUS
from tests.unit.fakes_evaluation import pairs_table

TRAIN = [
    ("a b", "x y"),  # 0 kept
    ("", "x"),  # 1 empty
    ("a", ""),  # 2 empty
    ("a " * 9, "x " * 9),  # 3 too long
    ("a", "x x x x x x"),  # 4 ratio: 9 against 4
    ("a", "x x x x x"),  # 5 kept: 8 = 2 * 4
    ("a b", "x y"),  # 6 duplicate of 0
    ("a b", "x z"),  # 7 kept: another target
    ("held source", "new"),  # 8 leak
    ("new", "held target"),  # 9 leak
    ("held target", "held source"),  # 10 kept: sides are told apart
    ("held source", "new"),  # 11 duplicate (and leak)
]
SETTINGS = Cleaning(max_words=8, max_ratio=2)


@pytest.fixture
def held_out(tmp_path):
    result = cleaning.HeldOut()
    result.add(read_table(pairs_table(tmp_path / "valid.parquet", [("held source", "held target")]), CORPUS))
    return result


def named(verdicts: np.ndarray) -> dict[int, str]:
    return {row: cleaning.REASONS[code] for row, code in enumerate(verdicts) if code}


def test_every_reason(tmp_path, held_out):
    verdicts = cleaning.judge_training(pairs_table(tmp_path / "t.parquet", TRAIN), SETTINGS, held_out)
    assert named(verdicts) == {
        1: "empty",
        2: "empty",
        3: "too_long",
        4: "ratio",
        6: "duplicate",
        8: "leak",
        9: "leak",
        11: "duplicate",
    }
    counted = cleaning.counts(verdicts)
    assert counted == {
        "read": 12, "kept": 4, "empty": 2, "too_long": 1, "ratio": 1, "duplicate": 2, "leak": 2, "not_drawn": 0,
    }  # fmt: skip
    assert cleaning.kept(verdicts).sum() == 4


def test_texts_that_differ_in_white_space_alone_are_the_same(tmp_path, held_out):
    pairs = [
        ("a b", "x y"),
        ("a\u00a0 b", "x\ty"),
        ("a", "b x y"),
        ("held\tsource", "new"),
        ("new", "held\u2009 target"),
    ]
    path = pairs_table(tmp_path / "t.parquet", pairs)
    assert named(cleaning.judge_training(path, SETTINGS, held_out)) == {1: "duplicate", 3: "leak", 4: "leak"}
    assert read_table(path, CORPUS)["source"].to_pylist()[1] == "a\u00a0 b"


def test_rules_can_be_turned_off(tmp_path, held_out):
    settings = Cleaning(max_words=None, max_ratio=None, drop_duplicates=False, drop_leaks=False)
    verdicts = cleaning.judge_training(pairs_table(tmp_path / "t.parquet", TRAIN), settings, held_out)
    assert named(verdicts) == {1: "empty", 2: "empty"}


def test_a_draw_is_of_clean_pairs_and_by_seed(tmp_path, held_out):
    pairs = [(f"a{i}", f"x{i}") for i in range(50)] + [("", "")] * 50
    path = pairs_table(tmp_path / "t.parquet", pairs)
    draws = [cleaning.judge_training(path, SETTINGS, held_out, Draw(20, seed)) for seed in (1, 1, 2)]
    assert cleaning.counts(draws[0])["kept"] == 20
    assert cleaning.counts(draws[0])["not_drawn"] == 30
    assert not cleaning.kept(draws[0])[50:].any()
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()
    assert cleaning.counts(cleaning.judge_training(path, SETTINGS, held_out, Draw(1000, 1)))["kept"] == 50


@pytest.mark.parametrize("references", [True, False])
def test_a_draw_leaves_monolingual_text_beside_it(tmp_path, held_out, references):
    sources, targets = [f"a{i}" for i in range(60)], [[f"x{i}"] if references else [] for i in range(20)] + [[]] * 40
    write_table(tmp_path / "t", CORPUS, corpus_table(range(60), sources, targets))
    verdicts = cleaning.judge_training(tmp_path / "t", SETTINGS, held_out, Draw(8, 1), monolingual=40)
    assert cleaning.kept(verdicts)[:20].sum() == 8 and cleaning.kept(verdicts)[20:].all()


def test_monolingual_text_repeats_no_source_that_is_kept(tmp_path, held_out):
    """One of a pair that is not drawn, or dropped for its target alone, is new to train."""
    pairs = [(f"a{i}", [f"x{i}"]) for i in range(4)] + [("b", ["held target"]), ("c", ["z"]), ("c", ["y"])]
    lines = ["a0", "a1", "a2", "a3", "b", "c", "d", "d ", "held source", "held source"]
    rows = [*pairs, *((line, []) for line in lines)]
    write_table(tmp_path / "t", CORPUS, corpus_table(range(len(rows)), *zip(*rows, strict=True)))
    verdicts = cleaning.judge_training(tmp_path / "t", SETTINGS, held_out, monolingual=len(lines))
    repeated = dict.fromkeys((7, 8, 9, 10, 12, 14, 16), "duplicate")
    assert named(verdicts) == {4: "leak", **repeated, 15: "leak"}
    drawn = cleaning.judge_training(tmp_path / "t", SETTINGS, held_out, Draw(3, 1), monolingual=len(lines))
    assert {pairs[row][0] for row in np.flatnonzero(cleaning.kept(drawn)[:7])} | {
        lines[row] for row in np.flatnonzero(cleaning.kept(drawn)[7:])
    } == {"a0", "a1", "a2", "a3", "b", "c", "d"}
    without = Cleaning(drop_duplicates=False)
    verdicts = cleaning.judge_training(tmp_path / "t", without, held_out, monolingual=len(lines))
    assert named(verdicts) == {4: "leak", 15: "leak", 16: "leak"}


def test_held_out_sets_lose_only_empty_sides(tmp_path):
    verdicts = cleaning.judge_held_out(pairs_table(tmp_path / "t.parquet", TRAIN))
    assert named(verdicts) == {1: "empty", 2: "empty"}
    assert len(cleaning.judge_held_out(pairs_table(tmp_path / "e.parquet", []))) == 0


def test_several_parts(tmp_path, held_out, monkeypatch):
    monkeypatch.setattr("retort.data.parquet.iterate_table.__defaults__", (5,))
    verdicts = cleaning.judge_training(pairs_table(tmp_path / "t.parquet", TRAIN), SETTINGS, held_out)
    assert sorted(named(verdicts)) == [1, 2, 3, 4, 6, 8, 9, 11]


def test_a_source_alone_has_a_length_and_no_ratio(tmp_path: Path):
    path = tmp_path / "train.parquet"
    write_table(path, CORPUS, corpus_table([0, 1], ["a " * 7 + "a", "a " * 8 + "a"], [[], []]))
    verdicts = cleaning.judge_training(path, SETTINGS, cleaning.HeldOut())
    assert [cleaning.REASONS[code] for code in verdicts] == ["kept", "too_long"], "max_words words are allowed"
