"""What holds for every search that a configuration can name: a new one is tested by its line in SEARCH_CASES."""

from __future__ import annotations

import random
from importlib import import_module
from pathlib import Path

import pytest
import torch

from retort.config import OBJECTIVES, SEARCHES, ObjectiveSection, SearchSection
from retort.data.vocabulary import UNK
from retort.runtime import search as exported
from retort.search.base import run_search
from tests.unit.fakes_models import padded, prefer_unknown
from tests.unit.fakes_objectives import OBJECTIVE_CASES, SEARCH_CASES
from tests.unit.fakes_training import small_model

every_search = pytest.mark.parametrize("search", SEARCHES, ids=lambda s: s.only_value("kind"))
every_case = pytest.mark.parametrize("options", SEARCH_CASES.values(), ids=list(SEARCH_CASES))


def objectives_of(kind: str) -> list[type[ObjectiveSection]]:
    """Objectives whose models the search can decode."""
    return [objective for objective in OBJECTIVES if kind in objective.searches()]


@every_search
def test_every_search_has_a_case(search: type[SearchSection]) -> None:
    kind = search.only_value("kind")
    assert kind in SEARCH_CASES, (
        f"search {kind} has no test: add {search.__name__}(kind={kind!r}, ...) to SEARCH_CASES in "
        f"tests/unit/fakes_objectives.py"
    )
    assert type(SEARCH_CASES[kind]) is search


@every_search
def test_every_search_has_a_module_and_an_objective(search: type[SearchSection]) -> None:
    kind = search.only_value("kind")
    assert callable(import_module(f"retort.search.{kind}").search)
    assert objectives_of(kind), f"no objective predicts {search.decodes!r}, which search {kind} decodes"


@every_search
def test_an_exported_search_ranks_as_many_outputs_and_scores_as_declared(search: type[SearchSection]) -> None:
    if (Path(exported.__path__[0]) / f"{search.only_value('kind')}.py").exists():
        module = import_module(f"{exported.__name__}.{search.only_value('kind')}")
        assert search.outputs_key == module.OUTPUTS_KEY
        assert search.scores_tokens == hasattr(module, "scored")


@pytest.mark.parametrize("allowed", [False, True], ids=["", "allowed"])
@every_case
def test_the_unknown_piece_is_emitted_where_it_is_allowed_alone(options: SearchSection, allowed: bool) -> None:
    options = options.model_copy(update={"allow_unknown": allowed})
    rng = random.Random(1)
    source = padded([rng.choices(range(6, 16), k=length) for length in (2, 5, 9)])
    for objective in objectives_of(options.kind):
        model = small_model(OBJECTIVE_CASES[objective.only_value("name")]).eval()
        prefer_unknown(model)
        teacher = small_model(OBJECTIVE_CASES["autoregressive"], seed=9).eval() if options.needs_teacher else None
        best = run_search(model, source, options, teacher)
        assert any(UNK in hypothesis.tokens for hypotheses in best for hypothesis in hypotheses) == allowed
        assert all(hypothesis.score > -1e6 for hypotheses in best for hypothesis in hypotheses)


@pytest.mark.slow
@every_case
def test_a_batch_of_eight_gives_what_eight_batches_of_one_give(options: SearchSection) -> None:
    rng = random.Random(1)
    sources = [rng.choices(range(6, 16), k=length) for length in (1, 2, 3, 5, 5, 8, 9, 12)]
    objective = OBJECTIVE_CASES[objectives_of(options.kind)[0].only_value("name")]
    teacher = small_model(OBJECTIVE_CASES["autoregressive"], seed=9).eval() if options.needs_teacher else None
    outputs = 0
    for seed in range(4):
        model = small_model(objective, seed=seed).eval()
        # distributions of an untrained model are too flat to be decoded alike in every order of sums
        with torch.no_grad():
            model.embeddings.output.mul_(3)
        together = run_search(model, padded(sources, 8), options, teacher)
        for source, hypotheses in zip(sources, together, strict=True):
            (alone,) = run_search(model, padded([source]), options, teacher)
            assert [h.tokens for h in hypotheses] == [h.tokens for h in alone]
            assert [h.score for h in hypotheses] == pytest.approx([h.score for h in alone], rel=1e-3, abs=1e-3)
            assert [(h.truncated, h.passes) for h in hypotheses] == [(h.truncated, h.passes) for h in alone]
            outputs += any(h.tokens for h in hypotheses)
    assert outputs, "all outputs are empty: this test tests nothing"
