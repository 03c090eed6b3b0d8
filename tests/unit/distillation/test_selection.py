"""The E-step's choice among candidates, against rules written out in plain Python."""

import math
import random

import pandas as pd
import pyarrow as pa
import pytest

from retort.config import Em
from retort.data.parquet import write_table
from retort.data.tables import SELECTION, TRANSLATIONS
from retort.distillation.selection import candidate_groups, select, usable
from tests.unit.fakes_runs import DECODED


def candidate(id_, rank, text, length=None, **values):
    """A row of a translations table; a candidate has a token a word unless told otherwise."""
    tokens = list(range(6, 6 + (len(text.split()) if length is None else length)))
    facts = {
        **DECODED,
        "test_set": "train",
        "score": -float(rank),
        "passes": 1,
        "truncated": False,
        "empty": not tokens,
    }
    return {"id": id_, "rank": rank, "text": text, "tokens": tokens, **facts, **values}


def on_disk(path, rows):
    write_table(path, TRANSLATIONS, pa.Table.from_pylist(rows, schema=TRANSLATIONS.schema))
    return path


def ranks(frame):
    return [(int(id_), int(rank)) for id_, rank in zip(frame["id"], frame["rank"], strict=True)]


def scored(*candidates):
    """A frame of one source's candidates, given as (length, parallel, autoregressive, first)."""
    rows = [
        candidate(5, rank, f"text {rank}", length, parallel=parallel, autoregressive=autoregressive, first=first)
        for rank, (length, parallel, autoregressive, first) in enumerate(candidates)
    ]
    return pd.DataFrame(rows)


def chosen(frame, **em):
    (row,) = select(frame, Em(**em)).to_pylist()
    return row


# ---- candidates -----------------------------------------------------------------------------------------------------


def test_equal_texts_count_once_and_keep_the_better_rank():
    rows = [
        candidate(1, 2, "a b"),
        candidate(1, 0, "c d"),
        candidate(1, 1, "a b", 3),
        candidate(1, 3, "c d"),
        candidate(2, 0, "a b"),
    ]
    found = usable(pd.DataFrame(rows))
    assert ranks(found) == [(1, 0), (1, 1), (2, 0)]
    assert [len(tokens) for tokens in found["tokens"]] == [2, 3, 2]


def test_flawed_candidates_are_left_out_unless_a_source_has_no_others():
    rows = [
        candidate(1, 0, "", 0),
        candidate(1, 1, "a", truncated=True),
        candidate(1, 2, "a"),
        candidate(2, 1, "", 0),
        candidate(2, 0, "b", truncated=True),
        candidate(3, 0, "", 0),
    ]
    found = usable(pd.DataFrame(rows))
    assert ranks(found) == [(1, 2), (2, 0), (3, 0)]
    assert found["truncated"].tolist() == [False, True, False]
    assert found["empty"].tolist() == [False, False, True]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 65_536])
def test_candidates_come_in_parts_that_split_no_source(tmp_path, rows):
    counts = {4: 1, 9: 5, 2: 3, 7: 2, 11: 1}
    table = [candidate(id_, rank, f"{id_} {rank}") for id_, count in counts.items() for rank in range(count)]
    parts = list(candidate_groups(on_disk(tmp_path / "x.parquet", table), rows))
    ids = [id_ for part in parts for id_ in part["id"].unique()]
    assert sorted(ids) == sorted(counts) and len(ids) == len(set(ids))
    assert sorted(pair for part in parts for pair in ranks(part)) == sorted((row["id"], row["rank"]) for row in table)
    assert len(parts) >= (4 if rows == 1 else 2 if rows < 8 else 1)
    assert max(len(part) for part in parts) <= rows + max(counts.values())


def test_no_candidates_are_no_parts(tmp_path):
    assert list(candidate_groups(on_disk(tmp_path / "x.parquet", []))) == []


# ---- the choice -----------------------------------------------------------------------------------------------------

# three candidates: the parallel model likes the second, the difference the third, the autoregressive the first; a
# token, the parallel model likes the third
THREE = scored((3, -9.0, -2.0, -2.0), (1, -4.0, -3.0, -3.0), (5, -6.0, -8.0, -8.0))


@pytest.mark.parametrize(
    ("choose_by", "normalise", "rank", "score", "first"),
    [
        ("parallel", False, 1, -4, -9),
        ("difference", False, 2, 2, -7),
        ("autoregressive", False, 0, -2, -2),
        # lengths count eos
        ("parallel", True, 2, -6 / 6, -9 / 4),
        ("difference", True, 2, 2 / 6, -7 / 4),
        ("autoregressive", True, 0, -2 / 4, -2 / 4),
    ],
)
def test_the_highest_score_wins(choose_by, normalise, rank, score, first):
    row = chosen(THREE, choose_by=choose_by, normalise=normalise)
    assert (row["rank"], row["text"], row["candidates"]) == (rank, f"text {rank}", 3)
    assert row["tokens"] == THREE["tokens"][rank]
    assert (row["score"], row["first_score"]) == pytest.approx((score, first))


@pytest.mark.parametrize(
    ("weight", "bonus", "rank", "score", "first"),
    [
        # -11, -7, -14 and 4, 2, 6 tokens, eos included
        (1.0, 0.0, 1, -7, -11),
        (1.0, 1.7, 1, -3.6, -4.2),
        (1.0, 2.1, 2, -1.4, -2.6),
        (1.0, 4.0, 2, 10, 5),
        (0.0, 0.0, 1, -4, -9),
        (9.0, 0.0, 0, -27, -27),
    ],
)
def test_the_posterior_weighs_both_models_and_the_length(weight, bonus, rank, score, first):
    row = chosen(THREE, choose_by="posterior", posterior_weight=weight, token_bonus=bonus)
    assert (row["rank"], row["score"], row["first_score"]) == (rank, pytest.approx(score), pytest.approx(first))


def test_ties_go_to_the_better_rank():
    assert chosen(scored((3, -4.0, 0, 0), (3, -2.0, 0, 0), (2, -2.0, 0, 0)))["rank"] == 1
    everything = scored(*[(2, -math.inf, 0, 0)] * 3)
    assert chosen(everything)["rank"] == 0
    assert chosen(scored((2, -math.inf, 0, 0), (2, -900.0, 0, 0)))["rank"] == 1


def test_a_score_that_is_not_defined_is_the_lowest():
    """A weight of 0, and a candidate that the first teacher cannot produce."""
    frame = scored((2, -1.0, 0, -math.inf), (2, -900.0, 0, -1.0))
    row = chosen(frame, choose_by="posterior", posterior_weight=0.0)
    assert (row["rank"], row["first_score"]) == (1, -math.inf)


def test_candidates_that_the_first_teacher_finds_poor_are_dropped():
    # nats a token under the first teacher: -1, -0.5, -2; the parallel model likes the last best
    frame = scored((1, -9.0, 0, -2.0), (3, -7.0, 0, -2.0), (1, -1.0, 0, -4.0))
    expected = {None: 2, 1.5: 2, 1.49: 1, 0.5: 1, 0.0: 1}
    assert {floor: chosen(frame, likelihood_floor=floor)["rank"] for floor in expected} == expected
    # those that are dropped still count as candidates
    assert chosen(frame, likelihood_floor=0.0)["candidates"] == 3
    assert chosen(frame, likelihood_floor=0.0)["first_score"] == -9


@pytest.mark.parametrize("floor", [None, 0.0, 0.2, 1.0])
@pytest.mark.parametrize("choose_by", ["parallel", "difference", "autoregressive"])
@pytest.mark.parametrize("normalise", [False, True])
def test_every_source_gets_the_best_of_its_own_candidates(choose_by, normalise, floor):
    generator = random.Random(3)
    rows = [
        {
            **candidate(id_, rank, f"{id_} {rank}", generator.randint(1, 9)),
            **{name: -generator.uniform(1, 9) for name in ("parallel", "autoregressive", "first")},
        }
        for id_ in (8, 3, 30, 5)
        for rank in range(6)
    ]
    em = Em(choose_by=choose_by, normalise=normalise, likelihood_floor=floor)
    found = select(usable(pd.DataFrame(rows)), em)
    assert found.column_names == SELECTION.names
    assert found["id"].to_pylist() == [3, 5, 8, 30]

    def score(row):
        parallel, autoregressive = row["parallel"], row["autoregressive"]
        raw = {"parallel": parallel, "autoregressive": autoregressive, "difference": parallel - autoregressive}
        return raw[choose_by] / (len(row["tokens"]) + 1 if normalise else 1)

    def likely(row):
        return row["first"] / (len(row["tokens"]) + 1)

    for row in found.to_pylist():
        own = [given for given in rows if given["id"] == row["id"]]
        least = max(likely(given) for given in own) - (math.inf if floor is None else floor)
        best = max((given for given in own if likely(given) >= least), key=score)
        assert (row["rank"], row["score"]) == (best["rank"], pytest.approx(score(best)))
        assert row["first_score"] == pytest.approx(score(own[0]))
