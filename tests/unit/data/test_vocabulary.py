import io
import json
import random

import pyarrow as pa
import pytest
import sentencepiece

from retort import config
from retort.data.parquet import write_table
from retort.data.tables import CORPUS
from retort.data.vocabulary import BLANK, BOS, EOS, MASK, PAD, UNK, Vocabulary
from retort.data.vocabulary_training import train_vocabulary
from retort.errors import RetortError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    rng = random.Random(1)
    sources = ["the", "old", "small", "green", "house", "tree", "stands", "sleeps", "½", "cup", "of", "…", "tea"]
    targets = ["das", "alte", "kleine", "grüne", "Haus", "steht", "schläft", "Baum", "Straße", "„Tee“"]
    rows = [
        (" ".join(rng.choices(sources, k=rng.randint(2, 9))), " ".join(rng.choices(targets, k=rng.randint(2, 9))))
        for _ in range(400)
    ]
    path = tmp_path_factory.mktemp("corpus") / "train.parquet"
    table = pa.table({"id": range(400), "source": [s for s, _ in rows], "target": [t for _, t in rows]})
    write_table(path, CORPUS, table)
    return path, rows


@pytest.fixture(scope="module")
def vocabulary(corpus, tmp_path_factory):
    directory = tmp_path_factory.mktemp("vocabulary")
    train_vocabulary(corpus[0], config.Vocabulary(size=56), 1, directory, {"seed": 1})
    return Vocabulary.load(directory), directory


def test_round_trip_up_to_white_space(corpus, vocabulary):
    targets = [target for _, target in corpus[1]]
    odd = ["  das\u00a0alte \t Haus ", "", "½ … „Straße“"]
    encoded = vocabulary[0].encode_target([*targets, *odd])
    assert vocabulary[0].decode_target(encoded) == [*targets, "das alte Haus", "", "½ … „Straße“"]
    assert all(min(ids, default=9) > BLANK for ids in encoded)


def test_special_tokens_are_fixed_and_vanish_from_text(vocabulary):
    assert (PAD, BOS, EOS, UNK, MASK, BLANK) == (0, 1, 2, 3, 4, 5)
    ids = vocabulary[0].encode_target(["das Haus"])[0]
    assert vocabulary[0].decode_target([[BOS, MASK, *ids, BLANK, EOS, PAD]]) == ["das Haus"]
    assert vocabulary[0].encode_source(["语"])[0][-1] == UNK
    # Markup in the text is text, not a control token.
    assert MASK not in vocabulary[0].encode_source(["<mask>"])[0]
    assert vocabulary[0].encode_source([]) == []


def test_description(vocabulary):
    facts = json.loads((vocabulary[1] / "vocabulary.json").read_text())
    assert facts["digest"] == vocabulary[0].digest
    assert (facts["type"], facts["joint"], facts["source_size"], facts["target_size"]) == ("unigram", True, 56, 56)
    assert facts["ids"]["blank"] == BLANK
    assert facts["sentences"] == 800
    assert facts["provenance"] == {"seed": 1}


def test_same_seed_same_bytes_and_a_copy_is_equal(corpus, vocabulary, tmp_path):
    settings = config.Vocabulary(size=56, sample_sentences=300)
    digests = [
        train_vocabulary(corpus[0], settings, seed, tmp_path / str(n)).digest for n, seed in enumerate([1, 1, 2])
    ]
    assert digests[0] == digests[1] != digests[2]
    assert json.loads((tmp_path / "0" / "vocabulary.json").read_text())["sentences"] == 300
    vocabulary[0].copy_to(tmp_path / "copy")
    assert Vocabulary.load(tmp_path / "copy").digest == vocabulary[0].digest


def test_two_sides_and_bpe(corpus, tmp_path):
    settings = config.Vocabulary(size=48, joint=False, type="bpe")
    trained = train_vocabulary(corpus[0], settings, 1, tmp_path)
    assert not trained.joint
    assert (tmp_path / "source.model").read_bytes() != (tmp_path / "target.model").read_bytes()
    source, target = corpus[1][0]
    assert UNK not in trained.encode_source([source])[0] + trained.encode_target([target])[0]


def test_a_given_vocabulary_is_taken_over(corpus, vocabulary, tmp_path):
    settings = config.Vocabulary(path=str(vocabulary[1]))
    assert train_vocabulary(corpus[0], settings, 1, tmp_path).digest == vocabulary[0].digest


@pytest.mark.parametrize(
    ("size", "kind", "said"),
    [(5000, "unigram", r"largest possible is \d+"), (5000, "bpe", r"largest possible is \d+"), (32, "bpe", "special")],
)
def test_a_size_that_does_not_suit_the_text(corpus, tmp_path, size, kind, said):
    with pytest.raises(RetortError, match=said):
        train_vocabulary(corpus[0], config.Vocabulary(size=size, type=kind), 1, tmp_path / "v")
    assert not (tmp_path / "v").exists()


def test_errors_while_reading_the_corpus_are_not_lost(tmp_path):
    with pytest.raises(RetortError, match=r"train\.parquet: no such file"):
        train_vocabulary(tmp_path / "train.parquet", config.Vocabulary(), 1, tmp_path / "v")


def test_no_text(tmp_path):
    write_table(tmp_path / "c.parquet", CORPUS, CORPUS.schema.empty_table())
    with pytest.raises(RetortError, match="no text"):
        train_vocabulary(tmp_path / "c.parquet", config.Vocabulary(size=32), 1, tmp_path / "v")


def test_models_that_are_not_fit_for_use(corpus, vocabulary, tmp_path):
    with pytest.raises(RetortError, match=r"source\.model: cannot be read"):
        Vocabulary.load(tmp_path)
    with pytest.raises(RetortError, match=r"somewhere/source\.model: not a sentencepiece model"):
        Vocabulary(b"nothing", b"nothing", "somewhere")
    other = io.BytesIO()
    sentences = iter([target for _, target in corpus[1]])
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences, model_writer=other, vocab_size=36, minloglevel=2
    )
    with pytest.raises(RetortError, match=r"target\.model: its special ids are .*'pad': -1"):
        Vocabulary((vocabulary[1] / "source.model").read_bytes(), other.getvalue())


def test_ids_do_not_depend_on_the_number_of_threads(corpus, vocabulary):
    texts = [source for source, _ in corpus[1][:20]]
    encoded = [Vocabulary.load(vocabulary[1], threads).encode_source(texts) for threads in (1, 3)]
    assert encoded[0] == encoded[1] == [vocabulary[0].encode_source([text])[0] for text in texts]


def test_a_single_text_starts_no_thread(vocabulary, monkeypatch):
    calls = []
    threaded = Vocabulary.load(vocabulary[1], threads=3)
    encode = sentencepiece.SentencePieceProcessor.encode

    def recorded(processor, text, **options):
        calls.append((type(text), options))
        return encode(processor, text, **options)

    monkeypatch.setattr(sentencepiece.SentencePieceProcessor, "encode", recorded)
    threaded.encode_source(["one  text"])
    threaded.encode_source(["one", "two"])
    assert calls == [(str, {}), (list, {"num_threads": 3})]
