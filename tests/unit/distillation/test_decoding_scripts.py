"""From a trained teacher to a distilled training set, translations and times: each script by hand."""

import hashlib
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from retort.config import Autoregressive, Ctc, CtcBeam, Greedy, Latency, LengthParallel, Vanilla
from retort.config.external import CommandTeacher
from retort.corpus.encoding import encode_corpus
from retort.data.ngrams import load_ngrams
from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.provenance import file_digest
from retort.data.runs import Run
from retort.data.tables import CORPUS, ENCODED, ENCODING, LATENCY, TRANSLATIONS, TUNING
from retort.data.vocabulary import Vocabulary
from retort.distillation import decoding
from retort.errors import RetortError
from retort.evaluation.runs import run_of_translations
from retort.export import timed_systems
from retort.export.exporting import export_system
from retort.models.checkpoint import load_checkpoint, load_teacher, save_checkpoint
from retort.runtime import torch_engine
from retort.runtime.cold_start import ColdStart
from retort.runtime.opening import open_system
from retort.runtime.timing import directory_bytes, time_batch
from retort.search.decoding import load_helpers, translate_texts
from retort.search.ngram_scores import Scorer
from tests.unit.fakes_export import saved, text_vocabulary
from tests.unit.fakes_runs import ARGMAX, GREEDY, STUDENT, TEACHER, TEST_PAIRS, TRAIN_PAIRS, call, make_tables
from workflow_scripts import (
    count_ngrams,
    decode_shard,
    gather_distilled,
    gather_interpolated,
    gather_mixed,
    measure_latency,
    translate,
    tune_search,
)

LENGTH_PARALLEL = {"kind": "length_parallel", "candidates": 5}
DISTILLATION = {"search": GREEDY, "batch_tokens": 512, "engine": "torch"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def teacher(tables):
    return tables.train(TEACHER, tables.root / "teacher")


@pytest.fixture(scope="module")
def shards(tables, teacher):
    return [distilled(tables, teacher, tables.root / f"shard{shard}.parquet", shard, 2) for shard in range(2)]


def test_n_grams_are_counted_of_encoded_targets_or_of_texts(tables, tmp_path):
    """Both are the same text here; neither rows without a target nor blank lines count."""
    targets = read_table(tables.corpus / "train.parquet", CORPUS)["target"].to_pylist()
    (tmp_path / "text").write_text("\n".join(targets))
    options = ("--vocabulary", tables.vocabulary, "--order", 3, "--most", 10_000)
    call(count_ngrams, *options, "--train", tables.encoded / "train.parquet", "--output", tmp_path / "encoded.ngrams")
    source_only = pa.Table.from_pylist([{"id": 999, "source": [7], "target": []}] * 50, schema=ENCODED.schema)
    pairs = read_table(tables.encoded / "train.parquet", ENCODED)
    write_table(tmp_path / "more.parquet", ENCODED, pa.concat_tables([source_only, pairs, source_only]))
    (tmp_path / "blank").write_text("\n\n" + "\n\n".join(targets))
    blank = json.dumps([{"location": str(tmp_path / "blank")}])
    for text in (("--train", tmp_path / "more.parquet"), ("--texts", blank)):
        call(count_ngrams, *options, *text, "--output", tmp_path / "more.ngrams")
        assert (tmp_path / "more.ngrams").read_bytes() == (tmp_path / "encoded.ngrams").read_bytes()
    texts = json.dumps([{"location": str(tmp_path / "text")}])
    call(count_ngrams, *options, "--texts", texts, "--output", tmp_path / "texts.ngrams")
    assert (tmp_path / "encoded.ngrams").read_bytes() == (tmp_path / "texts.ngrams").read_bytes()
    model, vocabulary = load_ngrams(str(tmp_path / "texts.ngrams")), Vocabulary.load(tables.vocabulary)
    (first, *_), *_ = vocabulary.encode_target(targets)
    scorer = Scorer(model, 1.0, 0.0)
    seen, unseen = (scorer.score(scorer.start(), token) for token in (first, 3))
    assert seen > unseen + 1
    for nothing in ("", "\n\n"):
        (tmp_path / "text").write_text(nothing)
        with pytest.raises(SystemExit):
            call(count_ngrams, *options, "--texts", texts, "--output", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_n_grams_of_texts_are_not_those_of_held_out_pairs(tables, tmp_path, capfd):
    targets = read_table(tables.corpus / "train.parquet", CORPUS)["target"].to_pylist()
    held_out = read_table(tables.test, CORPUS)["target"].to_pylist()[0]
    options = ("--vocabulary", tables.vocabulary, "--order", 3, "--most", 10_000, "--held-out", tables.test)
    for name, lines in (("clean", targets * 2), ("leaking", [*targets, held_out, "", *targets, f" {held_out}"])):
        (tmp_path / name).write_text("\n".join(lines))
        texts = json.dumps([{"location": str(tmp_path / name)}])
        call(count_ngrams, *options, "--texts", texts, "--output", tmp_path / f"{name}.ngrams")
    assert (tmp_path / "leaking.ngrams").read_bytes() == (tmp_path / "clean.ngrams").read_bytes()
    kept = 2 * len(targets)
    assert f"lines of texts: {kept + 3} read, {kept} kept, 2 leak, 1 empty\n" in capfd.readouterr().err


def distilled(tables, teacher, output, shard=0, shards=1, state=None, corpus="train"):
    call(
        decode_shard,
        *("--distillation", json.dumps(DISTILLATION), "--checkpoint", teacher, "--shard", shard, "--shards", shards),
        *("--system", "teacher", "--seed", 1, "--search-name", "distillation"),
        *("--corpus", tables.corpus / f"{corpus}.parquet", "--state", state or tables.root / "state"),
        *("--output", output),
    )
    return output


def gathered(tables, directory, *shards, train=None, options=()):
    call(
        gather_distilled,
        *("--shards", *shards, "--train", train or tables.encoded / "train.parquet"),
        *("--vocabulary", tables.vocabulary, "--output-translations", directory / "translations.parquet"),
        *("--output-encoded", directory / "encoded.parquet", *options),
    )


# ---- decode_shard --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_shards_part_the_training_sources(tables, shards):
    train = read_table(tables.corpus / "train.parquet", CORPUS)["id"].to_pylist()
    found = [read_table(path, TRANSLATIONS) for path in shards]
    assert [id_ for table in found for id_ in table["id"].to_pylist()] == train
    assert min(table.num_rows for table in found) == TRAIN_PAIRS // 2
    for table in found:
        assert set(table["test_set"].to_pylist()) == {"train"} and set(table["rank"].to_pylist()) == {0}
    assert {run_of_translations(path) for path in shards} == {Run("teacher", 1, "distillation")}


@pytest.mark.parametrize("count", [1, 7])
def test_the_number_of_shards_changes_no_translation(tables, teacher, shards, tmp_path, count):
    paths = [distilled(tables, teacher, tmp_path / f"{shard}.parquet", shard, count) for shard in range(count)]
    rows = [row for path in paths for row in read_table(path, TRANSLATIONS).to_pylist()]
    expected = [row for path in shards for row in read_table(path, TRANSLATIONS).to_pylist()]
    assert [(row["id"], row["text"], row["tokens"]) for row in rows] == [
        (row["id"], row["text"], row["tokens"]) for row in expected
    ]


def check_flags(rows, limits, vocabulary):
    for row in rows:
        assert row["text"] == vocabulary.decode_target([row["tokens"]])[0]
        assert row["empty"] == (not row["tokens"])
        assert len(row["tokens"]) <= limits[row["id"]]
        assert len(row["tokens"]) == limits[row["id"]] or not row["truncated"]
        assert row["passes"] == len(row["tokens"]) + 1 and row["score"] < 0


def test_flags_say_what_happened(tables, teacher, shards, tmp_path):
    vocabulary = Vocabulary.load(tables.vocabulary)
    sources = read_table(tables.encoded / "train.parquet", ENCODED).to_pylist()
    rows = [row for path in shards for row in read_table(path, TRANSLATIONS).to_pylist()]
    check_flags(rows, {row["id"]: 2 * len(row["source"]) + 10 for row in sources}, vocabulary)
    assert False in {row["truncated"] for row in rows}
    train = shutil.copy(tables.corpus / "train.parquet", tmp_path / "test.train.parquet")
    rows = translated(tables, teacher, tmp_path / "out.parquet", {**GREEDY, "max_ratio": 0.01}, tests=[train])
    check_flags(rows.to_pylist(), {row["id"]: 10 for row in sources}, vocabulary)
    assert rows["truncated"].to_pylist().count(True) > 1


def test_a_shard_says_what_made_it(tables, teacher, shards):
    facts = read_provenance(shards[0])
    assert facts["teacher"] == file_digest(teacher / "model.safetensors")
    assert facts["corpus"] == file_digest(tables.corpus / "train.parquet")
    assert facts["distillation"]["search"]["kind"] == "greedy" and "corpus" not in facts["distillation"]
    assert {"retort", "git", "code", "device"} <= set(facts)


def test_a_shard_may_be_empty(tables, teacher, tmp_path):
    path = distilled(tables, teacher, tmp_path / "empty.parquet", 0, TRAIN_PAIRS + 1)
    assert read_table(path, TRANSLATIONS).num_rows == 0


@pytest.fixture
def decoded(monkeypatch):
    """Sources decoded so far, call by call; parts hold ten sources each."""
    calls = []
    original = decoding.translate_texts

    def counted(model, vocabulary, texts, **named):
        calls.append(len(texts))
        return original(model, vocabulary, texts, **named)

    monkeypatch.setattr(decoding, "translate_texts", counted)
    monkeypatch.setattr(decode_shard, "CHUNK_ROWS", 10)
    return calls


def interrupted(tables, teacher, tmp_path, monkeypatch, decoded, parts=2):
    """Break off shard 0 of 2 after so many parts; returns its state's directory."""
    with monkeypatch.context() as patch:
        counted = decoding.translate_texts

        def stopping(*arguments, **named):
            if len(decoded) == parts:
                raise KeyboardInterrupt
            return counted(*arguments, **named)

        patch.setattr(decoding, "translate_texts", stopping)
        with pytest.raises(SystemExit) as end:
            distilled(tables, teacher, tmp_path / "out.parquet", 0, 2, tmp_path / "state")
    assert end.value.code == 130 and not (tmp_path / "out.parquet").exists()
    assert decoded == [10] * parts
    decoded.clear()
    return tmp_path / "state"


def test_an_interrupted_shard_does_only_what_is_left(tables, teacher, shards, tmp_path, monkeypatch, decoded):
    state = interrupted(tables, teacher, tmp_path, monkeypatch, decoded)
    distilled(tables, teacher, tmp_path / "out.parquet", 0, 2, state)
    assert decoded == [10]
    found, expected = (read_table(path, TRANSLATIONS) for path in (tmp_path / "out.parquet", shards[0]))
    for column in ("id", "text", "tokens", "truncated"):
        assert found[column].to_pylist() == expected[column].to_pylist()
    assert [path.read_text() for path in state.glob("*/finished")] == [str(tmp_path / "out.parquet")]
    decoded.clear()
    distilled(tables, teacher, tmp_path / "again.parquet", 0, 2, state)
    assert decoded == []


def test_a_damaged_part_is_named_and_decoded_again(tables, teacher, shards, tmp_path, monkeypatch, decoded, capsys):
    state = interrupted(tables, teacher, tmp_path, monkeypatch, decoded)
    (part, *_) = sorted(state.glob("*/part*.parquet"))
    content = bytearray(part.read_bytes())
    content[40] ^= 8
    part.write_bytes(content)
    distilled(tables, teacher, tmp_path / "out.parquet", 0, 2, state)
    assert decoded == [10, 10] and f"{part}: not a readable Parquet file" in capsys.readouterr().err
    found, expected = (read_table(path, TRANSLATIONS) for path in (tmp_path / "out.parquet", shards[0]))
    assert found["text"].to_pylist() == expected["text"].to_pylist()


@pytest.mark.slow
def test_parts_of_another_teacher_corpus_or_shard_are_not_taken(tables, teacher, tmp_path, monkeypatch, decoded):
    state = interrupted(tables, teacher, tmp_path, monkeypatch, decoded)
    other = shutil.copytree(teacher, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    description = json.loads((other / "model.json").read_text())
    description["weights"] = hashlib.sha256(weights).hexdigest()
    (other / "model.json").write_text(json.dumps(description))
    (other / "model.safetensors").write_bytes(weights)
    distilled(tables, other, tmp_path / "teacher.parquet", 0, 2, state)
    distilled(tables, teacher, tmp_path / "shard.parquet", 1, 2, state)
    distilled(tables, teacher, tmp_path / "corpus.parquet", 0, 2, state, corpus="valid")
    assert decoded == [10, 10, 10, 10, 10, 10, TEST_PAIRS // 2]
    first = read_table(tmp_path / "shard.parquet", TRANSLATIONS)["id"].to_pylist()
    assert first == read_table(tables.corpus / "train.parquet", CORPUS)["id"].to_pylist()[TRAIN_PAIRS // 2 :]
    decoded.clear()
    distilled(tables, teacher, tmp_path / "out.parquet", 0, 2, state)
    assert decoded == [10], "the first shard's own parts are still there"


# ---- gather_distilled -----------------------------------------------------------------------------------------------


def edited(path, output, change):
    rows = change(read_table(path, TRANSLATIONS).to_pylist())
    write_table(output, TRANSLATIONS, pa.Table.from_pylist(rows, schema=TRANSLATIONS.schema))
    return output


def test_rows_are_joined_by_id(tables, shards, tmp_path):
    """Whatever the order of the shards, of the rows in them, and of the training pairs."""
    train = read_table(tables.encoded / "train.parquet", ENCODED)
    order = np.random.default_rng(1).permutation(train.num_rows)
    write_table(tmp_path / "train.parquet", ENCODED, train.take(pa.array(order)))
    backwards = edited(shards[1], tmp_path / "backwards.parquet", lambda rows: rows[::-1])
    gathered(tables, tmp_path, backwards, shards[0], train=tmp_path / "train.parquet")
    sources = dict(zip(train["id"].to_pylist(), train["source"].to_pylist(), strict=True))
    targets = {row["id"]: row["tokens"] for path in shards for row in read_table(path, TRANSLATIONS).to_pylist()}
    rows = read_table(tmp_path / "encoded.parquet", ENCODED).to_pylist()
    assert len(rows) > TRAIN_PAIRS / 4
    for row in rows:
        assert row["source"] == sources[row["id"]] and row["target"] == targets[row["id"]]


def test_flawed_rows_are_counted_and_left_out(tables, shards, tmp_path):
    def flaw(rows):
        for row in rows:
            row.update(truncated=False)
        rows[3].update(truncated=True)
        rows[5].update(empty=True, tokens=[], text="")
        return rows

    flawed = [edited(path, tmp_path / path.name, flaw) for path in shards]
    gathered(tables, tmp_path, *flawed)
    facts = read_provenance(tmp_path / "encoded.parquet")
    assert {name: facts[name] for name in ("pairs", "truncated", "empty", "kept")} == {
        "pairs": TRAIN_PAIRS,
        "truncated": 2,
        "empty": 2,
        "kept": TRAIN_PAIRS - 4,
    }
    dropped = {read_table(path, TRANSLATIONS)["id"][row].as_py() for path in flawed for row in (3, 5)}
    kept = set(read_table(tmp_path / "encoded.parquet", ENCODED)["id"].to_pylist())
    assert len(kept) == TRAIN_PAIRS - 4 and not kept & dropped
    assert read_table(tmp_path / "translations.parquet", TRANSLATIONS).num_rows == TRAIN_PAIRS


def test_many_outputs_without_use_are_warned_of_and_most_are_an_error(tables, shards, tmp_path, capsys):
    """Up to the bound, in each stage that makes training text of outputs; of one in twenty nothing is said."""
    for cut, warned in ((0, False), (3, False), (4, True), (40, True)):
        left = iter([False] * (TRAIN_PAIRS - cut) + [True] * cut)

        def flaw(rows, left=left):
            return [{**row, "truncated": next(left), "empty": False} for row in rows]

        flawed = [edited(path, tmp_path / path.name, flaw) for path in shards]
        gathered(tables, tmp_path, *flawed)
        texts = ("--corpus", tables.corpus / "train.parquet", "--train", tables.encoded / "train.parquet")
        call(
            gather_interpolated, "--shards", *flawed, *texts, "--vocabulary", tables.vocabulary,
            "--output", tmp_path / "interpolated.parquet",
        )  # fmt: skip
        call(
            gather_mixed, "--translations", tmp_path / "translations.parquet", *texts,
            "--vocabulary", tables.vocabulary, "--output", tmp_path / "mixed.parquet",
        )  # fmt: skip
        said = capsys.readouterr().err
        found = f"{cut / TRAIN_PAIRS * 100:.3g} % of {TRAIN_PAIRS} outputs train nothing ({cut} cut)"
        for name in ("encoded", "interpolated", "mixed"):
            assert (f"{tmp_path / name}.parquet: {found}; train the teacher longer" in said) == warned
    with pytest.raises(SystemExit) as end:
        gathered(tables, tmp_path, *flawed, options=("--max-untrained", 0.5))
    assert end.value.code == 2 and "40 of 60 outputs train nothing" in capsys.readouterr().err


def test_unknown_tokens_of_encoded_text_are_counted_and_warned_of(tables, shards, tmp_path, capsys):
    def foreign_text(rows):
        return [{**row, "tokens": None, "text": f"{row['text'] or 'a'} \u732b", "empty": False} for row in rows]

    texts = [edited(path, tmp_path / path.name, foreign_text) for path in shards]
    counts = ("--output-encoding", tmp_path / "encoding.parquet", "--max-length", 5)
    for given, warned in ((shards, False), (texts, True)):
        gathered(tables, tmp_path, *given, options=counts)
        (row,) = read_table(tmp_path / "encoding.parquet", ENCODING).to_pylist()
        targets = read_table(tmp_path / "encoded.parquet", ENCODED)["target"].to_pylist()
        assert (row["split"], row["side"], row["texts"]) == ("distilled", "target", len(targets))
        assert row["tokens"] == sum(map(len, targets)) and row["over_length"] == sum(len(t) > 4 for t in targets)
        assert row["unknown"] == (len(targets) if warned else 0)
        assert ("of the target tokens are unknown" in capsys.readouterr().err) == warned


def test_a_distilled_set_says_which_teacher_made_it(tables, teacher, shards, tmp_path):
    gathered(tables, tmp_path, *shards)
    for name in ("translations", "encoded"):
        facts = read_provenance(tmp_path / f"{name}.parquet")
        assert facts["decoding"]["teacher"] == file_digest(teacher / "model.safetensors")
        assert facts["train"] == file_digest(tables.encoded / "train.parquet")


def test_a_gathered_table_is_taken_for_the_same_sources_alone(tables, shards, tmp_path, capsys):
    """Whatever else has changed, such as the references or the file's provenance."""
    gathered(tables, tmp_path, *shards)
    corpus = read_table(tables.corpus / "train.parquet", CORPUS).to_pylist()
    first = corpus[0]["source"]
    for source in (first, f"{first} {first}"):
        rows = [{**corpus[0], "source": source}, *({**row, "target": "a"} for row in corpus[1:])]
        write_table(tmp_path / "corpus.parquet", CORPUS, pa.Table.from_pylist(rows, schema=CORPUS.schema))
        encode_corpus(tmp_path / "corpus.parquet", Vocabulary.load(tables.vocabulary), tmp_path / "train.parquet")
        (tmp_path / "again").mkdir(exist_ok=True)
        if source == first:
            gathered(tables, tmp_path / "again", tmp_path / "translations.parquet", train=tmp_path / "train.parquet")
    with pytest.raises(SystemExit):
        gathered(tables, tmp_path / "again", tmp_path / "translations.parquet", train=tmp_path / "train.parquet")
    error = capsys.readouterr().err
    assert str(tmp_path / "translations.parquet") in error and "translations are of other sources" in error


def foreign(rows):
    rows[2]["tokens"] = [*rows[2]["tokens"], 90]
    return rows


DAMAGES = {
    "missing": (lambda rows: rows[1:], r": 1 missing \[\d+\]; decode"),
    "duplicated": (lambda rows: [*rows, rows[0]], r"ids occur more than once: \[\d+\]"),
    "unknown": (lambda rows: [*rows, {**rows[0], "id": 10**6}], r": 1 unknown \[1000000\]; decode"),
    "foreign tokens": (foreign, r"token \d+ of id \d+ is beyond the vocabulary's 90"),
    "nothing usable": (lambda rows: [{**row, "truncated": True} for row in rows], r"cut at the length limit"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_shards_that_do_not_fit_are_refused(tables, shards, tmp_path, capsys, name):
    change, message = DAMAGES[name]
    damaged = [
        edited(path, tmp_path / path.name, change if path == shards[0] or "usable" in name else list) for path in shards
    ]
    with pytest.raises(SystemExit) as end:
        gathered(tables, tmp_path, *damaged)
    error = capsys.readouterr().err
    assert end.value.code == 2 and str(damaged[0]) in error
    assert pc.match_substring_regex(pa.array([error]), message)[0].as_py(), error
    assert not (tmp_path / "encoded.parquet").exists() and not (tmp_path / "translations.parquet").exists()


def test_translations_of_the_validation_set_are_no_training_set(tables, teacher, shards, tmp_path, capsys):
    valid = distilled(tables, teacher, tmp_path / "valid.parquet", corpus="valid")
    for given in ([valid], [*shards, valid]):
        with pytest.raises(SystemExit):
            gathered(tables, tmp_path, *given)
        assert "valid.parquet" in capsys.readouterr().err


# ---- train_system on the distilled set, translate, measure_latency --------------------------------------------------


@pytest.fixture(scope="module")
def student(tables, shards):
    gathered(tables, tables.root / "distilled", *shards)
    return tables.train(STUDENT, tables.root / "student", train=tables.root / "distilled/encoded.parquet")


@pytest.mark.slow
def test_a_student_learns_from_the_distilled_and_is_validated_on_the_gold(tables, student):
    description = json.loads((student / "model.json").read_text())
    distilled_path = tables.root / "distilled/encoded.parquet"
    assert description["data"] == "distilled"
    assert description["training_pairs"] == read_table(distilled_path, ENCODED).num_rows
    inputs = description["provenance"]["inputs"]
    assert inputs["train"] == file_digest(distilled_path)
    assert inputs["valid"] == file_digest(tables.encoded / "valid.parquet")


def translated(tables, checkpoint, output, search, *options, tests=None):
    call(
        translate,
        *("--checkpoint", checkpoint, "--search", json.dumps(search)),
        *("--system", "ctc", "--seed", 3, "--search-name", "name"),
        *("--tests", *(tests or [tables.test]), "--output", output, *options),
    )
    return read_table(output, TRANSLATIONS)


def test_every_test_set_is_translated_row_by_row(tables, teacher, tmp_path):
    other = tmp_path / "test.other.parquet"
    sources = read_table(tables.test, CORPUS)
    rows = sources.slice(0, 3).set_column(0, "id", pa.array([70, 5, 31]))
    write_table(other, CORPUS, rows)
    found = translated(tables, teacher, tmp_path / "out.parquet", GREEDY, tests=[tables.test, other])
    keys = list(zip(found["test_set"].to_pylist(), found["id"].to_pylist(), strict=True))
    assert keys == [*(("test", i) for i in sources["id"].to_pylist()), ("other", 70), ("other", 5), ("other", 31)]
    assert found["text"].to_pylist()[-3:] == found["text"].to_pylist()[:3]
    assert run_of_translations(tmp_path / "out.parquet") == Run("ctc", 3, "name")
    facts = read_provenance(tmp_path / "out.parquet")
    assert facts["checkpoint"] == file_digest(teacher / "model.safetensors")
    assert facts["search"] == {"name": "name", "kind": "greedy", "allow_unknown": False, "max_ratio": 2.0}
    assert facts["tests"] == {path.name: file_digest(path) for path in (tables.test, other)}


def test_the_search_that_is_best_on_validation_decodes_the_tests(tables, teacher, tmp_path):
    valid = tables.root / "corpus/valid.parquet"
    # of the first two the longer outputs win by far; the third equals the second, and comes later
    grid = {"search": {**GREEDY, "max_ratio": 0.01}, "values": {"max_ratio": [2.0, 2.5]}}
    tried = [{**GREEDY, "allow_unknown": False, "max_ratio": ratio} for ratio in (0.01, 2.0, 2.5)]
    call(
        tune_search,
        *("--checkpoint", teacher, "--searches", json.dumps(grid), "--metric", "chrF", "--valid", valid),
        *("--system", "ctc", "--seed", 3, "--search-name", "name"),
        *("--output", tmp_path / "name.json", "--output-table", tmp_path / "name.parquet"),
    )
    rows = read_table(tmp_path / "name.parquet", TUNING).to_pylist()
    values = [row["value"] for row in rows]
    best = values.index(max(values))
    assert [row["chosen"] for row in rows] == [i == best for i in range(3)]
    assert json.loads((tmp_path / "name.json").read_text()) == json.loads(rows[best]["options"]) == tried[best]
    call(
        translate,
        *("--checkpoint", teacher, "--search", f"@{tmp_path / 'name.json'}"),
        *("--system", "ctc", "--seed", 3, "--search-name", "name"),
        *("--tests", tables.test, "--output", tmp_path / "out.parquet"),
    )
    assert read_provenance(tmp_path / "out.parquet")["search"] == {"name": "name", **tried[best]}


@pytest.mark.parametrize(("system", "search"), [("teacher", GREEDY), ("student", ARGMAX)])
def test_the_size_of_batches_changes_no_translation(tables, teacher, student, tmp_path, system, search):
    checkpoint = {"teacher": teacher, "student": student}[system]
    texts = [
        translated(tables, checkpoint, tmp_path / f"{tokens}.parquet", search, "--batch-tokens", tokens)["text"]
        for tokens in (16, 4096)
    ]
    assert texts[0].to_pylist() == texts[1].to_pylist() and any(texts[0].to_pylist())


def test_a_teacher_chooses_and_is_written_down(tables, teacher, student, tmp_path):
    output = tmp_path / "out.parquet"
    found = translated(tables, student, output, LENGTH_PARALLEL, "--teacher", teacher)
    assert set(found["passes"].to_pylist()) == {2}
    assert read_provenance(output)["teacher"] == file_digest(teacher / "model.safetensors")
    own = translated(tables, student, output, {**LENGTH_PARALLEL, "rescore": False}, "--teacher", teacher)
    assert set(own["passes"].to_pylist()) == {1} and own["text"].to_pylist() != found["text"].to_pylist()
    assert "teacher" not in read_provenance(output)


def test_the_teacher_and_the_ngrams_of_a_tuned_search_are_written_down(tables, teacher, student, tmp_path):
    valid, table = tables.root / "corpus/valid.parquet", tmp_path / "tuned.parquet"
    call(
        tune_search,
        *("--checkpoint", student, "--searches", json.dumps({"search": LENGTH_PARALLEL}), "--teacher", teacher),
        *("--metric", "chrF", "--valid", valid, "--system", "vanilla", "--seed", 1, "--search-name", "nine"),
        *("--output", tmp_path / "tuned.json", "--output-table", table),
    )
    assert read_provenance(table)["teacher"] == file_digest(teacher / "model.safetensors")
    (tmp_path / "ngrams").write_bytes(b"a table")
    search = CtcBeam(kind="ctc_beam", table=str(tmp_path / "ngrams"))
    found = load_helpers(load_checkpoint(student, torch.device("cpu")), [Greedy(kind="greedy"), search], None)
    assert found == (None, {"ngrams": file_digest(tmp_path / "ngrams")})


def test_a_search_that_needs_a_teacher_does_not_go_without(tables, student, tmp_path, capsys):
    for options, message in (((), "none is given"), (("--teacher", student), "cannot be a teacher")):
        with pytest.raises(SystemExit) as end:
            translated(tables, student, tmp_path / "out.parquet", LENGTH_PARALLEL, *options)
        assert end.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_a_teacher_of_shorter_texts_is_refused(tables, teacher, student, tmp_path, capsys):
    checkpoint = load_checkpoint(teacher, torch.device("cpu"))
    description = checkpoint.description
    description["model"]["max_length"] = 9
    save_checkpoint(tmp_path / "short", dict(checkpoint.model.named_parameters()), description, checkpoint.vocabulary)
    message = f"{tmp_path / 'short'}: a teacher of at most 9 tokens cannot read the text"
    with pytest.raises(SystemExit):
        translated(tables, student, tmp_path / "out.parquet", LENGTH_PARALLEL, "--teacher", tmp_path / "short")
    assert message in capsys.readouterr().err
    with pytest.raises(RetortError, match=message):
        open_system(student, LengthParallel(kind="length_parallel").model_dump(), teacher=tmp_path / "short")


def timed(system, seed, checkpoint, name, search):
    return {"system": system, "seed": seed, "checkpoint": str(checkpoint), "search_name": name, "search": search}


def test_latency_with_a_teacher_that_chooses(tables, teacher, student, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    loads = []
    monkeypatch.setattr(torch_engine, "load_teacher", lambda *given: loads.append(given) or load_teacher(*given))
    entry = timed("vanilla", 1, student, "nine", LENGTH_PARALLEL)
    chosen = {**entry, "teacher": str(teacher)}
    systems = [chosen, {**chosen, "seed": 2}, {**chosen, "search_name": "a", "search": ARGMAX}]
    settings = {"sentences": 2, "batch_sizes": [1], "warmup": 1, "repeats": 1, "cold_starts": 0}
    output = tmp_path / "latency.parquet"
    options = ("--latency", json.dumps(settings), "--tests", tables.test, "--output", output)
    call(measure_latency, "--systems", json.dumps(systems), *options)
    rows = read_table(output, LATENCY).to_pylist()
    engines = [(row["seed"], row["search"], row["engine"]) for row in rows if row["batch"] == 0]
    assert engines == [(1, "nine", "torch"), (2, "nine", "torch"), (1, "a", "torch"), (1, "a", "onnx")]
    assert len(rows) == 8 and len(loads) == 1
    facts = read_provenance(output)
    assert facts["teachers"] == {str(teacher): file_digest(teacher / "model.safetensors")}
    taken = {(fact["search"], fact["engine"]): fact["bytes"] for fact in facts["loaded"]}
    own = directory_bytes(student)
    assert (taken[None, "torch"], taken["nine", "torch"]) == (own, own + directory_bytes(teacher))
    assert os.environ["MKL_NUM_THREADS"] == "1", "not the cores of the job"
    with pytest.raises(SystemExit):
        call(measure_latency, "--systems", json.dumps([entry]), *options)
    assert f"{student}: the search has a teacher score its candidates" in capsys.readouterr().err


def test_a_source_longer_than_the_model_is_cut_and_counted(tables, teacher, tmp_path):
    path = tmp_path / "test.long.parquet"
    first = read_table(tables.test, CORPUS)["source"][0].as_py()
    texts = [first, " ".join([first] * 60), ""]
    write_table(path, CORPUS, pa.table({"id": [1, 2, 3], "source": texts, "target": texts}))
    search = {**GREEDY, "max_ratio": 50}
    rows = translated(tables, teacher, tmp_path / "out.parquet", search, tests=[path]).to_pylist()
    assert [row["truncated"] for row in rows][1:] == [True, False]
    assert [row["empty"] for row in rows] == [False, False, True] and rows[2]["passes"] == 0


def test_a_cut_source_is_no_flaw_where_sources_are_cut_in_training_too(tables, teacher, tmp_path):
    checkpoint = load_checkpoint(teacher, torch.device("cpu"))
    model, vocabulary = checkpoint.model, checkpoint.vocabulary
    text = " ".join([read_table(tables.test, CORPUS)["source"][0].as_py()] * 60)
    search, found = Greedy(kind="greedy", max_ratio=50), []
    for truncate in (False, True):
        model.config = model.config.model_copy(update={"truncate_sources": truncate})
        found.append(translate_texts(model, vocabulary, [text], search, 4096)[0][0])
    assert found[0].tokens == found[1].tokens and found[0].truncated
    assert found[1].truncated == (len(found[1].tokens) == model.config.max_length - 1)


def test_exported_systems_are_timed_with_a_shortlist_too(tables, teacher, student, tmp_path):
    entries = [timed("teacher", 1, teacher, "greedy", GREEDY), timed("vanilla", 2, student, "a", ARGMAX)]
    settings = {"sentences": 3, "batch_sizes": [1], "warmup": 1, "turn": 1, "cold_starts": 0, "shortlist_size": 5}
    output = tmp_path / "latency.parquet"
    options = ("--systems", json.dumps(entries), "--latency", json.dumps(settings), "--tests", tables.test)
    call(measure_latency, *options, "--training-text", tables.encoded / "train.parquet", "--output", output)
    engines = [row["engine"] for row in read_table(output, LATENCY).to_pylist()]
    assert engines[:3] == ["torch", "ctranslate2", "ctranslate2, shortlist"]
    assert engines[3:6] == ["torch", "onnx", "onnx, shortlist"]
    facts = read_provenance(output)
    assert facts["shortlist"]["size"] == 5
    assert [fact["engine"] for fact in facts["loaded"]] == engines[:6]


def test_what_an_engine_cannot_run_is_not_exported(teacher, student, tmp_path, monkeypatch):
    monkeypatch.setattr(timed_systems, "export_system", lambda *_, **__: pytest.fail("exported"))
    search = {"kind": "length_parallel", "candidates": 3}
    entry = timed_systems.TimedSystem(**timed("vanilla", 2, student, "rescored", search), teacher=teacher)
    settings = Latency(cold_starts=0)
    assert settings.engines == ["torch", "onnx", "ctranslate2"]
    loader = timed_systems.TimedSystems([entry], settings, None, texts=["a"], threads=1, directory=tmp_path)
    assert [system.engine for system in loader.timed()] == ["torch"]
    assert [(fact["engine"], fact["reason"]) for fact in loader.omitted] == [
        ("onnx", "an exported system asks no teacher"),
        ("ctranslate2", "CTranslate2 runs autoregressive Transformers alone"),
    ]


def test_a_recurrent_model_is_omitted_with_its_reason(tables, tmp_path):
    vocabulary = Vocabulary.load(tables.vocabulary)
    saved(tmp_path / "gru", vocabulary, Autoregressive(name="autoregressive"), family="gru")
    entry = timed("gru", 1, tmp_path / "gru", "greedy", GREEDY)
    settings = {"sentences": 2, "batch_sizes": [1], "warmup": 1, "cold_starts": 0}
    options = ("--systems", json.dumps([entry]), "--latency", json.dumps(settings), "--tests", tables.test)
    call(measure_latency, *options, "--output", tmp_path / "latency.parquet")
    omitted = read_provenance(tmp_path / "latency.parquet")["omitted"]
    named = {"system": "gru", "seed": 1, "search": "greedy"}
    assert all(named.items() <= fact.items() for fact in omitted)
    assert [(fact["engine"], fact["reason"]) for fact in omitted] == [
        ("onnx", "ONNX Runtime has no graphs of the family autoregressive"),
        ("ctranslate2", "CTranslate2 runs autoregressive Transformers alone"),
    ]


def test_a_system_of_another_vocabulary_has_no_shortlist(tables, student, tmp_path):
    saved(tmp_path / "other", text_vocabulary(tmp_path / "text"), Vanilla(name="vanilla"))
    entries = [
        timed_systems.TimedSystem(**timed(name, 1, checkpoint, "a", ARGMAX))
        for name, checkpoint in (("other", tmp_path / "other"), ("vanilla", student))
    ]
    settings = Latency(cold_starts=0, engines=["onnx"], shortlist_size=5)
    text = tables.encoded / "train.parquet"
    loader = timed_systems.TimedSystems(entries, settings, text, texts=["a"], threads=1, directory=tmp_path)
    engines = [(system.system, system.engine) for system in loader.timed()]
    assert engines == [("other", "onnx"), ("vanilla", "onnx"), ("vanilla", "onnx, shortlist")]
    (fact,) = loader.omitted
    assert (fact["system"], fact["engine"]) == ("other", "onnx, shortlist") and "vocabulary" in fact["reason"]


def test_an_export_that_fails_ends_the_job(tables, student, tmp_path, monkeypatch, capsys):
    """As on a full disk; without its best engine a system would be timed in torch alone."""

    def full(*_, **__):
        raise RetortError("/tmp/1: cannot be written (No space left on device)")

    monkeypatch.setattr(timed_systems, "export_system", full)
    settings = {"sentences": 2, "batch_sizes": [1], "warmup": 1, "cold_starts": 0}
    given = ("--systems", json.dumps([timed("vanilla", 2, student, "a", ARGMAX)]), "--tests", tables.test)
    with pytest.raises(SystemExit) as end:
        call(measure_latency, *given, "--latency", json.dumps(settings), "--output", tmp_path / "latency.parquet")
    error = capsys.readouterr().err
    assert end.value.code == 2 and f"{student} cannot be exported to be timed in onnx: /tmp/1: " in error
    assert not (tmp_path / "latency.parquet").exists()


def test_an_external_teacher_is_timed_as_an_engine_of_its_kind(tables):
    section = CommandTeacher(kind="command", arguments=["cat"], streams=True)
    timed = measure_latency.external(section, tables.vocabulary, "test", 1)
    assert (timed.system, timed.engine, timed.search_name) == ("external", "command", "command")
    assert time_batch(timed.loaded, ["a text"]).outputs == Vocabulary.load(tables.vocabulary).encode_target(["a text"])
    timed.loaded.teacher.close()


@pytest.mark.slow
def test_latency_of_all_systems_on_equal_batches(tables, teacher, student, tmp_path):
    systems = [timed("teacher", 1, teacher, "greedy", GREEDY), timed("vanilla", 2, student, "a", ARGMAX)]
    settings = {"sentences": 6, "batch_sizes": [1, 4], "warmup": 1, "repeats": 2, "turn": 1, "cold_starts": 1}
    output = tmp_path / "latency.parquet"
    options = ("--systems", json.dumps(systems), "--latency", json.dumps(settings), "--tests", tables.test)
    call(measure_latency, *options, "--output", output)
    rows = read_table(output, LATENCY).to_pylist()
    # 6 sentences one by one and 2 batches of 4, twice each, in two engines
    keys = [
        *(("teacher", 1, "greedy", *engine) for engine in (("torch", "float32"), ("ctranslate2", "int8"))),
        *(("vanilla", 2, "a", *engine) for engine in (("torch", "float32"), ("onnx", "int8"))),
    ]
    for key in keys:
        own = [row for row in rows if tuple(row[c] for c in ("system", "seed", "search", "engine", "precision")) == key]
        places = [(row["batch_size"], row["batch"], row["sentences"]) for row in own]
        assert places == [(1, batch, 1) for batch in [*range(6)] * 2] + [(4, batch, 4) for batch in (0, 1, 0, 1)]
    assert len(rows) == 64 and [row["engine"] for row in rows[:4]] == ["torch", "ctranslate2", "torch", "onnx"]
    assert all(0 < row["model_seconds"] < row["total_seconds"] and row["source_characters"] for row in rows)
    facts = read_provenance(output)
    assert facts["test_set"] == "test" and facts["device"]["threads"] == 1 and set(facts["load"]) == {"before", "after"}
    assert [fact["engine"] for fact in facts["loaded"]] == ["torch", "ctranslate2", "torch", "onnx"]
    assert all(fact["bytes"] > 1000 and fact["loading_seconds"] > 0 for fact in facts["loaded"])
    assert all(fact["cold_start_seconds"] > fact["loading_seconds"] / 2 for fact in facts["loaded"])
    changed = [(fact["engine"], fact["sentences"]) for fact in facts["changed_outputs"]]
    assert changed == [("ctranslate2", 6), ("onnx", 6)]
    assert facts["checkpoints"] == {str(path): file_digest(path / "model.safetensors") for path in (teacher, student)}


@pytest.mark.slow
def test_what_a_search_takes_includes_its_table(tables, tmp_path, monkeypatch):
    """Searches without one are measured once."""
    saved(tmp_path / "ctc", Vocabulary.load(tables.vocabulary), Ctc(name="ctc"))
    options = ("--vocabulary", tables.vocabulary, "--order", 3, "--most", 10_000)
    call(count_ngrams, *options, "--train", tables.encoded / "train.parquet", "--output", tmp_path / "table")
    ngrams, collapse = {"kind": "ctc_beam", "table": str(tmp_path / "table")}, {"kind": "ctc_collapse"}
    searches = {"collapse": collapse, "ngrams": ngrams, "no_table": {"kind": "ctc_beam", "lm_weight": 0}}
    entries = [timed("ctc", 1, tmp_path / "ctc", name, search) for name, search in searches.items()]
    started = []

    def cold_start(directory, lines, runs, search, *others):
        started.append((search["kind"], (directory / "ngrams.table").exists()))
        return ColdStart(1.0, 1.0, peak_bytes=None)

    monkeypatch.setattr(timed_systems, "cold_start", cold_start)
    settings = {"sentences": 2, "batch_sizes": [1], "warmup": 1, "turn": 1, "exported_precision": "int8"}
    given = ("--systems", json.dumps(entries), "--latency", json.dumps(settings), "--tests", tables.test)
    call(measure_latency, *given, "--output", tmp_path / "latency.parquet")
    facts = read_provenance(tmp_path / "latency.parquet")
    measured = {(fact["search"], fact["engine"]): fact["bytes"] for fact in facts["loaded"]}
    sizes = {
        (None, "torch"): directory_bytes(tmp_path / "ctc"),
        ("ngrams", "torch"): directory_bytes(tmp_path / "ctc") + (tmp_path / "table").stat().st_size,
    }
    for name, search in ((None, None), ("ngrams", ngrams)):
        bundle = tmp_path / f"{name}-bundle"
        export_system(tmp_path / "ctc", bundle, precision="int8", search=search)
        # the card names the directory
        sizes[name, "onnx"] = pytest.approx(directory_bytes(bundle), abs=50)
    assert measured == sizes
    assert started == [("ctc_collapse", False), ("ctc_collapse", False), ("ctc_beam", False), ("ctc_beam", True)]
    rows = read_table(tmp_path / "latency.parquet", LATENCY).to_pylist()
    assert [(row["search"], row["engine"]) for row in rows[:6]] == [
        (name, engine) for name in searches for engine in ("torch", "onnx")
    ]


def test_a_tuned_search_is_timed_as_it_was_chosen(tmp_path):
    chosen = tmp_path / "tuned.json"
    chosen.write_text('{"kind": "beam", "beam_size": 7}')
    entry = {"system": "teacher", "seed": 1, "checkpoint": "c", "search_name": "beam"}
    assert timed_systems.TimedSystem(**entry, search=f"@{chosen}").search.beam_size == 7
    chosen.unlink()
    with pytest.raises(ValueError, match="tuned.json: cannot be read"):
        timed_systems.TimedSystem(**entry, search=f"@{chosen}")
