import pyarrow as pa
import pytest

from retort import config
from retort.corpus.encoding import count_tokens, encode_corpus, sources_digest, unknown_warning
from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.references import corpus_table
from retort.data.tables import CORPUS, ENCODED
from retort.data.vocabulary import UNK
from retort.data.vocabulary_training import train_vocabulary
from retort.errors import RetortError

SOURCES = ["red fish", "blue fish swims", "a red whale"] * 20
TARGETS = ["poisson rouge", "poisson bleu nage", "une baleine rouge"] * 20


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "train.parquet"
    write_table(path, CORPUS, pa.table({"id": range(5, 65), "source": SOURCES, "target": TARGETS}))
    return path


def test_tokens_and_ids_are_kept(tmp_path, corpus, monkeypatch):
    vocabulary = train_vocabulary(corpus, config.Vocabulary(size=32), 1, tmp_path / "vocabulary")
    monkeypatch.setattr("retort.data.parquet.iterate_table.__defaults__", (7,))
    facts = encode_corpus(corpus, vocabulary, tmp_path / "encoded.parquet", provenance={"seed": 3})
    encoded = read_table(tmp_path / "encoded.parquet", ENCODED)
    assert encoded["id"].to_pylist() == list(range(5, 65))
    assert encoded["source"].to_pylist() == vocabulary.encode_source(SOURCES)
    assert vocabulary.decode_target(encoded["target"].to_pylist()) == TARGETS
    lengths = [len(ids) for ids in encoded["target"].to_pylist()]
    assert facts["source"]["texts"] == facts["target"]["texts"] == 60
    assert facts["target"] == {
        "texts": 60, "tokens": sum(lengths), "unknown": 0, "longest": max(lengths), "over_length": 0,
    }  # fmt: skip
    texts = {"vocabulary": vocabulary.digest, "sources": sources_digest(corpus)}
    assert read_provenance(tmp_path / "encoded.parquet") == {"seed": 3, **texts}


def test_unknown_tokens_are_counted(tmp_path, corpus):
    vocabulary = train_vocabulary(corpus, config.Vocabulary(size=32), 1, tmp_path / "vocabulary")
    other = tmp_path / "other.parquet"
    write_table(other, CORPUS, pa.table({"id": [0], "source": ["red 鱼"], "target": ["rouge"]}))
    facts = encode_corpus(other, vocabulary, tmp_path / "encoded.parquet")
    assert facts["source"]["unknown"] == 1
    assert UNK in read_table(tmp_path / "encoded.parquet", ENCODED)["source"][0].as_py()


def test_an_empty_table(tmp_path, corpus):
    vocabulary = train_vocabulary(corpus, config.Vocabulary(size=32), 1, tmp_path / "vocabulary")
    write_table(tmp_path / "none.parquet", CORPUS, CORPUS.schema.empty_table())
    assert encode_corpus(tmp_path / "none.parquet", vocabulary, tmp_path / "e.parquet")["source"]["texts"] == 0
    assert read_table(tmp_path / "e.parquet", ENCODED).num_rows == 0


def test_another_table_is_refused(tmp_path, corpus):
    vocabulary = train_vocabulary(corpus, config.Vocabulary(size=32), 1, tmp_path / "vocabulary")
    encode_corpus(corpus, vocabulary, tmp_path / "encoded.parquet")
    with pytest.raises(RetortError, match="holds table encoded"):
        encode_corpus(tmp_path / "encoded.parquet", vocabulary, tmp_path / "again.parquet")
    assert not (tmp_path / "again.parquet").exists()


def test_long_sources_are_cut_and_counted(tmp_path, corpus):
    vocabulary = train_vocabulary(corpus, config.Vocabulary(size=32), 1, tmp_path / "vocabulary")
    whole = encode_corpus(corpus, vocabulary, tmp_path / "whole.parquet", longest=4)
    facts = encode_corpus(corpus, vocabulary, tmp_path / "cut.parquet", longest=4, truncate_sources=True)
    before, after = (read_table(tmp_path / f"{name}.parquet", ENCODED) for name in ("whole", "cut"))
    sources = before["source"].to_pylist()
    longer = sum(len(ids) > 4 for ids in sources)
    assert 0 < longer < 60 and facts == whole == count_tokens(corpus, vocabulary, 4)
    assert facts["source"]["over_length"] == longer and facts["source"]["longest"] == max(map(len, sources))
    assert after["source"].to_pylist() == [ids[:4] for ids in sources]
    assert after["target"] == before["target"] and facts["target"]["over_length"] > 0


@pytest.mark.parametrize(("unknown", "warned"), [(0, False), (10, False), (11, True)])
def test_many_unknown_target_tokens_are_warned_about(unknown, warned):
    assert bool(warning := unknown_warning("train", {"tokens": 10_000, "unknown": unknown})) == warned
    assert not warned or ("0.11 % of the target tokens" in str(warning) and "byte_fallback" in str(warning))


def test_the_digest_of_sources_is_of_their_ids_too(tmp_path):
    for number, ids in enumerate(([0, 1], [0, 2], [0, 1])):
        write_table(tmp_path / f"{number}.parquet", CORPUS, corpus_table(ids, ["a", "b"], [["x"], ["y"]]))
    digests = [sources_digest(tmp_path / f"{number}.parquet") for number in range(3)]
    assert digests[0] == digests[2] != digests[1]
