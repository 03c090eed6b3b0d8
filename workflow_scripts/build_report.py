"""Build the report: one self-contained HTML page, its figures as PNG, its numbers as CSV, the verdict as text."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.data.files import write_bytes
from retort.evaluation.runs import named_directory
from retort.report import verdict
from retort.report.figures import (
    em_iterations,
    lengths,
    mixed_training,
    placeholder,
    quality_latency,
    training_curves,
)
from retort.report.inputs import Paths, read_inputs
from retort.report.page import render
from retort.report.results import differences_csv, results_csv
from retort.report.summary import test_sets, warnings
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--config", type=Path, required=True, help="the run's resolved config, JSON")
    result.add_argument("--corpus", type=Path, help="directory of prepare_corpus")
    result.add_argument("--encoding", type=Path, nargs="*", default=[], help="encoding tables")
    result.add_argument("--gathered", type=Path, nargs="*", default=[], help="training texts made of outputs")
    result.add_argument("--pretraining", type=Path, nargs="*", default=[], help="encoded text to pre-train on")
    result.add_argument("--scores", type=Path, nargs="*", default=[], help="scores tables")
    result.add_argument("--comparison", type=Path, help="comparison table")
    result.add_argument("--latency", type=Path, help="latency table")
    result.add_argument("--logs", type=Path, nargs="*", default=[], help="<system>/seed<seed>/training.parquet")
    result.add_argument(
        "--checkpoints",
        nargs="*",
        default=[],
        metavar="DIRECTORY",
        help="directories <system>/seed<seed>, or <system>/seed<seed>=DIRECTORY",
    )
    result.add_argument(
        "--translations", type=Path, nargs="*", default=[], help="<system>/seed<seed>/<search>.parquet, for samples"
    )
    result.add_argument("--multimodality", type=Path, nargs="*", default=[], help="multimodality tables")
    result.add_argument("--guards", type=Path, nargs="*", default=[], help="guards tables of the EM loop")
    result.add_argument("--judgement", type=Path, nargs="*", default=[], help="judgements of an external teacher")
    result.add_argument("--lengths", type=Path, nargs="*", default=[], help="tables of scores by length")
    result.add_argument("--exposure", type=Path, nargs="*", default=[], help="exposure tables")
    result.add_argument("--benchmarks", type=Path, help="directory of Snakemake's benchmark files, <rule>/**.tsv")
    result.add_argument("--dag", type=Path, help="output of snakemake --rulegraph")
    result.add_argument("--output", type=Path, required=True, help="directory of the report")
    return result


def main(args: argparse.Namespace) -> None:
    parts = {name: value for name, value in vars(args).items() if name != "output"}
    parts["checkpoints"] = [named_directory(text) for text in args.checkpoints]
    inputs = read_inputs(Paths(**parts))
    sets = test_sets(inputs)
    figures = {
        "quality_latency": quality_latency(inputs, sets[0]) if sets else None,
        "training_curves": training_curves(inputs),
        "mixed_training": mixed_training(inputs),
        "em_iterations": em_iterations(inputs, sets[0]) if sets else None,
        "lengths": lengths(inputs, sets[0]) if sets else None,
    }
    for name, png in figures.items():
        write_bytes(args.output / f"{name}.png", png or placeholder(f"{name}: nothing to draw yet"))
    write_bytes(args.output / "results.csv", results_csv(inputs).encode())
    write_bytes(args.output / "differences.csv", differences_csv(inputs).encode())
    write_bytes(args.output / "report.html", render(inputs, figures).encode())
    lines = verdict.lines(verdict.verdict(inputs), args.output / "report.html", warnings=len(warnings(inputs)))
    write_bytes(args.output / "verdict.txt", "".join(f"{line}\n" for line in lines).encode())


if __name__ == "__main__":
    run_script(parser(), main)
