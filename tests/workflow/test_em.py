"""The EM loop: one real run of two iterations, then what more iterations or seeds, other bounds and one target run."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from retort.data.parquet import read_table
from retort.data.tables import AGREEMENT, ENCODED, GUARDS, MIXED, MULTIMODALITY, SELECTION
from retort.workflow import status
from tests.workflow.checkouts import TINY_EM, Checkout, copy_checkout, jobs

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout where two iterations have run."""
    result = copy_checkout(tmp_path_factory.mktemp("em") / "checkout")
    result.snakemake("--configfile", result.configure(TINY_EM, "em.yaml"))
    return result


def changed(**em: Any) -> dict[str, Any]:
    config = copy.deepcopy(TINY_EM)
    config["em"].update(em)
    return config


def directory(loop: Checkout) -> Path:
    return loop.path / "results/tiny-em"


def test_each_iteration_leaves_its_text_its_models_and_its_measures(loop: Checkout) -> None:
    run = directory(loop)
    for system in ("em1", "em2-teacher", "em2"):
        assert (run / f"systems/{system}/seed1/model.safetensors").is_file()
    for iteration in (1, 2):
        row = read_table(run / f"multimodality/em{iteration}/seed1.parquet", MULTIMODALITY).to_pylist()[0]
        assert row["nats"] > 0 and row["sentences"] <= 50
        assert (run / f"scores/em{iteration}/seed1/parallel3.parquet").is_file()
    text = run / "em/iteration2/seed1"
    trained, held_out, references = (
        set(read_table(path, ENCODED)["id"].to_pylist())
        for path in (text / "train.parquet", text / "held_out.parquet", run / "em/iteration0/held_out.parquet")
    )
    assert not trained & held_out and held_out <= references and len(references) == 50
    row = read_table(run / "multimodality/references/seed1.parquet", MULTIMODALITY).to_pylist()[0]
    assert row["data"] == "references" and row["sentences"] == 50
    chosen = pa.concat_tables([read_table(text / f"selected/{i}-of-2.parquet", SELECTION) for i in (1, 2)])
    assert len(set(chosen["id"].to_pylist())) == chosen.num_rows == 300
    assert set(read_table(run / "em/iteration2/guards.parquet", GUARDS)["seed"].to_pylist()) == {1}
    page = (run / "report/report.html").read_text()
    assert "is kept: it has the best validation BLEU" in page
    assert not list((run / "state").rglob("*.parquet"))


def test_the_second_iteration_starts_from_what_the_first_chose(loop: Checkout) -> None:
    run = directory(loop)
    inputs = json.loads((run / "systems/em2-teacher/seed1/model.json").read_text())["provenance"]["inputs"]
    assert {"train", "start"} <= set(inputs)
    first = json.loads((run / "systems/em1/seed1/model.json").read_text())["provenance"]["inputs"]["train"]
    second = json.loads((run / "systems/em2/seed1/model.json").read_text())["provenance"]["inputs"]["train"]
    assert first != second


def test_a_student_beside_the_loop_has_both_targets_of_each_source(loop: Checkout) -> None:
    run = directory(loop)
    mixed = read_table(run / "mixed/train.parquet", MIXED)
    assert mixed.filter(pc.invert(mixed["distilled"])).num_rows == 300 < mixed.num_rows
    assert read_table(run / "agreement/ctc/seed1.parquet", AGREEMENT).num_rows == 300
    facts = json.loads((run / "systems/mixed/seed1/model.json").read_text())
    assert facts["mixture"]["evaluator"] == "ctc" and {"train", "agreement"} <= set(facts["provenance"]["inputs"])
    assert "selective by ctc, self-paced by agreement, hard" in (run / "report/report.html").read_text()


def test_nothing_runs_twice(loop: Checkout) -> None:
    assert "Nothing to be done" in loop.snakemake("--dry-run", "--configfile", "em.yaml")


def test_one_more_iteration_runs_that_one_only(loop: Checkout) -> None:
    planned = loop.planned(changed(iterations=3), "em")
    shards = ("1-of-2", "2-of-2")
    expected = {f"decode_candidates 3/1/{shard}" for shard in shards}
    expected |= {f"select_candidates 3/1/{shard}" for shard in shards}
    expected |= {"check_iteration 3/1", "gather_guards 3"}
    # what follows the guards is planned when they are known
    assert planned == expected


def test_one_more_seed_runs_a_loop_of_its_own_from_the_first_teacher_on(loop: Checkout) -> None:
    config = copy.deepcopy(TINY_EM)
    config["seeds"] = [1, 2]
    config["teacher"]["seeds"] = [1]
    planned = loop.planned(config, "em")
    # the first teacher's candidates serve both seeds
    assert not {job for job in planned if job.startswith("decode_candidates")}
    assert {"train_student em1/2", "select_candidates 2/2/1-of-2", "check_iteration 2/2"} <= planned
    assert not {job for job in planned if job.startswith("train") and not job.endswith("/2")}


def test_an_iteration_is_a_target(loop: Checkout, checkout: Checkout) -> None:
    assert loop.planned(TINY_EM, "em1") == loop.planned(TINY_EM, "em2") == set()
    planned = checkout.planned({**TINY_EM, "seeds": [1, 2], "teacher": {**TINY_EM["teacher"], "seeds": [1]}}, "em1")
    assert {job for job in planned if job.startswith(("train_teacher", "train_student"))} == {
        "train_teacher teacher/1",
        "train_student em1/1",
        "train_student em1/2",
    }
    assert not {job for job in planned if "candidates" in job}


def test_the_choice_runs_again_from_the_candidates_on(loop: Checkout) -> None:
    planned = loop.planned(changed(choose_by="difference"), "em")
    assert not {job for job in planned if job.startswith(("decode_candidates", "train_teacher", "train_student em1"))}
    assert {job for job in planned if job.startswith("select_candidates")} == {
        f"select_candidates 2/1/{shard}" for shard in ("1-of-2", "2-of-2")
    }


def test_other_held_out_pairs_make_all_texts_of_the_loop_again(loop: Checkout) -> None:
    planned = loop.planned(changed(held_out=60))
    assert {"hold_out_references", "gather_first"} <= planned
    assert {"train_student em1/1", "train_student references/1"} <= planned
    assert not {job for job in planned if job.startswith(("train_teacher", "decode_shard", "train_student ctc"))}


def test_a_bound_that_is_still_met_trains_nothing_again(loop: Checkout, tmp_path: Path) -> None:
    going = Checkout(tmp_path / "going")
    shutil.copytree(loop.path, going.path)
    name = going.configure(changed(guards={**TINY_EM["em"]["guards"], "likelihood": 99}))
    done = jobs(going.snakemake("--configfile", name))
    assert done == {"check_iteration 2/1", "gather_guards 2", "write_config", "draw_rules", "build_report"}
    assert "\nfinished; started " in "\n".join(status.lines(directory(going)))


def test_guards_that_are_damaged_are_one_error(loop: Checkout) -> None:
    guards = directory(loop) / "em/iteration2/guards.parquet"
    before, times = guards.read_bytes(), guards.stat()
    guards.write_bytes(before[:100])
    os.utime(guards, ns=(times.st_atime_ns, times.st_mtime_ns))
    try:
        output = loop.snakemake("--dry-run", "--configfile", "em.yaml", succeeds=False)
    finally:
        guards.write_bytes(before)
        os.utime(guards, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "error: results/tiny-em/em/iteration2/guards.parquet: " in output and "Traceback" not in output
    assert "InputFunctionException" not in output


def test_a_missed_bound_ends_the_loop_with_a_report(loop: Checkout, tmp_path: Path) -> None:
    ended = Checkout(tmp_path / "ended")
    shutil.copytree(loop.path, ended.path)
    name = ended.configure(changed(guards={"length": 1000}))
    output = ended.snakemake("--configfile", name)
    assert "EM iteration 2 (seed 1): the loop ends here, the chosen candidates are too poor: mean length" in output
    report = directory(ended) / "report"
    assert "Iteration <b>1</b> is kept" in (report / "report.html").read_text()
    systems = {line.split(",")[0] for line in (report / "results.csv").read_text().splitlines()}
    assert "em1" in systems and not systems & {"em2", "em2-teacher"}
    (directory(ended) / "em/iteration2/seed1/selected.parquet").unlink()
    asked = ended.snakemake(
        "results/tiny-em/em/iteration2/seed1/selected.parquet", "--configfile", name, succeeds=False
    )
    assert "error: gather_selected: EM iteration 2 (seed 1): the loop ends here" in asked


LINGER = """
import atexit, pathlib, sys, time
atexit.register(lambda: pathlib.Path(sys.argv[0]).name == "score.py" and time.sleep(600))
"""
"""A sitecustomize.py by which a job that scores has written its output, and does not end."""


def test_an_output_behind_the_checkpoint_that_a_kill_left_unrecorded_is_made_again(
    loop: Checkout, tmp_path: Path
) -> None:
    """Otherwise no later change of the configuration would ever run it again."""
    cut = Checkout(tmp_path / "cut")
    shutil.copytree(loop.path, cut.path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(LINGER)
    target = "results/tiny-em/scores/em2/seed1/parallel3.parquet"
    score = cut.path / target
    score.unlink()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", target, "--configfile", "em.yaml"]
    command += ["--set-scatter", "distill=2"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    with open(cut.path / "killed.txt", "wb") as output:
        process = subprocess.Popen(
            command, cwd=cut.path, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        while not score.exists() and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (cut.path / "killed.txt").read_text()
    job = "score em2/1/parallel3"
    assert job in cut.planned(TINY_EM)
    cut.snakemake(target, "--configfile", "em.yaml", "--set-scatter", "distill=2")
    assert job not in cut.planned(TINY_EM)
    config = copy.deepcopy(TINY_EM)
    config["evaluation"] = {**config.get("evaluation", {}), "metrics": ["BLEU", "chrF"]}
    assert job in cut.planned(config)
