"""A whole made-up run on disk: config, corpus, scores, comparison, latency, logs, checkpoints, translations."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from retort.config import Config
from retort.config.load import load_config, to_json
from retort.data.parquet import write_table
from retort.data.runs import Run
from retort.data.tables import (
    CLEANING,
    COMPARISON,
    EXPOSURE,
    GUARDS,
    LATENCY,
    LENGTHS,
    MULTIMODALITY,
    SCORES,
    TRAINING_LOG,
)
from retort.distillation.guards import CHANGED, IMPOSSIBLE, LENGTH, QUALITY, guards_table
from retort.evaluation.comparison import compare
from retort.evaluation.diagnostics import diagnostics
from retort.evaluation.lengths import scores_by_length
from retort.evaluation.quality import quality, read_pairs, read_tests
from retort.evaluation.runs import data_pairs
from tests.unit.fakes_evaluation import corpus, translations

EVIL = "<b>&\"quoted\"</b> 'text'"
WORDS = ["ein", "der", "die", "Hund", "Mann", "Frau", "Haus", "alt", "neu", "auf", "mit", "Straße", "Kind", "rot", "in"]

# name: objective, data, share of garbled words, seconds at batch 1
SYSTEMS: dict[str, tuple[str, str, float, float]] = {
    "teacher": ("autoregressive", "raw", 0.16, 0.120),
    "shallow-raw": ("autoregressive", "raw", 0.20, 0.040),
    "shallow": ("autoregressive", "distilled", 0.17, 0.041),
    "vanilla-raw": ("vanilla", "raw", 0.50, 0.010),
    "vanilla": ("vanilla", "distilled", 0.33, 0.0101),
    "cmlm-raw": ("cmlm", "raw", 0.32, 0.026),
    "cmlm": ("cmlm", "distilled", 0.22, 0.027),
    "ctc-raw": ("ctc", "raw", 0.30, 0.011),
    "ctc": ("ctc", "distilled", 0.21, 0.0112),
    "ctc-deep": ("ctc", "distilled", 0.195, 0.016),
    "ctc-small": ("ctc", "distilled", 0.26, 0.008),
    "cmlm-deep": ("cmlm", "distilled", 0.205, 0.034),
}
# the EM loop: iteration 2 is the better one, and the guards end it before iteration 3
LOOP: dict[str, tuple[str, str, float, float]] = {
    "em1": ("cmlm", "em", 0.30, 0.020),
    "em2-teacher": ("autoregressive", "selected", 0.18, 0.110),
    "em2": ("cmlm", "em", 0.20, 0.021),
}
ITERATIONS = 3
ALL = SYSTEMS | LOOP
SEARCHES: dict[str, dict[str, tuple[str, float, float]]] = {
    # kind, factor on errors, factor on time
    "autoregressive": {"beam5": ("beam", 1.0, 1.0), "greedy": ("greedy", 1.06, 0.6)},
    "vanilla": {"argmax": ("argmax", 1.0, 1.0)},
    "cmlm": {"passes4": ("mask_predict", 1.0, 1.0), "passes1": ("mask_predict", 1.7, 0.4)},
    "ctc": {"collapse": ("ctc_collapse", 1.0, 1.0)},
}

NO_FIGURES = dict.fromkeys(("quality_latency", "training_curves", "em_iterations", "lengths"))


def config(names: Sequence[str] = ("teacher",), seeds: Sequence[int] = (1,), **sections: Any) -> Config:
    """A configuration of these systems; ``sections`` are added to it. The title of the report needs escaping."""
    systems: dict[str, Any] = {
        name: {
            "objective": {"name": ALL[name][0]},
            "data": ALL[name][1],
            "model": {"encoder_layers": 6 if "deep" in name else 3, "d_model": 64 if "small" in name else 128},
            "searches": {search: {"kind": kind} for search, (kind, _, _) in SEARCHES[ALL[name][0]].items()},
        }
        for name in names
    }
    loop = {role: systems.pop(name) for role, name in (("student", "em1"), ("teacher", "em2-teacher")) if name in names}
    for section in loop.values():
        del section["data"]  # the loop's own
    systems.pop("em2", None)
    texts = {side: [{"location": side}] for side in ("source", "target")}
    valid = {side: [{"location": f"valid.{side}"}] for side in ("source", "target")}
    raw = {
        "name": "run",
        "seeds": list(seeds),
        "corpus": {"kind": "text", "train": texts, "valid": valid, "tests": {"flickr": texts, "coco": texts}},
        "teacher": systems.pop("teacher"),
        "students": systems,
        "em": {"iterations": ITERATIONS if "em1" in names else 0, **loop},
        "report": {"title": f"Report {EVIL}", "sample_sentences": 5},
    }
    return load_config({**raw, **sections})


def run_on_disk(
    root: Path,
    names: list[str] | None = None,
    seeds: tuple[int, ...] = (1,),
    sentences: int = 40,
    metrics: tuple[str, ...] = ("BLEU", "chrF", "TER"),
) -> dict[str, Any]:
    """Write a run below ``root``; returns the arguments of ``retort.report.inputs.Paths``."""
    names, generator = names or list(SYSTEMS), random.Random(5)
    resolved = config(names, seeds, evaluation={"metrics": list(metrics)})
    (root / "config.json").write_text(to_json(resolved))
    references = [" ".join(generator.choices(WORDS, k=generator.randint(4, 14))) + "." for _ in range(sentences)]
    references[0] = EVIL
    test = corpus(root / "corpus" / "test.flickr.parquet", references)
    _corpus_facts(root / "corpus")
    tests = read_tests([test])
    runs = [Run(name, seed, search) for name in names for seed in seeds for search in SEARCHES[ALL[name][0]]]
    files = {run: _translate(root, run, references, generator) for run in runs}
    scores = []
    for run, path in files.items():
        table = root / "scores" / run.system / f"seed{run.seed}" / f"{run.search}.parquet"
        rows = [
            {**_names(run), "data": ALL[run.system][1], "test_set": "flickr", "metric": s.metric, "value": s.value,
             "signature": s.signature}
            for (pairs,) in [read_pairs(path, tests)]
            for s in [*quality(pairs, metrics), *diagnostics(pairs, metrics[0])]
        ]  # fmt: skip
        write_table(table, SCORES, pa.Table.from_pylist(rows, schema=SCORES.schema), {"retort": "0.1.0", "git": "abc"})
        scores.append(table)
    baseline = files[Run("teacher", seeds[0], "beam5")]
    pairs = [
        (files[Run(distilled, seed, search)], files[Run(raw, seed, search)])
        for raw, distilled in data_pairs(resolved.systems)
        for seed in seeds
        for search in resolved.systems[raw].searches
    ]
    pairs += [(files[run], files[Run("em1", run.seed, run.search)]) for run in runs if run.system == "em2"]
    compared = compare([test], baseline, list(files.values()), pairs, samples=200, metrics=metrics)
    write_table(root / "comparison.parquet", COMPARISON, compared, {"baseline": f"teacher/seed{seeds[0]}/beam5"})
    _latency(root / "latency.parquet", runs, generator)
    checkpoints = [_train(root, name, seed, generator, metrics[0]) for name in names for seed in seeds]
    _benchmarks(root / "benchmarks")
    (root / "rulegraph.dot").write_text(_dot(RULES))
    return {
        "config": root / "config.json",
        "corpus": root / "corpus",
        "scores": scores,
        "comparison": root / "comparison.parquet",
        "latency": root / "latency.parquet",
        "logs": [directory / "training.parquet" for directory in checkpoints],
        "checkpoints": [str(directory) for directory in checkpoints],
        "translations": list(files.values()),
        "multimodality": [
            _modality(root, name, seed) for name in names if ALL[name][0] != "autoregressive" for seed in seeds
        ],
        "guards": [_guards(root, t, seeds) for t in (2, 3) if "em1" in names],
        "lengths": [_lengths(root / "lengths.parquet", files, tests, metrics)],
        "exposure": [_exposure(root, "shallow", seed, metrics) for seed in seeds if "shallow" in names],
        "benchmarks": root / "benchmarks",
        "dag": root / "rulegraph.dot",
    }


RULES = {
    "prepare_corpus": [],
    "train_vocabulary": ["prepare_corpus"],
    "encode_corpus": ["prepare_corpus", "train_vocabulary"],
    "train_student": ["encode_corpus", "train_vocabulary", "gather_distilled"],
    "train_teacher": ["encode_corpus", "train_vocabulary"],
    "decode_shard": ["train_teacher", "prepare_corpus"],
    "gather_distilled": ["decode_shard", "encode_corpus", "train_vocabulary"],
    "translate": ["train_student", "train_teacher", "prepare_corpus"],
    "score": ["translate", "prepare_corpus"],
    "compare_systems": ["translate", "prepare_corpus"],
    "measure_latency": ["train_student", "train_teacher", "prepare_corpus"],
    "build_report": ["score", "compare_systems", "measure_latency", "train_student", "translate"],
    "all": ["build_report"],
}


def _dot(rules: dict[str, list[str]]) -> str:
    """What snakemake --rulegraph prints of the rules and what they need."""
    number = {rule: index for index, rule in enumerate(rules)}
    nodes = [f'{index}[label = "{rule}", style="rounded"];' for rule, index in number.items()]
    edges = [f"{number[need]} -> {number[rule]}" for rule, needs in rules.items() for need in needs]
    return "\n".join(["digraph snakemake_dag {", *nodes, *edges, "}"])


def _names(run: Run) -> dict[str, Any]:
    return {"system": run.system, "seed": run.seed, "search": run.search}


def _corpus_facts(directory: Path) -> None:
    rows = [("train", "read", 30000), ("train", "too long", 31), ("train", "duplicate", 1204)]
    rows += [("train", "kept", 28765), ("valid", "read", 1014), ("valid", "kept", 1014)]
    table = pa.Table.from_pylist(
        [dict(zip(("split", "reason", "pairs"), row, strict=True)) for row in rows], schema=CLEANING.schema
    )
    write_table(directory / "cleaning.parquet", CLEANING, table)
    facts = {
        "splits": {"train": {"pairs": 28765, "sha256": "0123abcd"}, "valid": {"pairs": 1014, "sha256": "4567cdef"}},
        "true_conditional_entropy": {"nats_per_sentence": 3.642869, "nats_per_word": 0.441426},
        "note": EVIL,
        "provenance": {"retort": "0.1.0"},
    }
    (directory / "corpus.json").write_text(json.dumps(facts))


def _translate(root: Path, run: Run, references: list[str], generator: random.Random) -> Path:
    objective, _, errors, _ = ALL[run.system]
    errors *= SEARCHES[objective][run.search][1] * generator.uniform(0.94, 1.06)
    texts = []
    for reference in references:
        words = reference.split(" ")
        for index in range(len(words)):
            if generator.random() < errors:
                repeat = objective in ("vanilla", "cmlm") and index and generator.random() < 0.5
                words[index] = words[index - 1] if repeat else generator.choice(WORDS)
        texts.append(" ".join(words))
    path = root / "translations" / run.system / f"seed{run.seed}" / f"{run.search}.parquet"
    return translations(path, texts, test_set="flickr")


def _latency(path: Path, runs: list[Run], generator: random.Random) -> None:
    """Each system in torch, and ten times as fast in another engine."""
    rows = []
    for run in runs:
        objective, _, _, seconds = ALL[run.system]
        exported = "ctranslate2" if objective == "autoregressive" else "onnx"
        for engine, precision, share in (("torch", "float32", 1.0), (exported, "int8", 0.1)):
            for size, batches, factor in ((1, 30, 1.0), (8, 4, 2.5), (64, 2, 9.0)):
                for batch in range(batches):
                    length = 0.7 + 0.6 * random.Random(batch).random()
                    total = seconds * SEARCHES[objective][run.search][2] * share * factor * length
                    total *= generator.uniform(0.95, 1.1)
                    rows.append({**_names(run), "engine": engine, "precision": precision, "batch_size": size,
                                 "batch": batch, "sentences": size, "source_characters": int(60 * length) * size,
                                 "source_tokens": int(15 * length) * size, "target_tokens": int(14 * length) * size,
                                 "model_seconds": total * 0.9, "total_seconds": total,
                                 "processor_seconds": total * 0.98})  # fmt: skip
    facts = {
        "device": {"type": "cpu", "processor": "Made-up CPU", "threads": 2},
        "test_set": "flickr",
        "load": {"before": 1.0, "after": 1.5},
        "changed_outputs": [
            {"system": "ctc", "seed": 1, "search": "collapse", "engine": "onnx", "sentences": 30, "changed": 2}
        ],
        "loaded": [
            {
                "system": "ctc",
                "seed": 1,
                "engine": "onnx",
                "bytes": 7_000_000,
                "cold_start_seconds": 0.253,
                "cold_start_processor_seconds": 0.14,
                "peak_bytes": 71_000_000,
            }
        ],
    }
    write_table(path, LATENCY, pa.Table.from_pylist(rows, schema=LATENCY.schema), facts)


def _train(root: Path, name: str, seed: int, generator: random.Random, metric: str) -> Path:
    objective, data, errors, _ = ALL[name]
    directory = root / "systems" / name / f"seed{seed}"
    rows = []
    for update in range(100, 6001, 100):
        seconds = update * (0.2 if objective == "autoregressive" else 0.3)
        loss = 2 + 10 * errors + 6 * math.exp(-update / 700) + generator.gauss(0, 0.05)
        rows.append((update, "train", "loss", loss, seconds))
        if objective == "ctc":
            rows.append((update, "train", "infeasible", seed * update / 1e6, seconds))
        if update % 500 == 0:
            rows.append((update, "valid", "loss", loss + 0.2, seconds))
            reached = 45 * (1 - errors) * (1 - math.exp(-update / 1800)) + generator.gauss(0, 0.4)
            rows.append((update, "valid", metric, reached, seconds))
    columns = ("update", "split", "metric", "value", "seconds")
    table = pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema=TRAINING_LOG.schema)
    write_table(directory / "training.parquet", TRAINING_LOG, table)
    model: dict[str, Any] = {"parameters": 4_321_000, "updates": 6000, "train_seconds": 60.0 * 21 + seed}
    model |= {"objective": {"name": objective}}
    model |= {"validation": {metric: 50 * (1 - errors) + seed}}
    device = {"type": "cpu", "name": "Made-up"}
    model |= {"data": data, "seed": seed, "device": device, "provenance": {"retort": "0.1.0", "git": "abc"}}
    (directory / "model.json").write_text(json.dumps(model))
    return directory


def _modality(root: Path, name: str, seed: int) -> Path:
    """Two nats a token and the system's share of errors; a seed's tokens are a hundred times it more."""
    tokens = 1000 + 100 * seed
    row = {"system": name, "seed": seed, "data": ALL[name][1], "sentences": 100, "infeasible": seed, "tokens": tokens,
           "nats": tokens * (2 + ALL[name][2])}  # fmt: skip
    path = root / "multimodality" / name / f"seed{seed}.parquet"
    write_table(path, MULTIMODALITY, pa.Table.from_pylist([row], schema=MULTIMODALITY.schema))
    return path


def _lengths(path: Path, files: dict[Run, Path], tests: dict[str, pa.Table], metrics: tuple[str, ...]) -> Path:
    rows = [
        {**_names(run), **row}
        for run, file in files.items()
        for pairs in read_pairs(file, tests)
        for row in scores_by_length(pairs, [7, 10], metrics)
    ]
    write_table(path, LENGTHS, pa.Table.from_pylist(rows, schema=LENGTHS.schema))
    return path


def _exposure(root: Path, name: str, seed: int, metrics: tuple[str, ...]) -> Path:
    """Alone the student has 30 and a tenth of its seed, the teacher 40; it gains 5, 3 and 2 on completed prefixes."""
    cells = {("none", "student", 0.0): 30 + 0.1 * seed, ("none", "teacher", 0.0): 40.0}
    for prefix, gain in (("student", 5.0), ("teacher", 3.0), ("reference", 2.0)):
        cells |= {(prefix, "student", 0.5): 31.0 + seed, (prefix, "teacher", 0.5): 31.0 + seed + gain}
    rows = [
        {"system": name, "seed": seed, "test_set": "flickr", "prefix": prefix, "share": share, "completed_by": who,
         "given": share, "metric": metric, "value": value, "signature": "made up"}
        for (prefix, who, share), value in cells.items() for metric in metrics
    ]  # fmt: skip
    path = root / "exposure" / name / f"seed{seed}.parquet"
    write_table(path, EXPOSURE, pa.Table.from_pylist(rows, schema=EXPOSURE.schema))
    return path


def _guards(root: Path, iteration: int, seeds: list[int] | tuple[int, ...]) -> Path:
    """In iteration 3, the last seed's candidates are too short."""
    tables = []
    for seed in seeds:
        short = iteration == 3 and seed == seeds[-1]
        rows = [
            {"metric": LENGTH, "value": 5.0 if short else 10.0 + seed, "first": 12.0, "least": 9.0},
            {"metric": QUALITY, "value": 30.0, "first": 32.0, "least": 20.0},
            {"metric": CHANGED, "value": 0.2 * seed, "first": None, "least": None},
            {"metric": IMPOSSIBLE, "value": 0.02 * seed * iteration, "first": None, "least": None},
        ]
        tables.append(guards_table(rows, iteration, seed))
    path = root / "guards" / f"{iteration}.parquet"
    write_table(path, GUARDS, pa.concat_tables(tables))
    return path


def _benchmarks(directory: Path) -> None:
    head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    for rule, jobs in {"train_student": (1300.0, 1250.5), "translate": (9.5, 8.5), "prepare_corpus": (3.25,)}.items():
        for index, seconds in enumerate(jobs):
            path = directory / rule / "teacher" / f"seed{index}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{head}{seconds}\t0:00:01\t{900 + index}.5\t-\t-\t-\t0\t0\t99\t1.0\n")
