"""Of the teacher's candidates the one nearest to the reference."""

import pandas as pd
import pyarrow as pa
import pytest

from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.tables import CORPUS, ENCODED, TRANSLATIONS
from retort.data.vocabulary import Vocabulary
from retort.distillation.interpolation import nearest_to_references
from tests.unit.fakes_runs import DECODED, call, make_tables
from workflow_scripts import gather_interpolated


def candidates(rows):
    return pd.DataFrame([{"id": id_, "rank": rank, "text": text} for id_, rank, text in rows])


def test_the_nearest_candidate_is_taken_and_the_first_of_equals():
    frame = candidates(
        [
            (7, 0, "a man walks"),
            (7, 1, "a man runs home now"),
            (3, 0, "the dog"),
            (3, 1, "the dog"),
            (5, 0, "nothing alike"),
            (5, 1, "nor this"),
        ]
    )
    references = pd.Series({3: "the dog", 5: "x y z", 7: "a man runs home"})
    chosen = nearest_to_references(frame, references, "13a")
    assert list(zip(chosen["id"], chosen["rank"], strict=True)) == [(7, 1), (3, 0), (5, 0)]
    assert chosen["bleu"].tolist()[1] == pytest.approx(100) and chosen["bleu"].tolist()[2] == 0


def test_texts_without_spaces_are_compared_by_the_tokenizer():
    frame = candidates([(0, 0, "彼は犬を飼う。"), (0, 1, "私は昨日新しい本を買いました。")])
    references = pd.Series({0: "私は昨日新しい本を買いましたよ。"})
    assert nearest_to_references(frame, references, "13a")["rank"].tolist() == [0]
    assert nearest_to_references(frame, references, "char")["rank"].tolist() == [1]


def test_a_table_to_train_on(tmp_path):
    tables = make_tables(tmp_path)
    train, vocabulary = tables.corpus / "train.parquet", Vocabulary.load(tables.vocabulary)
    pairs = read_table(train, CORPUS).to_pylist()
    rows = []
    for pair in pairs:
        # the second of the beam is the reference
        for rank, text in enumerate(["wrong", pair["target"], "also wrong"]):
            tokens = vocabulary.encode_target([text])[0]
            facts = {**DECODED, "test_set": "train", "score": -rank, "truncated": False, "empty": False, "passes": 1}
            rows.append({"id": pair["id"], "rank": rank, "text": text, "tokens": tokens, **facts})
    half = len(pairs) // 2 * 3
    shards = []
    for number, part in enumerate((rows[:half], rows[half:])):
        shards.append(tmp_path / f"{number}.parquet")
        write_table(shards[-1], TRANSLATIONS, pa.Table.from_pylist(part, schema=TRANSLATIONS.schema), {"best": 3})
    encoded = tables.encoded / "train.parquet"
    options = ("--corpus", train, "--train", encoded, "--vocabulary", tables.vocabulary, "--output", tmp_path / "out")
    call(gather_interpolated, "--shards", *shards, *options)
    assert read_table(tmp_path / "out", ENCODED).sort_by("id").equals(read_table(encoded, ENCODED).sort_by("id"))
    facts = read_provenance(tmp_path / "out")
    assert facts["first"] == 0 and facts["sentence_bleu"] == pytest.approx(100) and facts["kept"] == len(pairs)
    assert facts["decoding"] == {"best": 3}
    missing = [row for row in rows if row["id"] != pairs[0]["id"]]
    write_table(shards[0], TRANSLATIONS, pa.Table.from_pylist(missing, schema=TRANSLATIONS.schema))
    with pytest.raises(SystemExit):
        call(gather_interpolated, "--shards", shards[0], *options)
