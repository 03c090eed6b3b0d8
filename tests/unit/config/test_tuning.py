from __future__ import annotations

import pytest
from pydantic import ValidationError

from retort.config import Grid

COLLAPSE = {"kind": "ctc_collapse"}


def test_a_grid_has_the_written_search_and_all_combinations_each_once() -> None:
    values = {"lm_weight": [0, 0.5], "token_bonus": [1, 2.0, 2]}
    written = {"kind": "ctc_beam", "lm_weight": 0.5, "token_bonus": 1}
    forms = Grid.model_validate({"search": written, "values": values, "table": "a.ngrams"}).forms()
    assert [(form.lm_weight, form.token_bonus, form.table) for form in forms] == [  # type: ignore[attr-defined]
        (0.5, 1, "a.ngrams"),
        (0, 1, None),
        (0, 2, None),
        (0.5, 2, "a.ngrams"),
    ]
    named = Grid.model_validate({"search": {**written, "table": "b.ngrams"}, "table": "a.ngrams"}).forms()
    assert [form.table for form in named] == ["b.ngrams"]  # type: ignore[attr-defined]
    assert Grid.model_validate({"search": "ctc_collapse"}).forms()[0].kind == "ctc_collapse"


def test_a_large_grid_takes_no_longer_per_form() -> None:
    """Each form compared with all others, this would take minutes."""
    values = {key: [number / 100 for number in range(100)] for key in ("lm_weight", "token_bonus")}
    grid = Grid.model_validate({"search": {"kind": "ctc_beam"}, "values": values})
    # the search as it is written is one of them
    assert len(grid.forms()) == 100 * 100


@pytest.mark.parametrize(
    ("values", "where", "message"),
    [
        ({"blank_penalty": []}, ("values", "blank_penalty"), "at least 1 item"),
        ({"blank_penalty": [1, 2000]}, ("values", "blank_penalty", 1), "less than or equal to 1000"),
        ({"allow_unknown": [1]}, ("values", "allow_unknown"), "has no number of this name; it has blank_penalty"),
        ({"kind": [1]}, ("values", "kind"), "has no number of this name"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, list[float]], where: tuple[str | int, ...], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Grid.model_validate({"search": COLLAPSE, "values": values})
    (detail,) = caught.value.errors()
    assert detail["loc"] == where and message in detail["msg"]
