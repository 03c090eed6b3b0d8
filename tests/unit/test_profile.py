"""The SLURM profile names rules that exist, and the same number of CPUs wherever it names one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def profile() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())


def test_every_rule_of_the_profile_exists(profile: dict[str, Any]) -> None:
    text = "\n".join(path.read_text() for path in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))])
    rules = set(re.findall(r"^ *(?:rule|checkpoint) (\w+):", text, re.M)) | set(re.findall(r"as (\w+) with:", text))
    named = {*profile["set-threads"], *profile["set-resources"], *profile["slurm-array-jobs"].split(",")}
    assert len(rules) > 30 and named - rules == set()


def test_threads_are_the_cpus_that_are_asked_for(profile: dict[str, Any]) -> None:
    cpus = {rule: keys["cpus_per_task"] for rule, keys in profile["set-resources"].items() if "cpus_per_task" in keys}
    threads = {rule: number for rule, number in profile["set-threads"].items() if number > 1}
    assert len(cpus) > 10 and cpus == threads


def test_rules_that_compare_every_output_have_hours(profile: dict[str, Any]) -> None:
    for rule in ("gather_interpolated", "gather_mixed", "judge_outputs"):
        runtime = profile["set-resources"].get(rule, profile["default-resources"])["runtime"]
        assert int(str(runtime).split()[0]) >= 480, rule


def test_files_of_any_size_are_compared_by_content() -> None:
    """Snakemake's own limit is a megabyte: a larger text that was touched would re-run everything."""
    default = (ROOT / "profiles/default/config.yaml").read_text()
    assert int(re.findall(r"^max-checksum-file-size: (\d+)$", default, re.M)[0]) >= 10**12
