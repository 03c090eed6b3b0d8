"""What holds for every objective that a configuration can name: a new one is tested by its line in OBJECTIVE_CASES."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from retort import objectives
from retort.config import OBJECTIVES, ObjectiveSection
from retort.data.batches import Batch
from retort.models.base import EncoderDecoder
from retort.objectives.base import Step, load_objective
from tests.unit.fakes_models import batch
from tests.unit.fakes_objectives import OBJECTIVE_CASES
from tests.unit.fakes_training import small_model

SOURCES = [[6, 7, 8, 9], [9, 10, 11], [12, 13], [14, 15, 6, 8, 10]]
TARGETS = [[8, 9, 10], [7, 7, 12], [15, 14], [11, 9, 13, 6]]

# Another value than the case's, by the name of the option, or by that of the objective and the option.
OTHER_VALUES: dict[str, Any] = {
    "autoregressive_weight": 0.5,
    "auxiliary_weight": 0.3,
    "axe.masking": "random",
    "beta": {"schedule": "constant", "share": 1},
    "block": 2,
    "decoder_input": "pad",
    "deep_supervision": True,
    "end": 0.99,
    "janus.masking": "span",
    "kl_autoregressive_auxiliary": 0.2,
    "kl_autoregressive_parallel": 0.2,
    "kl_auxiliary_parallel": 0.2,
    "label_smoothing": 0.3,
    "labels": "hard",
    "length_from": "slot",
    "length_multiplier": 1.5,
    "length_weight": 0.3,
    "likelihood_weight": 0.5,
    "mask_ratio": 0.9,
    "nar_ratio": 0.0,
    "ngram": 2,
    "parallel_weight": 0.3,
    "r_drop": 1.0,
    "reveal": "tokens",
    "rollout": {"kind": "sample"},
    "rotate": 1.0,
    "span_block": 2,
    "span_length": 1.0,
    "start": 0.99,
    "teacher_top_k": 2,
    "teacher_weight": 0.5,
    "temperature": 0.5,
    "top_k": 2,
    "truncation": 0.0,
    "upsampling": 3,
    "warmup_share": 1.0,
}
# What an option has no effect without.
BESIDE: dict[str, dict[str, Any]] = {
    "imitation.label_smoothing": {"labels": "hard"},
    "ngram": {"truncation": 0.0},
    "teacher_top_k": {"teacher_weight": 0.5},
}
# least_encoder_gap is a bound for what a trained model has learnt, and only a model that has learnt skips tokens.
HEEDED = [
    (objective.only_value("name"), option)
    for objective in OBJECTIVES
    for option in objective.model_fields
    if option not in ("name", "least_encoder_gap", "skip_target")
]

every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.only_value("name"))
every_case = pytest.mark.parametrize("options", OBJECTIVE_CASES.values(), ids=list(OBJECTIVE_CASES))


def pairs_for(options: ObjectiveSection, sources: list[list[int]], targets: list[list[int]]) -> Batch:
    """A batch of pairs; pre-training has text, which is its own target."""
    return batch(targets if options.pretrains else sources, targets)


def step_of(options: ObjectiveSection, seed: int = 1) -> Step:
    """The second half of a training, beyond warm-ups, with a teacher if the objective asks one."""
    teacher: Any = small_model(OBJECTIVE_CASES["autoregressive"], seed=9).eval() if options.needs_teacher else None
    return Step(torch.Generator().manual_seed(seed), progress=0.9, teacher=teacher)


@every_objective
def test_every_objective_has_a_case(objective: type[ObjectiveSection]) -> None:
    name = objective.only_value("name")
    assert name in OBJECTIVE_CASES, (
        f"objective {name} has no test: add {objective.__name__}(name={name!r}, ...) to OBJECTIVE_CASES in "
        f"tests/unit/fakes_objectives.py, with options that a tiny model learns with"
    )
    assert type(OBJECTIVE_CASES[name]) is objective


def test_every_module_is_that_of_an_objective() -> None:
    modules = {path.stem for path in Path(objectives.__path__[0]).glob("*.py")} - {"__init__", "base"}
    assert modules == {objective.only_value("name") for objective in OBJECTIVES}


@every_objective
def test_the_module_has_what_the_section_declares(objective: type[ObjectiveSection]) -> None:
    name = objective.only_value("name")
    declared = {
        "compute": True,
        "log_likelihood": objective.pretrains is None,
        "encoder_gap": objective.pretrains is not None,
        "agreement": objective.measures_agreement,
        "prepare": objective.prepares,
    }
    module = load_objective(name)
    present = {function: callable(getattr(module, function, None)) for function in declared}
    assert present == declared, f"retort/objectives/{name}.py has and lacks other functions than its section declares"


@every_objective
def test_the_family_and_the_searches_exist(objective: type[ObjectiveSection]) -> None:
    assert callable(import_module(f"retort.models.{objective.family}").build)
    assert small_model(OBJECTIVE_CASES[objective.only_value("name")]).family == objective.family
    kinds = {search.kind for search in objective.usual_searches.values()}
    kinds |= {search.kind for search in (objective.em_searches or {}).values()}
    assert kinds and kinds <= set(objective.searches())
    if objective.pretrains:
        trained = next(o for o in OBJECTIVES if o.only_value("name") == objective.pretrains)
        assert trained.family == objective.family


@pytest.mark.slow
@every_case
def test_a_model_learns_a_batch(options: ObjectiveSection) -> None:
    model, pairs = small_model(options).train(), pairs_for(options, SOURCES, TARGETS)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = load_objective(options.name).compute(model, pairs, options, step_of(options))
        loss.total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimiser.step()
        losses.append(loss.total.item())
    for part in ("embeddings", "encoder", "decoder"):
        gradients = [p.grad for p in getattr(model, part).parameters() if p.grad is not None]
        assert gradients and any((gradient != 0).any() for gradient in gradients), f"no gradient reaches the {part}"
    # a teacher's distribution and smoothed targets have losses above 0
    assert losses[-1] < 0.8 * losses[0], losses


@every_case
def test_a_weight_of_two_is_a_sample_twice_where_the_section_says_so(
    options: ObjectiveSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random choices are the same in each row, whatever the batch."""

    def rows_alike(*size: Any, generator: object = None, **others: object) -> torch.Tensor:
        shape = torch.Size(size[0] if isinstance(size[0], tuple | torch.Size) else size) if size else torch.Size()
        return torch.linspace(0.2, 0.8, shape[-1] if shape else 1).expand(shape or (1,)).reshape(shape).clone()

    monkeypatch.setattr(torch, "rand", rows_alike)
    weighted = replace(pairs_for(options, SOURCES, TARGETS), weight_b=torch.tensor([1.0, 1.0, 2.0, 1.0]))
    repeated = pairs_for(options, [*SOURCES, SOURCES[2]], [*TARGETS, TARGETS[2]])
    one, other = (after_an_update(options, pairs) for pairs in (weighted, repeated))
    same = all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6) for name in one)
    assert same == options.weighs_samples


def after_an_update(options: ObjectiveSection, pairs: Batch) -> dict[str, torch.Tensor]:
    """Weights after one update on the batch."""
    model: EncoderDecoder = small_model(options).train()
    load_objective(options.name).compute(model, pairs, options, step_of(options)).total.backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@every_case
def test_likelihoods_are_of_pairs_and_agreement_is_a_share(options: ObjectiveSection) -> None:
    model, pairs = small_model(options).eval(), pairs_for(options, SOURCES, TARGETS)
    module = load_objective(options.name)
    if not options.pretrains:
        log_likelihood_b = module.log_likelihood(model, pairs, options)
        assert log_likelihood_b.shape == (len(SOURCES),) and (log_likelihood_b < 0).all()
    if options.measures_agreement:
        share_b = module.agreement(model, pairs, options)
        assert share_b.shape == (len(SOURCES),) and ((share_b >= 0) & (share_b <= 1)).all()


@pytest.mark.parametrize(("name", "option"), HEEDED, ids=lambda part: part)
def test_every_option_changes_the_loss(name: str, option: str) -> None:
    beside = BESIDE.get(f"{name}.{option}", BESIDE.get(option, {}))
    case = OBJECTIVE_CASES[name].model_dump() | beside
    larger = case[option] + 1 if isinstance(case[option], int | float) else None
    value = OTHER_VALUES.get(f"{name}.{option}", OTHER_VALUES.get(option, larger))
    assert value is not None, f"add another value of {option} to OTHER_VALUES"
    losses = []
    for given in (case, case | {option: value}):
        options = type(OBJECTIVE_CASES[name])(**given)
        model = small_model(options, decoder_layers=2, dropout=0.1).train()
        step = replace(step_of(options), progress=0.5)
        losses.append(load_objective(name).compute(model, pairs_for(options, SOURCES, TARGETS), options, step).total)
    assert losses[0] != losses[1]
