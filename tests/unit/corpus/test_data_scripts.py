"""The scripts of the data stages, one after the other, by hand."""

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import pytest

from retort.data.parquet import read_provenance, read_table
from retort.data.tables import CORPUS, ENCODED, ENCODING
from retort.workflow.scripting import run_script

SCRIPTS = Path(__file__).resolve().parents[3] / "workflow_scripts"
CORPUS_SECTION = {"kind": "generated", "train_pairs": 200, "valid_pairs": 20, "test_pairs": 20}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name: str, *arguments: object) -> None:
    module = script(name)
    run_script(module.parser(), module.main, [str(argument) for argument in arguments])


def test_prepare_train_vocabulary_encode(tmp_path):
    corpus, vocabulary, encoded = (tmp_path / name for name in ("corpus", "vocabulary", "encoded"))
    call("prepare_corpus", "--corpus", json.dumps(CORPUS_SECTION), "--cleaning", "{}", "--output", corpus)
    settings = json.dumps({"size": 100})
    call("train_vocabulary", "--vocabulary", settings, "--corpus", corpus / "train.parquet", "--output", vocabulary)
    tables = [corpus / "train.parquet", corpus / "valid.parquet"]
    options = ("--counted", corpus / "test.test.parquet", "--max-length", 20, "--truncate-sources")
    call("encode_corpus", "--vocabulary", vocabulary, "--corpus", *tables, *options, "--output", encoded)
    assert sorted(os.listdir(encoded)) == ["encoding.parquet", "train.parquet", "valid.parquet"]
    counted = read_table(encoded / "encoding.parquet", ENCODING).to_pylist()
    assert [(row["split"], row["side"]) for row in counted] == [
        (split, side) for split in ("train", "valid", "test") for side in ("source", "target")
    ]
    assert counted[0]["texts"] == 200 and counted[0]["longest"] > 19 and counted[0]["over_length"] > 0
    assert sorted(os.listdir(vocabulary)) == ["source.model", "target.model", "vocabulary.json"]
    for name in ("train.parquet", "valid.parquet"):
        texts, tokens = read_table(corpus / name, CORPUS), read_table(encoded / name, ENCODED)
        assert texts["id"] == tokens["id"]
        assert max(map(len, tokens["source"].to_pylist())) == 19
    digest = json.loads((vocabulary / "vocabulary.json").read_text())["digest"]
    assert read_provenance(encoded / "train.parquet")["vocabulary"] == digest
    assert read_provenance(corpus / "train.parquet")["corpus"]["seed"] == 1


def test_the_mirror_of_the_environment_is_used_and_not_recorded(tmp_path, monkeypatch):
    address = "https://example.org"
    pairs = {}
    for split in ("train", "valid", "news"):
        pairs[split] = {side: [{"location": f"{address}/{split}.{side}"}] for side in ("source", "target")}
        for side in ("source", "target"):
            (tmp_path / f"{split}.{side}").write_text(f"{split} {side}\n")
    section = {"kind": "text", "train": pairs["train"], "valid": pairs["valid"], "tests": {"news": pairs["news"]}}
    monkeypatch.setenv("RETORT_MIRROR", str(tmp_path))
    call("prepare_corpus", "--corpus", json.dumps(section), "--output", tmp_path / "corpus")
    assert read_table(tmp_path / "corpus" / "test.news.parquet", CORPUS)["source"].to_pylist() == ["news source"]
    assert str(tmp_path) not in (tmp_path / "corpus" / "corpus.json").read_text()
    missing = json.dumps({**section, "mirror": str(tmp_path / "elsewhere")})
    with pytest.raises(SystemExit):
        call("prepare_corpus", "--corpus", missing, "--output", tmp_path / "other")


def test_tables_of_one_name_are_refused(tmp_path, capsys):
    call("prepare_corpus", "--corpus", json.dumps(CORPUS_SECTION), "--output", tmp_path / "corpus")
    train = tmp_path / "corpus" / "train.parquet"
    call("train_vocabulary", "--vocabulary", '{"size": 100}', "--corpus", train, "--output", tmp_path / "vocabulary")
    with pytest.raises(SystemExit):
        call("encode_corpus", "--vocabulary", tmp_path / "vocabulary", "--corpus", train, train, "--output", tmp_path)
    assert "give each name once" in capsys.readouterr().err
