"""Every stage by hand: what it is run on, and the arguments that it is run with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from retort import cli
from retort.config import Vanilla
from retort.data.vocabulary import Vocabulary
from tests.unit.fakes_bad_input import Arguments, saved
from tests.unit.fakes_runs import STUDENT, TEACHER, Tables, call, make_tables
from tests.unit.fakes_worker import WORDS
from workflow_scripts import (
    ask_teacher,
    build_report,
    check_iteration,
    compare_systems,
    count_ngrams,
    decode_shard,
    encode_corpus,
    fill_references,
    gather_distilled,
    gather_guards,
    gather_interpolated,
    gather_labels,
    gather_mixed,
    gather_selected,
    hold_out_references,
    judge_outputs,
    label_shard,
    measure_agreement,
    measure_exposure,
    measure_latency,
    measure_multimodality,
    prepare_corpus,
    prepare_monolingual,
    score,
    score_by_length,
    score_learned,
    select_candidates,
    train_system,
    train_vocabulary,
    translate,
    tune_search,
)

LOOSE = '{"length": 0, "distinct_words": 0, "quality": 0, "likelihood": 1e6}'
ECHO = json.dumps({"kind": "command", "arguments": ["cat"], "filters": {"copied": None}})
"""An external teacher that repeats what it is asked."""


def made_tables(root: Path) -> Tables:
    """A tiny run with the outputs that later stages read."""
    tables = make_tables(root)
    vocabulary = Vocabulary.load(tables.vocabulary)
    tables.train(TEACHER, root / "teacher/seed1")
    saved(root / "student/seed1", Vanilla(name="vanilla"), vocabulary)
    for stage, folder in {
        "decode_shard": "decoded", "translate": "translated", "select_candidates": "selected",
        "check_iteration": "checked", "label_shard": "labelled", "ask_teacher": "asked",
    }.items():  # fmt: skip
        script, *arguments = STAGES[stage](tables, root / folder)
        call(script, *arguments)  # type: ignore[arg-type]
    pairs = "".join(f"source {number}\ttarget {number}\n" for number in range(200))
    (root / "pairs.tsv").write_text(pairs)
    (root / "config.json").write_text(
        json.dumps({"name": "full", "corpus": {"kind": "generated"}, "teacher": TEACHER, "students": {"s": STUDENT}})
    )
    return tables


def decoding(tables: Tables, out: Path) -> Arguments:
    return [
        decode_shard, "--distillation", '{"search": {"kind": "greedy"}}', "--checkpoint", tables.root / "teacher/seed1",
        "--system", "teacher", "--seed", 1, "--search-name", "greedy", "--corpus", tables.corpus / "train.parquet",
        "--shard", 0, "--shards", 1, "--state", out / "state", "--output", out / "shard.parquet",
    ]  # fmt: skip


def translating(tables: Tables, out: Path) -> Arguments:
    return [
        translate, "--checkpoint", tables.root / "student/seed1", "--search", '{"kind": "argmax"}', "--system", "s",
        "--seed", 1, "--search-name", "argmax", "--tests", tables.test, "--output", out / "argmax.parquet",
    ]  # fmt: skip


STAGES: dict[str, Callable[[Tables, Path], Arguments]] = {
    "prepare_corpus": lambda t, out: [
        prepare_corpus, "--corpus", '{"kind": "generated", "train_pairs": 60}', "--output", out / "corpus",
    ],
    "train_vocabulary": lambda t, out: [
        train_vocabulary, "--vocabulary", '{"size": 90}', "--corpus", t.corpus / "train.parquet", "--output", out / "v",
    ],
    "encode_corpus": lambda t, out: [
        encode_corpus, "--vocabulary", t.vocabulary, "--corpus", t.corpus / "train.parquet", "--output", out / "e",
    ],
    "prepare_monolingual": lambda t, out: [
        prepare_monolingual, "--texts", "[]", "--corpus", t.corpus / "train.parquet", "--held-out",
        t.corpus / "valid.parquet", "--cleaning", "{}", "--vocabulary", t.vocabulary, "--block-tokens", 16,
        "--valid-blocks", 2, "--output", out / "text",
    ],
    "train_system": lambda t, out: [train_system, *t.training(TEACHER, out / "system", out / "state")],
    "decode_shard": decoding,
    "gather_distilled": lambda t, out: [
        gather_distilled, "--shards", t.root / "decoded/shard.parquet", "--train", t.encoded / "train.parquet",
        "--vocabulary", t.vocabulary, "--output-translations", out / "a.parquet", "--output-encoded", out / "b.parquet",
    ],
    "label_shard": lambda t, out: [
        label_shard, "--distillation", "{}", "--teacher", t.root / "teacher/seed1", "--train",
        t.encoded / "train.parquet", "--vocabulary", t.vocabulary, "--top-k", 4, "--shard", 0, "--shards", 1,
        "--output", out / "labels.parquet",
    ],
    "translate": translating,
    "score": lambda t, out: [
        score, "--evaluation", "{}", "--data", "raw", "--translations", t.root / "translated/argmax.parquet",
        "--tests", t.test, "--output", out / "scores.parquet",
    ],
    "measure_latency": lambda t, out: [
        measure_latency, "--latency",
        '{"sentences": 2, "warmup": 1, "batch_sizes": [1], "engines": ["torch"], "cold_starts": 0}',
        "--systems", json.dumps([{
            "system": "student", "seed": 1, "search_name": "a", "search": {"kind": "argmax"},
            "checkpoint": str(t.root / "student/seed1"),
        }]), "--tests", t.test, "--output", out / "latency.parquet",
    ],
    "build_report": lambda t, out: [
        build_report, "--config", t.root / "config.json", "--corpus", t.corpus, "--output", out / "report",
    ],
    "ask_teacher": lambda t, out: [
        ask_teacher, "--teacher", ECHO, "--corpora", t.test, "--answers", out / "answers", "--output",
        out / "a.parquet",
    ],
    "check_iteration": lambda t, out: [
        check_iteration, "--guards", LOOSE, "--iteration", 1, "--seed", 1, "--selected",
        t.root / "selected/selected.parquet", "--first", t.root / "decoded/shard.parquet", "--first-teacher",
        t.root / "teacher/seed1", "--corpus", t.corpus / "train.parquet", "--train", t.encoded / "train.parquet",
        "--output", out / "guards.parquet",
    ],
    "compare_systems": lambda t, out: [
        compare_systems, "--evaluation", '{"bootstrap_samples": 10}', "--tests", t.test, "--baseline",
        t.root / "translated/argmax.parquet", "--translations", t.root / "translated/argmax.parquet",
        "--output", out / "comparison.parquet",
    ],
    "count_ngrams": lambda t, out: [
        count_ngrams, "--train", t.encoded / "train.parquet", "--vocabulary", t.vocabulary, "--order", 3, "--most",
        100_000, "--output", out / "ngrams.bin",
    ],
    "fill_references": lambda t, out: [
        fill_references, "--teacher", ECHO, "--outputs", t.root / "asked/a.parquet", "--sources", t.corpus,
        "--output", out / "filled",
    ],
    "gather_guards": lambda t, out: [
        gather_guards, "--guards", t.root / "checked/guards.parquet", "--output", out / "guards.parquet",
    ],
    "gather_interpolated": lambda t, out: [
        gather_interpolated, "--shards", t.root / "decoded/shard.parquet", "--corpus", t.corpus / "train.parquet",
        "--train", t.encoded / "train.parquet", "--vocabulary", t.vocabulary, "--output", out / "e.parquet",
    ],
    "gather_labels": lambda t, out: [
        gather_labels, "--shards", t.root / "labelled/labels.parquet", "--train", t.encoded / "train.parquet",
        "--output", out / "labels.parquet",
    ],
    "gather_mixed": lambda t, out: [
        gather_mixed, "--translations", t.root / "decoded/shard.parquet", "--corpus", t.corpus / "train.parquet",
        "--train", t.encoded / "train.parquet", "--vocabulary", t.vocabulary, "--output", out / "mixed.parquet",
    ],
    "gather_selected": lambda t, out: [
        gather_selected, "--selected", t.root / "selected/selected.parquet", "--guards",
        t.root / "checked/guards.parquet", "--train", t.encoded / "train.parquet", "--vocabulary", t.vocabulary,
        "--output", out / "e.parquet",
    ],
    "hold_out_references": lambda t, out: [
        hold_out_references, "--train", t.encoded / "train.parquet", "--held-out", 2, "--output", out / "a.parquet",
        "--output-held-out", out / "b.parquet",
    ],
    "judge_outputs": lambda t, out: [
        judge_outputs, "--teacher", ECHO, "--shards", t.root / "asked/a.parquet", "--corpus", t.test,
        "--output-judged", out / "a.parquet", "--output-rejected", out / "b.parquet", "--output-judgement",
        out / "c.parquet",
    ],
    "measure_agreement": lambda t, out: [
        measure_agreement, "--checkpoint", t.root / "student/seed1", "--train", t.encoded / "train.parquet",
        "--output", out / "agreement.parquet",
    ],
    "measure_exposure": lambda t, out: [
        measure_exposure, "--student", t.root / "teacher/seed1", "--teacher", t.root / "teacher/seed1", "--system", "s",
        "--seed", 1, "--exposure", "{}", "--metrics", "BLEU", "--tests", t.test, "--output", out / "exposure.parquet",
    ],
    "measure_multimodality": lambda t, out: [
        measure_multimodality, "--checkpoint", t.root / "student/seed1", "--held-out", t.encoded / "valid.parquet",
        "--system", "s", "--seed", 1, "--data", "raw", "--output", out / "ncm.parquet",
    ],
    "score_learned": lambda t, out: [
        score_learned, "--translations", t.root / "translated/argmax.parquet", "--tests", t.test, "--metric", "words",
        "--learned", json.dumps({"command": WORDS}), "--output", out / "segments.parquet",
    ],
    "score_by_length": lambda t, out: [
        score_by_length, "--translations", t.root / "translated/argmax.parquet", "--tests", t.test, "--evaluation",
        '{"length_buckets": [5]}', "--output", out / "lengths.parquet",
    ],
    "select_candidates": lambda t, out: [
        select_candidates, "--em", '{"iterations": 1}', "--candidates", t.root / "decoded/shard.parquet", "--train",
        t.encoded / "train.parquet", "--student", t.root / "student/seed1", "--teacher", t.root / "teacher/seed1",
        "--first-teacher", t.root / "teacher/seed1", "--output", out / "selected.parquet",
    ],
    "tune_search": lambda t, out: [
        tune_search, "--checkpoint", t.root / "student/seed1", "--searches", '{"search": "argmax"}', "--system", "s",
        "--seed", 1, "--search-name", "argmax", "--valid", t.corpus / "valid.parquet", "--metric", "chrF", "--output",
        out / "argmax.json", "--output-table", out / "tuning.parquet",
    ],
    "init": lambda t, out: [cli, "init", t.root / "pairs.tsv", "--output", out / "init.yaml"],
    "export": lambda t, out: [cli, "export", "--model", t.root / "student/seed1", "--output", out / "bundle"],
}  # fmt: skip
