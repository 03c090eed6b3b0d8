"""What would run: each configuration, each target, each way to replace a trained thing. Dry runs only."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from retort.config import System, em_iteration
from retort.config.checks.files import PARQUET
from retort.config.load import load_config
from retort.filenames import CHECKPOINT_FILES, MODEL_DESCRIPTION, VOCABULARY_MODELS
from tests.workflow.checkouts import ROOT, TINY, Checkout, jobs, training_rule

pytestmark = pytest.mark.workflow

TRAININGS = {"train_teacher teacher/1", "train_student vanilla-raw/1", "train_student ctc-distilled/1"}
SHARDS = {"decode_shard 1-of-2", "decode_shard 2-of-2"}
TRAINING_RULES = ("train_teacher", "train_student", "train_selective")
CORPUS = {"prepare_corpus", "train_vocabulary", "encode_corpus"}


def tiny(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(TINY), **changes}


def is_selective(system: System) -> bool:
    return system.mixture is not None and system.mixture.kind == "selective"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_plans_every_system(checkout: Checkout, path: Any) -> None:
    config = load_config(path)
    output = checkout.snakemake("--dry-run", "--configfile", f"configs/{path.name}")
    trained = {
        f"{'train_selective' if is_selective(section) else training_rule(system)} {system}/{seed}"
        for system, section in config.systems.items()
        if em_iteration(system) < 2  # the rest is planned when the guards are known
        for seed in config.seeds_of(system)
    }
    assert {job for job in jobs(output) if job.startswith(TRAINING_RULES)} == trained
    assert f"output: results/{config.name}/" in output


def test_the_default_configuration_needs_no_flag(checkout: Checkout) -> None:
    config = load_config(ROOT / "config.yaml")
    planned = jobs(checkout.snakemake("--dry-run"))
    assert {job.split()[1].partition("/")[0] for job in planned if job.startswith(TRAINING_RULES)} == {*config.systems}
    assert {job.partition(" ")[2].partition("/")[0] for job in planned if job.startswith("translate")} == {
        *config.systems
    }


def test_one_configuration_trains_every_kind_of_student() -> None:
    config = load_config(ROOT / "configs/all-methods.yaml")
    assert config.em.iterations == 2
    # the other objectives would take minutes more
    trained = {system.objective.name for system in config.systems.values()}
    assert trained == {"autoregressive", "vanilla", "cmlm", "axe", "ctc", "glat_ctc", "dag"}
    assert {system.data for system in config.students.values()} == {"raw", "distilled"}


def test_the_default_trains_some_of_them_on_the_same_text() -> None:
    small, whole = (load_config(ROOT / path) for path in ("config.yaml", "configs/all-methods.yaml"))
    assert {system.objective.name for system in small.systems.values()} == {"autoregressive", "vanilla", "ctc", "dag"}
    assert small.systems.keys() <= whole.systems.keys()
    assert (small.corpus, small.vocabulary, small.distillation) == (whole.corpus, whole.vocabulary, whole.distillation)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("corpus", CORPUS),
        ("teacher", CORPUS | {"train_teacher teacher/1"}),
        ("distill", CORPUS | SHARDS | {"train_teacher teacher/1", "gather_distilled"}),
        ("students", CORPUS | SHARDS | TRAININGS | {"gather_distilled"}),
        ("latency", CORPUS | SHARDS | TRAININGS | {"gather_distilled", "measure_latency"}),
    ],
)
def test_a_target_runs_its_stage_and_what_it_needs(checkout: Checkout, target: str, expected: set[str]) -> None:
    assert checkout.planned(TINY, target) == expected


def test_evaluation_and_report_need_everything_before_them(checkout: Checkout) -> None:
    evaluate = checkout.planned(TINY, "evaluate")
    runs = ("teacher/1/greedy", "vanilla-raw/1/argmax", "ctc-distilled/1/collapse")
    assert {f"{rule} {run}" for rule in ("translate", "score") for run in runs} <= evaluate
    assert evaluate >= TRAININGS | {"compare_systems"}
    rest = {"measure_latency", "write_config", "draw_rules", "build_report"}
    assert checkout.planned(TINY, "report") == checkout.planned(TINY) == evaluate | rest


def test_the_number_of_shards_is_a_knob(checkout: Checkout) -> None:
    planned = checkout.planned(TINY, "distill", "--set-scatter", "distill=5")
    assert len([job for job in planned if job.startswith("decode_shard")]) == 5


def test_a_given_configuration_replaces_the_default(checkout: Checkout) -> None:
    config = tiny(students={})
    planned = checkout.planned(config)
    assert {job for job in planned if job.startswith(TRAINING_RULES)} == {"train_teacher teacher/1"}
    assert not {job for job in planned if job.startswith(("decode_shard", "gather_distilled"))}


def test_values_on_the_command_line_override_the_file(checkout: Checkout) -> None:
    output = checkout.snakemake("--dry-run", "corpus", "--config", "name=other")
    assert "results/other/corpus/train.parquet" in output
    name = checkout.configure(TINY)
    output = checkout.snakemake("--dry-run", "corpus", "-p", "--configfile", name, "--config", "vocabulary={size: 99}")
    assert '"size": 99' in output
    assert "results/tiny/" in output


def test_several_files_are_layered_in_their_order(checkout: Checkout) -> None:
    names = checkout.configure(TINY), checkout.configure({"name": "layered", "seeds": [4]}, "second.yaml")
    planned = jobs(checkout.snakemake("--dry-run", "teacher", "--configfile", *names))
    assert "train_teacher teacher/4" in planned


def test_seeds_fan_out_and_a_system_may_have_its_own(checkout: Checkout) -> None:
    config = tiny(seeds=[1, 2])
    config["students"]["vanilla-raw"]["seeds"] = [7]
    trained = {job for job in checkout.planned(config) if job.startswith(TRAINING_RULES)}
    assert trained == {
        *("train_teacher teacher/1", "train_teacher teacher/2", "train_student vanilla-raw/7"),
        *("train_student ctc-distilled/1", "train_student ctc-distilled/2"),
    }


def give(checkout: Checkout, directory: str, files: Iterable[str]) -> str:
    (checkout.path / directory).mkdir(exist_ok=True)
    for name in files:
        (checkout.path / directory / name).touch()
    return directory


def test_given_checkpoints_are_not_trained(checkout: Checkout) -> None:
    config = tiny(seeds=[1, 2])
    for name, system in (("given model's", config["teacher"]), ("given", config["students"]["vanilla-raw"])):
        system["checkpoint"] = give(checkout, name, CHECKPOINT_FILES.values())
        description = {"objective": system["objective"], "model": config["model"]}
        (checkout.path / name / MODEL_DESCRIPTION).write_text(json.dumps(description))
    planned = checkout.planned(config)
    assert {job for job in planned if job.startswith(TRAINING_RULES)} == {
        "train_student ctc-distilled/1",
        "train_student ctc-distilled/2",
    }
    assert planned >= SHARDS | {"translate teacher/1/greedy", "translate vanilla-raw/1/argmax"}
    assert "translate teacher/2/greedy" not in planned


def test_a_given_vocabulary_is_not_trained(checkout: Checkout) -> None:
    given = give(checkout, "given vocabulary", VOCABULARY_MODELS.values())
    planned = checkout.planned(tiny(vocabulary={"path": given}), "corpus")
    assert planned == CORPUS - {"train_vocabulary"}


def test_a_given_distilled_table_needs_no_teacher(checkout: Checkout) -> None:
    (checkout.path / "distilled.parquet").write_bytes(PARQUET)
    planned = checkout.planned(tiny(distillation={"corpus": "distilled.parquet"}), "students")
    assert planned == CORPUS | {"gather_distilled", "train_student vanilla-raw/1", "train_student ctc-distilled/1"}


def test_without_a_teacher_there_is_nothing_to_distil(checkout: Checkout) -> None:
    students = {"ctc": {"objective": {"name": "ctc"}, "data": "raw"}}
    assert checkout.planned(tiny(teacher=None, students=students), "distill") <= {"distill"}


def test_a_warm_start_waits_for_the_teacher(checkout: Checkout) -> None:
    config = tiny()
    config["students"] = {"warm": {"objective": {"name": "ctc"}, "training": {"warm_start": "teacher_encoder"}}}
    assert "train_teacher teacher/1" in checkout.planned(config, "students")
    output = checkout.snakemake("--dry-run", "-p", "students", "--configfile", checkout.configure(config))
    assert "--start results/tiny/systems/teacher/seed1" in output


def test_interpolated_text_is_chosen_from_the_beam(checkout: Checkout) -> None:
    config = tiny()
    config["students"] = {"near": {"objective": {"name": "autoregressive"}, "data": "interpolated"}}
    planned = checkout.planned(config, "students")
    assert {"decode_beam 1-of-2", "decode_beam 2-of-2", "gather_interpolated"} <= planned
    assert not {job for job in planned if job.startswith(("decode_shard", "gather_distilled"))}


def test_mixed_text_has_the_distilled_beside_it_and_an_evaluator_s_table_where_it_is_selective(
    checkout: Checkout,
) -> None:
    config = tiny()
    config["students"] = {
        "kd": {"objective": {"name": "ctc"}, "data": "distilled", "seeds": [3]},
        "both": {"objective": {"name": "ctc"}, "data": "mixed"},
    }
    planned = checkout.planned(config, "students")
    assert planned >= SHARDS | {"gather_distilled", "gather_mixed"}
    assert not {job for job in planned if job.startswith("measure_agreement")}
    config["students"]["both"]["mixture"] = {"kind": "selective", "evaluator": "kd"}
    assert {"measure_agreement kd/3", "train_selective both/1"} <= checkout.planned(config, "students")
    output = checkout.snakemake("--dry-run", "-p", "students", "--configfile", checkout.configure(config))
    assert "--agreement results/tiny/agreement/kd/seed3.parquet" in output


def test_a_training_that_asks_the_teacher_waits_for_it(checkout: Checkout) -> None:
    config = tiny()
    config["students"] = {"own": {"objective": {"name": "imitation"}}}
    assert "train_teacher teacher/1" in checkout.planned(config, "students")
    output = checkout.snakemake("--dry-run", "-p", "students", "--configfile", checkout.configure(config))
    assert "--teacher results/tiny/systems/teacher/seed1" in output
    config["students"]["own"]["objective"] |= {"labels": "hard", "beta": {"share": 1}}
    assert "train_teacher teacher/1" not in checkout.planned(config, "students")


def test_labels_are_stored_once_for_each_text_and_number_of_tokens(checkout: Checkout) -> None:
    config = tiny()
    stored = {"name": "imitation", "labels": "stored", "top_k": 8, "beta": {"schedule": "constant", "share": 1}}
    config["students"] = {
        "one": {"objective": stored},
        "two": {"objective": stored},
        "fewer": {"objective": {**stored, "top_k": 4}},
        "seq": {"objective": stored, "data": "distilled"},
    }
    planned = checkout.planned(config, "students")
    labelled = {"raw/8", "raw/4", "distilled/8"}
    assert {job for job in planned if job.startswith("gather_labels")} == {f"gather_labels {x}" for x in labelled}
    shards = {f"label_shard {x}/{i}-of-2" for x in labelled for i in (1, 2)}
    assert {job for job in planned if job.startswith("label_shard")} == shards
    output = checkout.snakemake("--dry-run", "-p", "students", "--configfile", checkout.configure(config))
    trainings = [line for line in output.splitlines() if "train_system.py" in line]
    assert sum("--labels results/tiny/labels/distilled/top8.parquet" in line for line in trainings) == 1
    assert not any("--teacher results" in line for line in trainings)


def test_exposure_and_lengths_are_measured_where_they_are_asked_for(checkout: Checkout) -> None:
    config = tiny()
    small = {"objective": {"name": "autoregressive"}, "data": "distilled"}
    tuned = {**small, "data": "interpolated", "training": {"warm_start": "small"}}
    config["students"] = {"small": {**small, "seeds": [1, 2]}, "tuned": {**tuned, "seeds": [2, 3]}}
    config["evaluation"] |= {"length_buckets": [8, 12], "exposure": {"systems": ["small"]}}
    planned = checkout.planned(config, "evaluate")
    assert {job for job in planned if job.startswith(("measure_exposure", "score_by_length"))} == {
        *("measure_exposure small/1", "measure_exposure small/2", "score_by_length"),
    }
    # a system starts from the seed of the other that is its own, where there is one
    output = checkout.snakemake("--dry-run", "-p", "students", "--configfile", checkout.configure(config))
    starts = [re.search(r"--start (\S+)", line) for line in output.splitlines() if "train_system.py" in line]
    found = sorted(match[1] for match in starts if match)
    assert found == ["results/tiny/systems/small/seed1", "results/tiny/systems/small/seed2"]


def test_a_training_with_several_gpus_has_as_many_processes(checkout: Checkout) -> None:
    config = tiny()
    config["training"] = {**config["training"], "accumulate": 4}
    arguments = ("--dry-run", "-p", "teacher", "--set-resources", "train_teacher:gpu=2", "--configfile")
    assert "--processes 2 " in checkout.snakemake(*arguments, checkout.configure(config))
    config["training"]["accumulate"] = 3
    refused = checkout.snakemake(*arguments, checkout.configure(config), succeeds=False)
    assert "teacher: 2 GPUs cannot share the 3 batches of an update evenly; set" in refused


def test_local_texts_are_inputs_whatever_their_names(checkout: Checkout) -> None:
    name = 'it\'s a "text" $(x).txt'
    for file in (name, "b", "c"):
        (checkout.path / file).write_text("a\n")
    text = {"source": [{"location": name}], "target": [{"location": "b"}]}
    config = tiny(corpus={"kind": "text", "train": text, "valid": {**text, "source": "c"}, "tests": {"t": text}})
    checkout.configure(config)
    output = checkout.snakemake("--dry-run", "corpus", "--configfile", "test.yaml")
    assert f"input: {name}" in output
    (checkout.path / "{a}.txt").write_text("a\n")
    text["source"][0]["location"] = "{a}.txt"
    checkout.configure(config)
    output = checkout.snakemake("--dry-run", "corpus", "--configfile", "test.yaml", succeeds=False)
    assert "'{a}.txt' holds a brace" in output


def test_bad_configurations_stop_before_anything_runs(checkout: Checkout) -> None:
    config = tiny(reprot={})
    config["students"]["vanilla-raw"]["training"] = {"learnin_rate": 1}
    checkout.configure(config)
    output = checkout.snakemake("--dry-run", "--configfile", "test.yaml", succeeds=False)
    assert "test.yaml: 2 problems" in output
    assert "unknown key; did you mean learning_rate?" in output
    assert "unknown key; did you mean report?" in output
    config = tiny()
    config["teacher"]["checkpoint"] = "nowhere"
    checkout.configure(config)
    output = checkout.snakemake("--dry-run", "--configfile", "test.yaml", succeeds=False)
    assert "there is no directory /" in output
