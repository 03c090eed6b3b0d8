"""The guards of the EM loop by hand: what is measured, and which bound ends it."""

import math
from functools import partial

import pyarrow as pa
import pytest

from retort.config import Guards
from retort.distillation.guards import (
    CANDIDATES,
    CHANGED,
    DISTINCT,
    GAIN,
    IMPOSSIBLE,
    LENGTH,
    LIKELIHOOD,
    QUALITY,
    distinct_words,
    guards_table,
    impossible_warnings,
    measure,
    missed,
    verdicts,
)
from retort.evaluation.metrics import score
from retort.evaluation.tokenizers import words

NONE = {"length": 0, "distinct_words": 0, "quality": 0, "likelihood": 1e6}
REFERENCES = ["der Mann sieht einen Hund", "eine Frau liest ein Buch", "das Kind spielt im Garten heute"]


def texts(*given, lengths=None):
    lengths = lengths or [len(text.split()) for text in given]
    return {"text": list(given), "tokens": pa.array([[7] * n for n in lengths], pa.list_(pa.int32()))}


def selection(columns, rank=(0, 2, 1), candidates=(3, 1, 5), score=(-1.0, -2.0, -3.0), first_score=(-1.0, -4.0, -3.5)):
    more = {"rank": rank, "candidates": candidates, "score": score, "first_score": first_score}
    return pa.table({**columns, **{name: list(values) for name, values in more.items()}})


def measured(chosen, first, guards, likelihoods=(-1.0, -0.5)):
    """``measure`` by metric; the first teacher finds the chosen and its own texts so likely."""

    def quality(table):
        return score("BLEU", table["text"].to_pylist(), [[text] for text in REFERENCES]).value

    rows = measure(chosen, pa.table(first), guards, quality=quality, log_likelihoods=likelihoods)
    return rows, {row["metric"]: row for row in rows}


def test_words_are_those_of_the_tokenizer():
    table = pa.table({"text": ["他爱猫", "他爱狗", "狗 狗"]})
    assert distinct_words(table, str.split) == 3
    assert distinct_words(table, partial(words, tokenizer="zh")) == 4


def test_values_by_hand():
    chosen = selection(texts("der Hund", "der Mann der Hund", "ja", lengths=[2, 5, 2]))
    rows, found = measured(chosen, texts(*REFERENCES, lengths=[5, 6, 10]), Guards(distinct_words=0.8))
    assert (found[LENGTH]["value"], found[LENGTH]["first"]) == pytest.approx((4, 8))
    assert (found[DISTINCT]["value"], found[DISTINCT]["first"]) == (4, 16)
    assert found[QUALITY]["first"] == pytest.approx(100)
    assert 0 <= found[QUALITY]["value"] < 20
    assert (found[LIKELIHOOD]["value"], found[LIKELIHOOD]["first"]) == (-1.0, -0.5)
    assert (found[CHANGED]["value"], found[CANDIDATES]["value"]) == pytest.approx((2 / 3, 3))
    assert found[GAIN]["value"] == pytest.approx((0 + 2 + 0.5) / 3)
    bounds = {metric: found[metric]["least"] for metric in (LENGTH, DISTINCT, QUALITY, LIKELIHOOD)}
    assert bounds == pytest.approx({LENGTH: 0.85 * 8, DISTINCT: 0.8 * 16, QUALITY: 0.8 * 100, LIKELIHOOD: -1.0})
    assert all(found[metric]["first"] is found[metric]["least"] is None for metric in (CHANGED, CANDIDATES, GAIN))
    assert len(missed(rows)) == 3


def test_impossible_candidates_gain_nothing():
    inf = math.inf
    chosen = selection(texts(*REFERENCES), score=(-inf, -2.0, -3.0), first_score=(-inf, -inf, -5.0))
    assert measured(chosen, texts(*REFERENCES), Guards())[1][GAIN]["value"] == 2
    chosen = selection(texts(*REFERENCES), score=(-inf,) * 3, first_score=(-inf,) * 3)
    assert measured(chosen, texts(*REFERENCES), Guards())[1][GAIN]["value"] == 0


def test_sources_without_a_possible_candidate_are_counted_and_warned_of():
    """They change nothing and gain nothing, so no other guard shows them."""
    inf, table = math.inf, texts(*REFERENCES * 100)
    for impossible, warned in ((15, False), (16, True), (299, True)):
        scores = [-inf] * impossible + [-2.0] * (300 - impossible)
        chosen = selection(table, rank=[0] * 300, candidates=[9] * 300, score=scores, first_score=scores)
        first = pa.table(table)
        rows = measure(chosen, first, Guards(), quality=lambda table: 50.0, log_likelihoods=(-1.0, -1.0))
        found = {row["metric"]: row for row in rows}
        assert found[CHANGED]["value"] == found[GAIN]["value"] == 0 and not missed(rows)
        assert found[IMPOSSIBLE] == {
            "metric": IMPOSSIBLE, "value": pytest.approx(impossible / 300), "first": None, "least": None,
        }  # fmt: skip
        said = f"EM iteration 2 (seed 7): for {impossible / 3:.3g} % of the sources no candidate is possible"
        warnings = impossible_warnings(guards_table(rows, 2, 7))
        assert [warning.startswith(said) for warning in warnings] == [True] * warned
    # the first candidate alone is impossible
    chosen = selection(texts(*REFERENCES), score=(-1.0, -2.0, -3.0), first_score=(-inf, -2.0, -3.0))
    assert measured(chosen, texts(*REFERENCES), Guards())[1][IMPOSSIBLE]["value"] == 0


SHORT = texts(*REFERENCES, lengths=[4, 4, 4])
SAME_WORDS = texts(*["der Mann sieht einen Hund"] * 3)
WRONG = texts(*[text[::-1] for text in REFERENCES])
FINE = texts(*REFERENCES)


@pytest.mark.parametrize(
    ("bound", "fails", "chosen", "text"),
    [
        ("length", 0.85, SHORT, "mean length in tokens is 5, below the bound of 5.383"),
        ("distinct_words", 0.8, SAME_WORDS, "distinct words is 5, below the bound of 12.8"),
        ("quality", 0.8, WRONG, "BLEU against the references is 0"),
        ("likelihood", 0.3, FINE, "log p per token under the first teacher, nats is -1, below the bound of -0.8"),
    ],
)
def test_each_bound_alone_ends_the_loop(bound, fails, chosen, text):
    rows, _ = measured(selection(chosen), FINE, Guards(**{**NONE, bound: fails}))
    (reason,) = missed(rows)
    assert reason.startswith(text)
    (verdict,) = verdicts(guards_table(rows, 3, 7)).values()
    assert verdict.startswith("EM iteration 3 (seed 7): the loop ends here") and text in verdict
    rows, _ = measured(selection(chosen), FINE, Guards(**NONE))
    assert missed(rows) == [] and verdicts(guards_table(rows, 3, 7)) == {7: ""}


def test_a_bound_that_is_just_met_lets_the_loop_go_on():
    rows, _ = measured(selection(FINE), FINE, Guards(length=1, distinct_words=1, quality=1, likelihood=0.5))
    assert missed(rows) == []


def test_what_cannot_be_measured_misses_its_bound():
    rows, _ = measured(selection(FINE), FINE, Guards(), likelihoods=(math.nan, -0.5))
    (reason,) = missed(rows)
    assert reason.startswith("log p per token")


def test_the_seeds_of_a_table_have_a_verdict_each():
    guards = Guards(**{**NONE, "length": 0.85})
    tables = [guards_table(measured(selection(given), FINE, guards)[0], 2, seed) for given, seed in
              ((FINE, 4), (SHORT, 1))]  # fmt: skip
    found = verdicts(pa.concat_tables(tables))
    assert list(found) == [1, 4] and found[4] == ""
    assert found[1].startswith("EM iteration 2 (seed 1): ") and "mean length" in found[1]
