"""Shipped configurations are valid, overlays too, and their comparisons have the controls that they need."""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from retort.config import Config
from retort.config.files import merged, read_yaml
from retort.config.load import load_config
from retort.config.yaml_reader import read_mapping

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "config.schema.json").read_text()))
CONFIGS = sorted([*(ROOT / "configs").glob("*.yaml"), *(ROOT / "benchmarks/gpu").glob("*.yaml")])
OVERLAYS = sorted(
    (base, overlay)
    for base in CONFIGS
    for overlay in (base.parent / base.stem).glob("*.yaml")
    if overlay.name != "taught.yaml"  # a third file
)


def shipped(*paths: Path) -> Config:
    return load_config(reduce(merged, map(read_yaml, paths)))


@pytest.mark.parametrize(
    "files", [*((path,) for path in CONFIGS), *OVERLAYS], ids=lambda f: "+".join(p.stem for p in f)
)
def test_every_configuration_is_valid_with_each_of_its_overlays(files: tuple[Path, ...]) -> None:
    config = shipped(*files)
    if len(files) > 1:
        assert config.name != shipped(files[0]).name, "an overlay's run must not overwrite that of its base"


@pytest.mark.parametrize(
    "path", [*CONFIGS, *sorted((ROOT / "configs").glob("*/*.yaml"))], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_editors_find_nothing_wrong_with_what_is_shipped(path: Path) -> None:
    errors = list(SCHEMA.iter_errors(read_mapping(path)))
    assert not errors, [(list(error.path), error.message[:200]) for error in errors]


@pytest.mark.parametrize(
    "wrong",
    [
        {"nmae": "x"},
        {"students": {"a": {"objective": {"name": "ctcc"}}}},
        {"students": {"a": {"objective": {"name": "ctc", "skip_target": 2}}}},
        {"students": {"a": {"objective": "ctcc"}}},
        {"distillation": {"search": "beem"}},
        {"training": {"max_updates": "many"}},
        {"corpus": {"trian": {}}},
    ],
    ids=str,
)
def test_editors_find_what_is_wrong(wrong: dict[str, Any]) -> None:
    assert list(SCHEMA.iter_errors(wrong))


def test_overlays_are_found() -> None:
    assert {base.stem for base, _ in OVERLAYS} >= {"imitation-generated", "kinds", "multi30k-en-de-imitkd"}


@pytest.mark.parametrize("path", [path for path in CONFIGS if "paced" in path.stem], ids=lambda path: path.stem)
def test_each_self_paced_arm_has_a_random_control_and_one_of_equal_tokens(path: Path) -> None:
    config = shipped(path)
    students = config.students
    paced = {name: s.self_paced for name, s in students.items() if s.self_paced and not s.self_paced.random}
    assert {p.end for p in paced.values()} == {1.0, 0.75, 0.5} and {p.among for p in paced.values()} == {"batch"}
    for name, own in paced.items():
        named = config.evaluation.baselines[name]
        assert isinstance(named, list)
        random, equal, union = named
        control = students[random].self_paced
        assert control == own.model_copy(update={"random": True})
        assert students[random].training == students[name].training and students[random].seeds == students[name].seeds
        updates = students[name].training.max_updates
        share = own.warmup + (own.full - own.warmup) * (own.start + own.end) / 2 + (1 - own.full) * own.end
        assert students[equal].training.max_updates == round(updates * share)
        assert students[equal].self_paced is None and students[union].training.max_updates == updates


@pytest.mark.parametrize("name", ["imitation-generated", "multi30k-en-de-imitkd"])
def test_what_goes_on_from_seqkd_is_compared_with_seqkd_that_goes_on(name: str) -> None:
    config = shipped(ROOT / f"configs/{name}.yaml")
    more = {n: s for n, s in config.students.items() if s.training.warm_start == "seqkd"}
    assert len(more) >= 2 and "seqkd-more" in more
    for system, section in more.items():
        assert section.training == more["seqkd-more"].training
        assert system == "seqkd-more" or config.evaluation.baselines[system] == "seqkd-more"
    star = config.students["imitkd-star"].objective
    assert (star.labels, star.beta.share, star.rollout.kind) == ("hard", 0.5, "greedy"), "as released"  # type: ignore[union-attr]
