"""The choice among the tried values of a search's options."""

import pytest

from retort.config import Argmax
from retort.evaluation.metrics import Score
from retort.evaluation.tuning import Tried, best


@pytest.mark.parametrize(("metric", "value"), [("BLEU", 3.0), ("TER", 1.0)])
def test_the_best_of_a_tuning_is_by_the_metric_s_direction(metric: str, value: float) -> None:
    search = Argmax(kind="argmax")
    assert best([Tried(search, Score(metric, x, "")) for x in (2.0, 3.0, 1.0)]).score.value == value


def test_of_equal_ones_the_first_is_chosen() -> None:
    first, second = (Tried(Argmax(kind="argmax", length_beam=n), Score("BLEU", 3.0, "")) for n in (2, 1))
    assert best([first, second]) is first
