"""``retort init`` writes configurations that load; ``retort run`` hands over to snakemake."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from retort import cli
from retort.config import Ctc, Dag, GeneratedCorpus, GlatCtc, TextCorpus, Vocabulary
from retort.config.load import load_config
from retort.corpus.carving import carve
from retort.corpus.language.generated import generate
from retort.data.batches import Batch
from retort.data.parquet import write_table
from retort.data.references import corpus_table
from retort.data.tables import CORPUS
from retort.data.vocabulary_training import possible_vocabulary, train_vocabulary
from retort.errors import RetortError
from retort.objectives.autoregressive import compute
from retort.workflow.init import estimate
from retort.workflow.init.decisions import decide, model_of
from retort.workflow.init.presets import PRESETS, Preset, preset_named
from retort.workflow.init.statistics import Statistics, sides_of, statistics_of, which_is_which
from retort.workflow.init.writing import check_name, configuration, run_name, write_configuration

RNG = random.Random(1)
PAIRS = [(" ".join(RNG.choices("abcdefgh", k=RNG.randint(2, 9))), f"zeile {n} {n % 7}") for n in range(300)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "SECONDS", 0.0)
    Path("my.en").write_text("".join(f"{source}\n" for source, _ in PAIRS))
    with gzip.open("my.de.gz", "wt") as packed:
        packed.write("".join(f"{target}\n" for _, target in PAIRS))
    Path("my.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    lines = (json.dumps({"id": n, "translation": {"en": s, "de": t}}) for n, (s, t) in enumerate(PAIRS))
    Path("my.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["retort", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("files", [("my.en", "my.de.gz"), ("my.tsv",), ("my.jsonl",)], ids=len)
def test_what_it_writes_loads(
    files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "init", *files) == 0
    said = capfd.readouterr().out
    assert "300 pairs; 0 repeated" in said
    assert {"my.en": "300", "my.tsv": "source: the first column", "my.jsonl": "source: field"}[files[0]] in said
    assert "Latin letters" in said
    assert "minutes of one thread" in said
    assert said.endswith("Now: retort run my.yaml\n")
    config = load_config("my.yaml", texts=True)
    assert list(config.students) == ["ctc", "deep-shallow"]
    text = Path("my.yaml").read_text()
    assert command(monkeypatch, "init", *files) == 2
    assert "never overwritten" in capfd.readouterr().err
    assert Path("my.yaml").read_text() == text


def test_the_command_to_go_on_with_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "init", "my.tsv", "--output", "a b.yaml") == 0
    assert capfd.readouterr().out.endswith("Now: retort run 'a b.yaml'\n")


def different_pairs(pairs: int, more: str = "") -> Statistics:
    statistics = Statistics()
    for number in range(pairs):
        statistics.add([f"source {number}{more}", f"target {number}{more}"], set())
    return statistics


@pytest.mark.parametrize(("updates", "said"), [(10, "about 1 minute of"), (300, "about 2 minutes of")])
def test_minutes_are_whole_ones(updates: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "seconds_per_update", lambda decisions: 0.2)
    decisions = replace(decide(different_pairs(300), PRESETS[1]), updates=updates)
    assert said in estimate.cost_line(decisions)


@pytest.mark.slow
def test_updates_of_long_lines_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Batch] = []

    def listening(model: Any, batch: Batch, **options: Any) -> Any:
        timed.append(batch)
        return compute(model, batch, **options)

    monkeypatch.setattr(estimate, "compute", listening)
    statistics = Statistics()
    for number in range(300):
        statistics.add([f"{number} {'one two ' * 1000}", f"target {number}"], set())
    decisions = decide(statistics, PRESETS[1])
    assert decisions.line_tokens[0] == decisions.model["max_length"] == 1024 and decisions.line_tokens[1] < 20
    estimate.seconds_per_update(decisions)
    batch = timed[0]
    assert (batch.source_bs.shape[1], batch.target_bt.shape[1]) == decisions.line_tokens
    assert batch.source_bs.numel() == decisions.batch_tokens


def test_slots_cost_time() -> None:
    few, many = (replace(decide(different_pairs(300), PRESETS[1]), slots=slots) for slots in (1, 5))
    # two layers of each side; the preset has CTC alone
    assert [estimate.layers_of_positions(decisions) for decisions in (few, many)] == [(4, 2 + 1.25 * 2), (4, 2 + 5 * 2)]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_preset_loads_and_longer_ones_cost_more(preset: Preset) -> None:
    train = sides_of([Path("my.tsv")])
    statistics = statistics_of(train)
    decisions = decide(statistics, preset)
    write_configuration(Path("c.yaml"), configuration("c", train, statistics, decisions, preset.name))
    config = load_config("c.yaml", texts=True)
    assert list(config.students) == [student.name for student in preset.students]
    one_pass = [student for name, student in config.students.items() if name != "deep-shallow"]
    assert all(("ngrams" in (student.searches or {})) is preset.ngrams for student in one_pass)
    assert config.training.warmup == round(config.training.max_updates / 10)
    assert model_of(decisions).d_model == config.model.d_model


@pytest.mark.slow
def test_more_text_gets_more_of_everything() -> None:
    small, large = different_pairs(1000), different_pairs(20_001, " and more" * 8)
    few, many = (decide(statistics, preset_named("usual")) for statistics in (small, large))
    assert few.vocabulary < many.vocabulary and few.updates < many.updates and few.held_out < many.held_out
    assert few.model["d_model"] < many.model["d_model"]
    # a small text would give few updates of large batches
    assert (few.batch_tokens, many.batch_tokens) == (1024, 2048)
    assert decide(small, preset_named("gpu")).batch_tokens == 1024


def test_different_pairs_with_both_sides_are_held_out() -> None:
    statistics, seen = Statistics(), set[int]()
    for spaces in (" ", "  ") * 5:
        for number in range(5000):
            statistics.add([f"some{spaces}source {number}", f"some target {number}"], seen)
        statistics.add(["", "an empty side"], seen)
    assert (statistics.repeated, statistics.empty, statistics.different) == (45_000, 10, 5000)
    assert decide(statistics, preset_named("quick")).held_out == 100


def test_repeats_change_their_number_alone() -> None:
    written = []
    for times in (1, 10):
        Path("again.tsv").write_text(Path("my.tsv").read_text() * times)
        train = sides_of([Path("again.tsv")])
        statistics = statistics_of(train)
        decisions = decide(statistics, preset_named("usual"))
        written.append(configuration("c", train, statistics, decisions, "usual").splitlines())
    once, often = written
    assert [line for line in often if line not in once] == ["# 3,000 pairs; 2,700 repeated, 0 with an empty side"]
    assert len(once) == len(often)


def grouped(*sizes: int) -> list[list[str]]:
    """Pairs in components of these sizes: of each, the sources are different and the target is one."""
    return [[f"source {group} {pair}", f"target {group}"] for group, size in enumerate(sizes) for pair in range(size)]


@pytest.mark.parametrize(
    ("sizes", "held_out", "largest"),
    [
        ([1] * 1000, 50, 20),
        ([30] * 300, 180, 30),  # none is small enough as usual
        ([1] * 200 + [500], 50, 20),
        ([1] * 120 + [3000], 59, 20),  # fewer than 2 %, less the largest of the small
        ([9] * 14 + [3000], 54, 20),
    ],
)
def test_what_is_held_out_can_be_carved(sizes: list[int], held_out: int, largest: int, tmp_path: Path) -> None:
    statistics, pairs = Statistics(), grouped(*sizes)
    for sides in pairs:
        statistics.add(sides, set())
    decisions = decide(statistics, preset_named("quick"))
    assert (decisions.held_out, decisions.largest_component) == (held_out, largest)
    Path("my.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    train = sides_of([Path("my.tsv")])
    write_configuration(Path("my.yaml"), configuration("my", train, statistics, decisions=decisions, preset="quick"))
    corpus = load_config("my.yaml", texts=True).corpus
    assert isinstance(corpus, TextCorpus) and corpus.carve is not None
    rows = corpus_table(range(len(pairs)), [source for source, _ in pairs], [[target] for _, target in pairs])
    write_table(tmp_path / "text.parquet", CORPUS, rows)
    splits = np.bincount(carve(tmp_path / "text.parquet", corpus.carve))
    assert all(held_out <= pairs < held_out + max(sizes) for pairs in splits[1:])


def test_text_that_cannot_be_split() -> None:
    statistics = Statistics()
    for sides in grouped(*[1] * 90, 3000, *[200] * 2):
        statistics.add(sides, set())
    with pytest.raises(RetortError, match="3490 different pairs .* 3000 belong together, .* and corpus.tests"):
        decide(statistics, preset_named("quick"))


@pytest.mark.parametrize("pairs", [200, 1000])
def test_few_words_become_pieces_and_the_vocabulary_can_be_made(pairs: int) -> None:
    lines = list(generate(GeneratedCorpus(kind="generated", train_pairs=pairs))["train"])
    statistics = Statistics()
    for sides in lines:
        statistics.add(sides, set())
    size = decide(statistics, preset_named("usual")).vocabulary
    assert size > 0.9 * len({word for pair in lines for text in pair for word in text.split()})
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=chain.from_iterable(lines),
        model_writer=io.BytesIO(),
        vocab_size=size,
        num_threads=1,
        minloglevel=2,
    )


@pytest.mark.parametrize("lines", [200, 1000])
@pytest.mark.parametrize(
    "words", ["ACGU", "ACDEFGHIKLMNPQRSTVWY", [*map("".join, product("AEIO", "HEY", "012")), *"BDFGKLMNPRST"]]
)
def test_letters_and_sounds_written_apart_have_a_vocabulary_that_can_be_made(
    words: Sequence[str], lines: int, tmp_path: Path
) -> None:
    rng = random.Random(lines)
    sources, targets = ([" ".join(rng.choices(words, k=rng.randint(8, 16))) for _ in range(lines)] for _ in range(2))
    statistics = Statistics()
    for pair in zip(sources, targets, strict=True):
        statistics.add(pair, set())
    decisions = decide(statistics, preset_named("usual"))
    assert decisions.joint
    write_table(tmp_path / "train.parquet", CORPUS, corpus_table(range(lines), sources, [[text] for text in targets]))
    settings = Vocabulary.model_validate({"size": decisions.vocabulary})
    assert train_vocabulary(tmp_path / "train.parquet", settings, 1, tmp_path / "v").target_size == decisions.vocabulary


def test_words_that_end_lines_alone_are_no_pieces_and_the_vocabulary_can_be_made() -> None:
    rng = random.Random(1)
    lines = [
        f"{rng.choice(['Monday', 'Sunday'])}, May {rng.randint(1, 31)} {rng.randint(1900, 2050)}" for _ in range(999)
    ]
    statistics = Statistics()
    for line in lines:
        statistics.add((line, line), set())
    size = decide(statistics, preset_named("usual")).vocabulary
    assert size < len({word for line in lines for word in line.split()})
    assert possible_vocabulary(lines, size)[0] == size


def test_of_long_texts_a_part_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def listening(text: Iterable[str], size: int) -> tuple[int, bytes]:
        tried.append(sum(map(len, text)))
        return size, b""

    monkeypatch.setattr("retort.workflow.init.decisions.possible_vocabulary", listening)
    monkeypatch.setattr("retort.workflow.init.decisions.TRIED_LETTERS", 10_000)
    statistics = Statistics()
    for number in range(1000):
        statistics.add((f"{number} x " * 20, f"x {number}"), set())
    decide(statistics, preset_named("usual"))
    assert len(tried) == 1 and 5000 < tried[0] <= 10_000


def test_a_sample_is_drawn_from_all_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retort.workflow.init.statistics.SAMPLED_PAIRS", 100)
    statistics = Statistics()
    for number in range(1000):
        statistics.add((f"{number} " * 1000, "x"), set())
    drawn = [int(pair.texts[0].split()[0]) for pair in statistics.sample]
    assert len(set(drawn)) == 100 and 400 < sum(drawn) / 100 < 600
    assert max(len(pair.texts[0]) for pair in statistics.sample) == 2000


@pytest.mark.parametrize("pairs", [250, 600, 1500])
def test_a_vocabulary_can_be_made_where_one_side_has_many_letters(pairs: int) -> None:
    rng = random.Random(pairs)
    han = "".join(chr(0x4E00 + 7 * number) for number in range(900))
    words = ["".join(rng.choices("abcdefghiklmnorstu", k=rng.randint(2, 8))) for _ in range(3 * pairs)]
    lines = [
        (" ".join(rng.choices(words, k=rng.randint(3, 9))), "".join(rng.choices(han, k=rng.randint(6, 20))))
        for _ in range(pairs)
    ]
    statistics = Statistics()
    for sides in lines:
        statistics.add(sides, set())
    decisions = decide(statistics, preset_named("usual"))
    texts = [list(chain(*lines))] if decisions.joint else [[pair[side] for pair in lines] for side in (0, 1)]
    for side in texts:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(side),
            model_writer=io.BytesIO(),
            vocab_size=decisions.vocabulary,
            character_coverage=1.0,
            num_threads=1,
            minloglevel=2,
        )


def test_text_beyond_the_usual_limits_on_lengths_is_meant_so() -> None:
    rng = random.Random(1)
    lines = (
        f"{' '.join(rng.choices('abcdefgh', k=300))} {n}\t{' '.join(rng.choices('ijk', k=5))} {n}" for n in range(300)
    )
    Path("long.tsv").write_text("".join(f"{line}\n" for line in lines))
    train = sides_of([Path("long.tsv")])
    statistics = statistics_of(train)
    decisions = decide(statistics, preset_named("quick"))
    write_configuration(Path("c.yaml"), configuration("c", train, statistics, decisions, "quick"))
    config = load_config("c.yaml", texts=True)
    assert (config.cleaning.max_words, config.cleaning.max_ratio) == (None, None)
    # so small a vocabulary has a piece for the space before a letter
    assert config.model.max_length == 1024 and config.model.truncate_sources


def test_long_lines_without_spaces_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retort.workflow.init.decisions.USUAL_LENGTH", 32)
    rng = random.Random(1)
    motifs = ["".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=4)) for _ in range(90)]
    lines = ["".join(rng.choices(motifs, k=rng.randint(22, 30))) for _ in range(200)]
    statistics = Statistics()
    for line in lines:
        statistics.add([line, line[::-1]], set())
    decisions = decide(statistics, preset_named("usual"))
    rows = corpus_table(range(200), lines, [[line[::-1]] for line in lines])
    write_table(tmp_path / "train.parquet", CORPUS, rows)
    settings = Vocabulary(size=decisions.vocabulary)
    vocabulary = train_vocabulary(tmp_path / "train.parquet", settings, 1, tmp_path / "v")
    tokens = [len(ids) + 1 for ids in vocabulary.encode_source(lines)]
    assert 64 < max(tokens) <= decisions.model["max_length"] == 128 and not decisions.notes
    monkeypatch.setattr("retort.workflow.init.decisions.LONGEST_MODEL", 64)
    cut, lost = decide(statistics, preset_named("usual")).notes
    assert re.fullmatch(r"\d+\.\d% of the sources have more than 64 tokens, and are cut", cut)
    assert re.match(r"\d+\.\d% of the pairs have a text of more than 64 tokens, and train nothing; ", lost)


def test_names_of_columns_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    Path("my.tsv").write_text("source\ttarget\n" + Path("my.tsv").read_text())
    statistics_of(sides_of([Path("my.tsv").absolute()]))
    assert [record.getMessage().count("names of columns") for record in caplog.records] == [1]


def test_a_first_line_with_an_empty_side_hides_no_tab() -> None:
    for first in ("\tone side", "one side\t"):
        Path("my.tsv").write_text(f"{first}\n" + Path("my.tsv").read_text())
        assert sides_of([Path("my.tsv")])["target"] == {"location": "my.tsv", "column": 1}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("three.tsv",), "three.tsv: has 3 tab-separated columns; expected two, source and target"),
        (("my.en", "few.de"), "300 pairs with 7 different targets cannot be split"),
        (("nothing.en",), "nothing.en: no such file"),
        (("my.en",), "no line of the first 100 has a tab or two texts in a JSON object; expected"),
        (("my.en",), "a text without any needs a teacher (docs/teachers.md#text-without-references)"),
        (("short.en", "short.de"), "1 pairs, 0 of them repeated and 0 with an empty side, are too few"),
        (("my.en", "short.de"), "300 lines and short.de has 1"),
        (("my.en", "my.en", "my.en"), "3 files; expected two"),
        (("same.tsv",), "300 pairs, 299 of them repeated"),
        (("three.jsonl",), "a line has the texts 'a', 'b', 'c'; expected two"),
        (("my.en", "my.jsonl"), "my.jsonl: line 1 is a JSON object (with 'translation.en', 'translation.de'), and of"),
        (("my.jsonl", "my.en"), "my.jsonl: line 1 is a JSON object"),
        (("my.en", "my.tsv"), "my.tsv: 100 of the first 100 lines have a tab, and of two files each line is a text;"),
        (
            ("three.tsv", "my.en"),
            "name it in a configuration of your own, such as {location: three.tsv, column: 1} (docs",
        ),
        (("deep.jsonl",), "no line of the first 1 has a tab or two texts"),
        (("a\nb.tsv",), r"'a\nb.tsv': a configuration cannot hold this name of a file; rename it"),
        (("a{b}.tsv",), "cannot hold this name"),
        (("a\udcff.tsv",), "cannot hold this name"),
        (("my.tsv", "--name", "a b"), "--name 'a b': cannot name a run; use letters"),
        (("my.tsv", "--name", ""), "--name '': cannot name a run"),
        (("my.tsv", "--name", "x" * 101), "cannot name a run"),
        (("empty.tsv.gz",), "empty.tsv.gz: has no text; expected parallel text"),
        (("lists.jsonl",), "has a tab or two texts in a JSON object (only 'a'); expected"),
        ((".",), ".: a directory; expected parallel text"),
    ],
)
def test_what_is_no_parallel_text(
    files: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("short.en", "short.de"):
        Path(name).write_text("one\n")
    Path("same.tsv").write_text("a b\tc d\n" * 300)
    Path("three.jsonl").write_text('{"a": "x", "b": "y", "c": "z"}\n' * 300)
    Path("three.tsv").write_text("".join(f"{n}\t{s}\t{t}\n" for n, (s, t) in enumerate(PAIRS)))
    Path("few.de").write_text("".join(f"das {n % 7}\n" for n in range(300)))
    Path("empty.tsv.gz").write_bytes(gzip.compress(b""))
    Path("lists.jsonl").write_text('{"a": "x", "b": ["y"]}\n' * 300)
    Path("deep.jsonl").write_text("[" * 99_999)
    for name in ("a\nb.tsv", "a{b}.tsv", "a\udcff.tsv"):
        Path(name).write_bytes(Path("my.tsv").read_bytes())
    assert command(monkeypatch, "init", *files) == 2
    assert message in capfd.readouterr().err
    assert not list(Path().glob("*.yaml"))


@pytest.mark.parametrize(
    ("file", "name"), [("no.x", "no"), ("1e5.x", "1e5"), ("a b.x", "a-b"), ("&é.x", "run"), ("x" * 120, "x" * 100)]
)
def test_a_run_is_named_after_any_file(file: str, name: str) -> None:
    assert run_name(Path(file)) == name
    check_name(name)
    train = sides_of([Path("my.tsv")])
    statistics = statistics_of(train)
    decisions = decide(statistics, preset_named("quick"))
    write_configuration(Path("c.yaml"), configuration(name, train, statistics, decisions, "quick"))
    assert load_config("c.yaml", texts=True).name == name


def test_fields_are_those_that_are_named_for_sides() -> None:
    lines = (json.dumps({"id": str(n), "en": s, "note": "x", "de": t}) for n, (s, t) in enumerate(PAIRS))
    Path("my.jsonl").write_text("\n".join(["", *lines]))
    assert [side["field"] for side in sides_of([Path("my.jsonl")]).values()] == ["en", "de"]


@pytest.mark.parametrize(
    ("first", "source", "target", "chosen"),
    [
        ({"target": "x", "source": "y"}, "source", "target", "by their names"),
        ({"answers": "x", "de": "y"}, "de", "answers", "by their names"),
        ({"a": {"outputText": "x", "input_text": "y"}}, "a.input_text", "a.outputText", "by their names"),
        ({"translation": {"de": "x", "en": "y"}}, "translation.de", "translation.en", "in the order of the file;"),
        ({"answer": "x", "summary": "y"}, "answer", "summary", "in the order of the file;"),
    ],
)
def test_fields_are_ordered_by_their_names_and_said(
    first: dict[str, object], source: str, target: str, chosen: str
) -> None:
    Path("my.jsonl").write_text(json.dumps(first))
    train = sides_of([Path("my.jsonl")])
    assert (train["source"]["field"], train["target"]["field"]) == (source, target)
    (said,) = which_is_which(train)
    assert said.startswith(f"source: field {source!r}; target: field {target!r} ({chosen}")


def test_one_file_is_not_both_sides() -> None:
    Path("my.en").write_text("a\n" * 300)
    with pytest.raises(RetortError, match="my.en: named as both sides; expected two files, or one that holds both"):
        sides_of([Path("my.en"), Path("my.en").absolute()])


def test_a_tab_in_some_lines_is_text() -> None:
    Path("my.en").write_text("a tab\tin a line\n" * 40 + Path("my.en").read_text())
    assert sides_of([Path("my.en"), Path("my.de.gz")]) == {"source": "my.en", "target": "my.de.gz"}


def test_what_does_not_load_is_not_left() -> None:
    with pytest.raises(RetortError, match="unknown key"):
        write_configuration(Path("c.yaml"), "nmae: x\n")
    assert not Path("c.yaml").exists()


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ([], ["--cores", "all", "--logger=retort"]),
        (["teacher", "-n"], ["--cores", "all"]),
        (["-c", "2"], ["--logger=retort"]),
        (["-c", "2", "--quiet", "all"], []),
    ],
)
def test_run_hands_over_to_snakemake(given: list[str], flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, arguments, environment: calls.append(arguments))
    Path("c.yaml").touch()
    assert command(monkeypatch, "run", "c.yaml", *given) == 0
    assert calls[0][3:6] == ["--configfile", "c.yaml", "--snakefile"]
    assert calls[0][7:] == [*flags, *given]
    assert command(monkeypatch, "run", "absent.yaml") == 2
    assert command(monkeypatch, "run", "c.yaml", "absent.yaml", "teacher") == 2
    # Snakemake would take them for targets that are there
    assert command(monkeypatch, "run", "c.yaml", "teacher", "c.yaml") == 2
    assert command(monkeypatch, "run", "c.yaml", "-n", "c.yaml") == 2


def test_run_needs_a_configuration_alone(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, "run") == 2
    assert capfd.readouterr().err.endswith("arguments are required: configuration\n")


@pytest.mark.parametrize(
    ("given", "files", "passed_on"),
    [
        (["--configfile", "b.yaml", "d.yaml", "-n"], ["b.yaml", "d.yaml"], ["-n"]),
        (["b.yaml", "d.yml", "teacher", "-n"], ["b.yaml", "d.yml"], ["teacher", "-n"]),
        (["l.json", "M.YML", "results/c/facts.json", "-n"], ["l.json", "M.YML"], ["results/c/facts.json", "-n"]),
        (["b.yaml", "teacher", "--configfile", "d.yml"], ["b.yaml", "d.yml"], ["teacher"]),
        (["--configfile=b.yaml", "teacher", "-n", "--configfiles", "d.yaml"], ["b.yaml", "d.yaml"], ["teacher", "-n"]),
    ],
)
def test_files_are_layered_on_the_one_that_is_run(
    given: list[str], files: list[str], passed_on: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, arguments, environment: calls.append(arguments))
    for name in ("c.yaml", "b.yaml", "d.yml", "l.json", "M.YML"):
        Path(name).touch()
    assert command(monkeypatch, "run", "c.yaml", *given) == 0
    # a target after them would count as one more file
    assert calls[0][3 : calls[0].index("--snakefile")] == ["--configfile", "c.yaml", *files]
    assert calls[0][-len(passed_on) :] == passed_on and calls[0].count("--configfile") == 1


def test_the_rival_has_a_deep_encoder_and_one_decoder_layer() -> None:
    train = sides_of([Path("my.tsv")])
    statistics, preset = statistics_of(train), preset_named("usual")
    decisions = decide(statistics, preset)
    write_configuration(Path("c.yaml"), configuration("c", train, statistics, decisions, preset.name))
    rival = load_config("c.yaml").students["deep-shallow"].model
    assert (rival.encoder_layers, rival.decoder_layers) == (2 * decisions.model["encoder_layers"], 1)


def test_words_are_counted_where_there_are_no_spaces() -> None:
    statistics = Statistics()
    statistics.add(["我们今天去图书馆看书", "we go to the library to read today"], set())
    assert statistics.words == [6, 8]


@pytest.mark.parametrize(
    ("pairs", "slots"),
    [
        ([("abcd efgh", "ijkl mnop")], 1.25),
        ([("abcd efgh", "ijkl mnop qrst")], 1.75),
        ([("abcd efgh", "ijkl mnop")] * 97 + [("abcd efgh", "ijkl mnop qrst")] * 3, 1.75),
        # 2 % need not fit
        ([("abcd efgh", "ijkl mnop")] * 98 + [("abcd efgh", "ijkl mnop qrst")] * 2, 1.25),
        ([("abcd efgh ijkl mnop", "qrst")], 1.25),
        ([("ab", "abcdefgh" * 2)], 8),
        ([("ab", "abcdefgh" * 10)], 8),
        # words, as these characters say more than letters
        ([("我们今天去图书馆看书", "we go to the library to read today")], 1.5),
        ([("", "ijkl mnop qrst"), ("abcd", "")], 1.25),
    ],
)
def test_slots_hold_the_targets_of_most_pairs(
    pairs: list[tuple[str, str]], slots: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Statistics, "components", np.ones(200, np.int64))
    statistics = Statistics()
    for source, target in pairs:
        statistics.add([source, target], set())
    decisions = decide(statistics, preset_named("quality"))
    text = configuration("c", {"source": "my.en", "target": "my.de.gz"}, statistics, decisions, "quality")
    assert ("# over 2% of the targets are more than 8 times as long" in text) is (
        "abcdefgh" * 10 in dict(pairs).values()
    )
    write_configuration(Path("c.yaml"), text)
    objectives = {name: student.objective for name, student in load_config("c.yaml").students.items()}
    assert objectives["ctc"] == Ctc(name="ctc", upsampling=slots)
    assert objectives["glat-ctc"] == GlatCtc(name="glat_ctc", upsampling=slots)
    assert objectives["dag"] == Dag(name="dag", upsampling=max(4, slots))


@pytest.mark.slow
def test_a_damaged_line_costs_no_updates() -> None:
    plain, damaged = Statistics(), Statistics()
    for number in range(1000):
        for statistics in (plain, damaged):
            statistics.add([f"some source {number}", f"some target {number} more"], set())
    damaged.add(["word " * 1_000_000, "word " * 900_000], set())
    for _ in range(40):
        damaged.add(["word", "word " * 150], set())
    assert damaged.words == plain.words == [3000, 4000]
    assert damaged.mean_words == plain.mean_words == [3, 4]
    usual = preset_named("usual")
    assert damaged.target_ratio == plain.target_ratio == 1.5
    assert replace(decide(damaged, usual), vocabulary=0) == replace(decide(plain, usual), vocabulary=0)
    # a text that is meant to be long is counted
    for _ in range(200):
        damaged.add(["word " * 500, "word " * 450], set())
    assert damaged.words == [103_000 + 1_000_000, 94_000 + 900_000]


def test_a_run_is_named_after_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        assert command(monkeypatch, "init", "my.tsv", "--output", f"{name}.yaml") == 0
        assert load_config(f"{name}.yaml", texts=True).name == name


def test_a_first_line_with_a_null_hides_no_field() -> None:
    Path("my.jsonl").write_text('{"en": "x", "de": null}\n' + '{"en": "x", "de": "y"}\n' * 3)
    assert [side["field"] for side in sides_of([Path("my.jsonl")]).values()] == ["en", "de"]


@pytest.mark.parametrize("lines", [200, 400, 1000])
def test_a_vocabulary_can_be_made_of_what_is_not_held_out(lines: int, tmp_path: Path) -> None:
    rng = random.Random(lines)
    words = ["".join(rng.choices("abcdefghiklmnorstu", k=rng.randint(2, 8))) for _ in range(3 * lines)]
    pairs = [tuple(" ".join(rng.choices(words, k=2)) for _ in range(2)) for _ in range(lines)]
    statistics = Statistics()
    for sides in pairs:
        statistics.add(sides, set())
    decisions = decide(statistics, preset_named("usual"))
    left = pairs[2 * decisions.held_out :]
    sources, targets = zip(*left, strict=True)
    rows = corpus_table(range(len(left)), sources, [[text] for text in targets])
    write_table(tmp_path / "train.parquet", CORPUS, rows)
    settings = Vocabulary.model_validate({"size": decisions.vocabulary})
    assert train_vocabulary(tmp_path / "train.parquet", settings, 1, tmp_path / "v").target_size == decisions.vocabulary


def test_a_size_holds_every_character() -> None:
    lines = ["".join(chr(0x4E00 + number) for number in range(300))]
    assert possible_vocabulary(lines, 8)[0] == possible_vocabulary(lines, 320)[0] == 307


@pytest.mark.slow
def test_words_that_are_cut_cost_no_updates() -> None:
    statistics = Statistics()
    for number in range(1000):
        statistics.add([f"{number} " * 10_000, f"target {number}"], set())
    preset = preset_named("usual")
    decisions = decide(statistics, preset)
    assert decisions.model["max_length"] == 1024 and decisions.model["truncate_sources"]
    assert decisions.updates == preset.epochs * 1000 * 1024 / decisions.batch_tokens
