import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from retort.config import Cleaning, GeneratedCorpus, TextCorpus
from retort.corpus.preparation import prepare_corpus, text_of
from retort.corpus.raw import parts_where
from retort.data.parquet import read_provenance, read_table
from retort.data.references import corpus_table, references_of
from retort.data.tables import CLEANING, CORPUS
from retort.errors import RetortError

SPLITS = {
    "train": [(f"a{i} b", f"x{i} y") for i in range(20)] + [("", "x"), ("a0 b", "x0 y"), ("v0", "new")],
    "valid": [(f"v{i}", f"w{i}") for i in range(4)],
    "news": [("n0", "m0"), (" ", "m1"), ("n2", "m2")],
}
ADDRESS = "https://example.org"


def write_files(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for split, pairs in SPLITS.items():
        for side in (0, 1):
            text = "".join(pair[side] + "\n" for pair in pairs)
            (folder / f"{split}.{'st'[side]}.gz").write_bytes(gzip.compress(text.encode()))


def text_corpus(prefix: str, **changes: object) -> TextCorpus:
    pairs = {
        split: {side: [{"location": f"{prefix}/{split}.{side[0]}.gz"}] for side in ("source", "target")}
        for split in SPLITS
    }
    tests = {"news": pairs.pop("news")}
    return TextCorpus.model_validate({"kind": "text", **pairs, "tests": tests, **changes})


def rows(path: Path) -> list[tuple[int, str, str]]:
    table = read_table(path, CORPUS)
    return list(zip(*(table[name].to_pylist() for name in ("id", "source", "target")), strict=True))


def test_texts_become_tables_and_ids_survive_cleaning(tmp_path):
    write_files(tmp_path / "texts")
    output = tmp_path / "corpus"
    facts = prepare_corpus(text_corpus(str(tmp_path / "texts")), Cleaning(), output, provenance={"seed": 1})
    assert sorted(os.listdir(output)) == [
        "cleaning.parquet", "corpus.json", "test.news.parquet", "train.parquet", "valid.parquet",
    ]  # fmt: skip
    assert rows(output / "train.parquet") == [(i, f"a{i} b", f"x{i} y") for i in range(20)]
    assert rows(output / "test.news.parquet") == [(0, "n0", "m0"), (2, "n2", "m2")]
    counted = {
        (row["split"], row["reason"]): row["pairs"]
        for row in read_table(output / "cleaning.parquet", CLEANING).to_pylist()
    }
    assert counted["train", "read"] == 23
    assert counted["train", "kept"] == 20
    assert (counted["train", "empty"], counted["train", "duplicate"], counted["train", "leak"]) == (1, 1, 1)
    assert (counted["news", "read"], counted["news", "empty"], counted["valid", "kept"]) == (3, 1, 4)
    assert json.loads((output / "corpus.json").read_text()) == facts
    assert facts["splits"]["train"]["pairs"] == 20
    assert facts["cleaning"]["news"]["empty"] == 1
    assert "true_conditional_entropy" not in facts
    assert [(t["split"], t["side"], t["lines"], t["read_from"]) for t in facts["texts"][:3]] == [
        ("train", "source", 23, "file"), ("train", "target", 23, "file"), ("valid", "source", 4, "file"),
    ]  # fmt: skip
    assert read_provenance(output / "train.parquet") == {"seed": 1}


def test_several_references_stand_in_the_tables_and_none_of_them_in_train(tmp_path):
    texts = tmp_path / "texts"
    write_files(texts)
    (texts / "news.t.gz").write_bytes(gzip.compress(b"m0\tx3 y\n\nm2\n"))
    settings = text_corpus(str(texts)).model_dump()
    settings["tests"]["news"]["references"] = settings["tests"]["news"].pop("target")
    corpus = TextCorpus.model_validate(settings)
    facts = prepare_corpus(corpus, Cleaning(), tmp_path / "corpus")
    table = read_table(tmp_path / "corpus" / "test.news.parquet", CORPUS)
    assert table["target"].to_pylist() == ["m0", "m2"] and table["id"].to_pylist() == [0, 2]
    assert table["references"].to_pylist() == [["m0", "x3 y"], None]
    assert references_of(table) == [["m0", "x3 y"], ["m2"]]
    # a training target that is a second reference
    assert facts["cleaning"]["train"]["leak"] == 2
    assert [text["side"] for text in facts["texts"]][-2:] == ["source", "references"]
    alone = prepare_corpus(text_corpus(str(texts)), Cleaning(), tmp_path / "alone")
    assert alone["splits"]["news"]["sha256"] == facts["splits"]["news"]["sha256"]


def test_a_mirror_gives_the_same_tables_as_files(tmp_path):
    write_files(tmp_path / "texts")
    own = prepare_corpus(text_corpus(str(tmp_path / "texts")), Cleaning(), tmp_path / "own")
    given = prepare_corpus(text_corpus(ADDRESS), Cleaning(), tmp_path / "given", mirror=tmp_path / "texts")
    configured = text_corpus(ADDRESS, mirror=str(tmp_path / "texts"))
    prepare_corpus(configured, Cleaning(), tmp_path / "configured")
    for name in ("train.parquet", "test.news.parquet"):
        contents = {(tmp_path / folder / name).read_bytes() for folder in ("own", "given", "configured")}
        assert len(contents) == 1
    assert given["splits"] == own["splits"]
    assert {text["read_from"] for text in given["texts"]} == {"mirror"}


def test_validation_sources_that_are_tested_are_warned_about(tmp_path, caplog):
    write_files(tmp_path / "texts")
    news = [*SPLITS["news"], *(("v1  ", "other"), ("v3", "w3"), ("v3", "w5"), ("x", "w0"))]
    for side in (0, 1):
        text = "".join(f"{pair[side]}\n" for pair in news)
        (tmp_path / "texts" / f"news.{'st'[side]}.gz").write_bytes(gzip.compress(text.encode()))
    prepare_corpus(text_corpus(str(tmp_path / "texts")), Cleaning(), tmp_path / "corpus")
    shared = "valid: 2 sources are in test set news, too; checkpoints are chosen on them: take them out"
    assert [message for message in caplog.messages if message.startswith("valid: 2 sources")] == [shared]


def test_a_mirror_that_cannot_tell_two_addresses_apart_is_refused(tmp_path):
    write_files(tmp_path / "texts")
    settings = text_corpus(ADDRESS).model_dump()
    settings["tests"]["more"] = {
        side: [{"location": f"{ADDRESS}/more/news.{side[0]}.gz"}] for side in ("source", "target")
    }
    corpus = TextCorpus.model_validate(settings)
    with pytest.raises(RetortError, match=r"tests.more.source\[0\]: .*/more/news.s.gz and .* are both news.s in"):
        prepare_corpus(corpus, Cleaning(), tmp_path / "corpus", mirror=tmp_path / "texts")


def test_a_failure_leaves_no_output(tmp_path):
    write_files(tmp_path / "texts")
    (tmp_path / "texts" / "news.t.gz").write_bytes(gzip.compress(b"m0\nm1\n"))
    with pytest.raises(RetortError, match=r"news\.s\.gz has 3 lines and .*news\.t\.gz has 2"):
        prepare_corpus(text_corpus(str(tmp_path / "texts")), Cleaning(), tmp_path / "corpus")
    wrong = text_corpus(str(tmp_path / "texts")).model_dump()
    wrong["tests"]["news"]["source"][0]["sha256"] = "0" * 64
    with pytest.raises(RetortError, match="expected 0000"):
        prepare_corpus(TextCorpus.model_validate(wrong), Cleaning(), tmp_path / "corpus")
    assert os.listdir(tmp_path) == ["texts"]


def test_a_split_that_is_empty_after_cleaning(tmp_path):
    write_files(tmp_path / "texts")
    with pytest.raises(RetortError, match="no pair of train is left .*21 too_long, 1 leak"):
        prepare_corpus(text_corpus(str(tmp_path / "texts")), Cleaning(max_words=1), tmp_path / "corpus")


def test_a_draw_of_training_pairs(tmp_path):
    write_files(tmp_path / "texts")
    settings = text_corpus(str(tmp_path / "texts"), train_pairs=7, seed=3)
    facts = prepare_corpus(settings, Cleaning(), tmp_path / "corpus")
    assert facts["cleaning"]["train"]["not_drawn"] == 13
    assert len(rows(tmp_path / "corpus" / "train.parquet")) == 7


def test_carving_and_ready_splits_give_the_same_tables(tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    lines = [f"English {i // 2}.\tDeutsch {i}." for i in range(200)]
    (mirror / "pairs.txt").write_text("\n".join(lines))
    text = {"location": f"{ADDRESS}/pairs.txt"}
    splits = ("train", "valid", "test")
    ready = {split: {side: [{"location": f"{split}.{side}"}] for side in ("source", "target")} for split in splits}
    # what the mirror holds under a name of its own was taken from there
    taken_from = {"location": "ready.json", "layout": "json", "field": "source"}
    ready["train"]["source"] = [{**taken_from, "mirror_name": "train.source"}]
    settings = TextCorpus.model_validate(
        {
            "kind": "text",
            "train": {"source": [{**text, "column": 1}], "target": [{**text, "column": 0}]},
            "carve": {"valid_pairs": 10, "test_pairs": 9, "ready": ready},
        }
    )
    carved = prepare_corpus(settings, Cleaning(), tmp_path / "carved", mirror=mirror)
    assert {split: found["pairs"] for split, found in carved["splits"].items()} == {
        "train": 180,
        "valid": 10,
        "test": 10,
    }
    for split, name in zip(splits, ("train", "valid", "test.test"), strict=True):
        found = rows(tmp_path / "carved" / f"{name}.parquet")
        assert [number for number, _, _ in found] == list(range(len(found)))
        for column, side in ((1, "source"), (2, "target")):
            (mirror / f"{split}.{side}").write_text("\n".join(row[column] for row in found))
    taken = prepare_corpus(settings, Cleaning(), tmp_path / "ready", mirror=mirror)
    assert taken["splits"] == carved["splits"]
    assert len(taken["texts"]) == 6
    assert {text["read_from"] for text in taken["texts"]} == {"mirror"}


def test_repeats_of_carved_pairs_are_duplicates_of_train(tmp_path, caplog):
    def prepared(name, pairs):
        for side, texts in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts))
        train = {side: [{"location": str(tmp_path / f"{name}.{side}")}] for side in ("source", "target")}
        carve = {"valid_pairs": 5, "test_pairs": 5}
        settings = TextCorpus.model_validate({"kind": "text", "train": train, "carve": carve})
        return prepare_corpus(settings, Cleaning(), tmp_path / name)

    pairs = [(f"quelle {i}", f"target {i}") for i in range(60)]
    once = prepared("once", pairs)
    assert once["cleaning"]["train"]["duplicate"] == 0
    repeated = rows(tmp_path / "once/valid.parquet")[0][1:]
    found = prepared("often", pairs + [repeated] * 540)
    assert found["splits"] == once["splits"]
    train = found["cleaning"]["train"]
    assert (train["read"], train["kept"], train["duplicate"]) == (590, 50, 540)
    assert sum(counts["read"] for counts in found["cleaning"].values()) == 600
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "train: cleaning takes 92 % of the pairs, most as duplicate; see docs/corpus.md"
    ]
    counted = read_table(tmp_path / "often/cleaning.parquet", CLEANING).to_pylist()
    assert {"split": "train", "reason": "duplicate", "pairs": 540} in counted


def test_a_generated_corpus(tmp_path):
    settings = GeneratedCorpus(kind="generated", train_pairs=200, valid_pairs=20, test_pairs=30)
    facts = prepare_corpus(settings, Cleaning(), tmp_path / "a")
    again = prepare_corpus(settings, Cleaning(), tmp_path / "a")
    assert facts == again
    assert sorted(os.listdir(tmp_path)) == ["a"]
    assert len(rows(tmp_path / "a" / "test.test.parquet")) == 30
    truth = facts["true_conditional_entropy"]
    assert set(truth["splits"]) == {"train", "valid", "test"}
    assert truth["nats_per_word"] == truth["splits"]["train"]["nats_per_word"] > 0.2


def test_what_a_killed_preparation_left_is_no_hindrance(tmp_path):
    write_files(tmp_path / "texts")
    (tmp_path / ".corpus.staging").mkdir()
    facts = prepare_corpus(text_corpus(str(tmp_path / "texts")), Cleaning(), tmp_path / "corpus")
    assert {text["checked"] for text in facts["texts"]} == {False}
    assert sorted(os.listdir(tmp_path)) == ["corpus", "texts"]


def test_tables_of_several_parts_keep_their_rows_and_ids(tmp_path, monkeypatch):
    monkeypatch.setattr("retort.corpus.raw.ROW_GROUP_ROWS", 3)
    monkeypatch.setattr("retort.data.parquet.iterate_table.__defaults__", (4,))
    write_files(tmp_path / "texts")
    prepare_corpus(text_corpus(str(tmp_path / "texts")), Cleaning(), tmp_path / "whole")
    assert rows(tmp_path / "whole" / "train.parquet") == [(i, f"a{i} b", f"x{i} y") for i in range(20)]
    mask = np.arange(20) % 3 == 1
    parts = list(parts_where(tmp_path / "whole" / "train.parquet", mask))
    assert [i for part in parts for i in part["id"].to_pylist()] == np.flatnonzero(mask).tolist()


def test_the_digest_of_a_split_is_of_its_ids_too():
    one, other = (corpus_table([i], ["a"], [["b"]]) for i in (1, 2))
    assert text_of(one) != text_of(other)
