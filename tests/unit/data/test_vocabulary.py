import io
import json
import random
import re

import pyarrow as pa
import pytest
import sentencepiece
from pydantic import ValidationError

from retort import config
from retort.data import vocabulary_training
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


def test_a_size_that_does_not_suit_either_side(corpus, tmp_path):
    said = r"source side.* is (\d+): .*or less, or vocabulary.joint to true; .*target side.* is (\d+): .*joint to true$"
    with pytest.raises(RetortError, match=said) as error:
        train_vocabulary(corpus[0], config.Vocabulary(size=5000, joint=False), 1, tmp_path / "v")
    smaller = min(int(size) for size in re.search(said, str(error.value)).groups())
    trained = train_vocabulary(corpus[0], config.Vocabulary(size=smaller, joint=False), 1, tmp_path / "v")
    assert trained.source_size == trained.target_size == smaller


@pytest.mark.parametrize("joint", [True, False])
def test_errors_while_reading_the_corpus_are_not_lost(tmp_path, joint):
    with pytest.raises(RetortError, match=r"^\S*train\.parquet: no such file; expected a table in Parquet$"):
        train_vocabulary(tmp_path / "train.parquet", config.Vocabulary(joint=joint), 1, tmp_path / "v")


@pytest.mark.slow
def test_long_texts_and_those_with_a_sign_of_sentencepiece_are_learnt_from(corpus, tmp_path):
    rows = [
        ("the house\u2585Ω", "das Haus"),
        ("the old green tree " * 5000 + "Ж", "das Haus"),
        ("语" * 30_000 + "茶", "das alte Haus"),
    ]
    sources, targets = zip(*corpus[1], *rows, strict=True)
    write_table(tmp_path / "t", CORPUS, pa.table({"id": range(403), "source": sources, "target": targets}))
    learnt = train_vocabulary(tmp_path / "t", config.Vocabulary(size=64, character_coverage=1), 1, tmp_path / "v")
    assert all(UNK not in learnt.encode_source([character])[0] for character in "ΩЖ语茶")
    assert UNK in learnt.encode_source(["\u2585"])[0]


@pytest.mark.parametrize("text", ["ab cde " * 20_000, "语" * 40_000, "x" * 16_384 + " " + "y" * 65_537, "x" * 65_536])
def test_long_texts_are_cut_at_white_space_where_there_is_some(text):
    parts = list(vocabulary_training._sentences(text))
    assert all(0 < len(part.encode()) <= 65_536 and part == part.strip() for part in parts)
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    assert (len(parts) == 1) == (len(text) == 65_536)
    assert "ab" not in text or " ".join(parts) == text.strip()


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


# ---- bytes, symbols, normalisation ----------------------------------------------------------------------------------

RARE = "語 → 😀 naïve ▅"


def test_with_byte_fallback_nothing_is_unknown(corpus, tmp_path):
    settings = config.Vocabulary(size=310, byte_fallback=True, character_coverage=0.98)
    trained = train_vocabulary(corpus[0], settings, 1, tmp_path)
    texts = [RARE, *(target for _, target in corpus[1])]
    encoded = trained.encode_target(texts)
    assert not any(UNK in ids for ids in encoded) and trained.decode_target(encoded) == texts
    assert all(min(ids) > BLANK for ids in encoded)
    assert json.loads((tmp_path / "vocabulary.json").read_text())["byte_fallback"] is True
    # bytes that are no character are shown as such, and end nothing
    pieces = trained.target_pieces
    assert trained.decode_target([[pieces.index("<0xE8>"), pieces.index("<0xAA>"), *encoded[1]]])[0].endswith(texts[1])
    # nor do those that are line ends, or tabs between columns
    odd = [pieces.index(f"<0x{byte}>") for byte in ("0A", "09", "0D", "0A")]
    assert trained.decode_target([[*encoded[1], *odd, *encoded[1]]])[0].split() == f"{texts[1]} {texts[1]}".split()
    assert not set("\n\t\r") & set(trained.decode_target([[*odd, *encoded[1], *odd]])[0])


def test_a_vocabulary_that_cannot_hold_the_bytes_says_so(corpus, tmp_path):
    remedy = r"set vocabulary.size to (\d+) or more.*or turn vocabulary.byte_fallback off"
    with pytest.raises(RetortError, match=remedy) as error:
        train_vocabulary(corpus[0], config.Vocabulary(size=263, byte_fallback=True), 1, tmp_path / "v")
    least = int(re.search(remedy, str(error.value))[1])
    trained = train_vocabulary(corpus[0], config.Vocabulary(size=least, byte_fallback=True), 1, tmp_path / "v")
    assert trained.source_size == least


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"size": 262, "byte_fallback": True}, "262 pieces, and 262 are special ones, symbols or bytes"),
        ({"size": 10, "symbols": ["<a>", "<b>", "<c>", "<d>"]}, "10 pieces, and 10 are special"),
        ({"symbols": ["<0x41>"], "byte_fallback": True}, "'<0x41>' is the piece of a byte"),
        ({"symbols": ["a\u2581b"]}, "holds U.2581, which is how pieces write a space"),
    ],
)
def test_vocabularies_that_cannot_be_trained_are_refused_when_they_are_read(keys, said):
    with pytest.raises(ValidationError, match=said):
        config.Vocabulary(**keys)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("joint", [True, False])
def test_symbols_are_never_split_and_come_back(corpus, tmp_path, kind, joint):
    symbols = ["<num>", "⟨URL⟩", "a,b", '"quoted"']
    settings = config.Vocabulary(size=44 if joint else 42, type=kind, joint=joint, symbols=symbols)
    trained = train_vocabulary(corpus[0], settings, 1, tmp_path)
    text = 'das <num> Haus <num><num> ⟨URL⟩ a,b "quoted"'
    for encode, pieces in (
        (trained.encode_source, trained.source_pieces),
        (trained.encode_target, trained.target_pieces),
    ):
        (ids,) = encode([text])
        assert [pieces[i] for i in ids if pieces[i] in symbols] == ["<num>"] * 3 + symbols[1:]
    assert trained.decode_target(trained.encode_target([text])) == [text]
    assert json.loads((tmp_path / "vocabulary.json").read_text())["symbols"] == symbols


@pytest.mark.parametrize("symbols", [["a b"], ["<mask>"], ["x", "x"], [""], ["a\n"], ["\u200b"], ["</s>"]])
def test_symbols_that_cannot_be_pieces_are_refused(symbols):
    with pytest.raises(ValueError, match="symbols"):
        config.Vocabulary(symbols=symbols)


def test_normalisation_is_a_choice_and_recorded(corpus, tmp_path):
    found = {}
    for name in ("identity", "nfkc", "nmt_nfkc"):
        settings = config.Vocabulary(size=56, normalisation=name)
        trained = train_vocabulary(corpus[0], settings, 1, tmp_path / name)
        found[name] = trained.decode_target(trained.encode_target(["\uff28\uff41\uff55\uff53 ½"]))[0]
        assert json.loads((tmp_path / name / "vocabulary.json").read_text())["normalisation"] == name
    assert found["nfkc"] == found["nmt_nfkc"] and found["nfkc"].startswith("Haus 1") and "Haus" not in found["identity"]


def test_the_digest_is_of_both_sides(corpus, vocabulary, tmp_path):
    train_vocabulary(corpus[0], config.Vocabulary(size=48, joint=False, type="bpe"), 1, tmp_path)
    source, target = ((tmp_path / f"{side}.model").read_bytes() for side in ("source", "target"))
    digests = {Vocabulary(*models, "v").digest for models in ((source, target), (source, source), (target, target))}
    assert len(digests) == 3
