"""decode_shard decodes with CTranslate2 where it gives the same text, and otherwise with torch."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from retort.config import Distillation
from retort.data.parquet import read_provenance, read_table
from retort.data.tables import TRANSLATIONS
from retort.distillation import decoding
from retort.export import exact_search
from retort.models.checkpoint import load_checkpoint
from tests.unit.fakes_export import wait_for_every_hypothesis
from tests.unit.fakes_runs import GREEDY, TEACHER, TRAIN_PAIRS, call, make_tables
from workflow_scripts import decode_shard

BEAM = {"kind": "beam", "beam_size": 4}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    wait_for_every_hypothesis(monkeypatch)


@pytest.fixture(scope="module")
def teacher(tables):
    return tables.train(TEACHER, tables.root / "teacher")


def decoded(tables, teacher, output, engine="auto", search=BEAM, best=1, shard=0, shards=1, **options):
    settings = {"search": search, "batch_tokens": 512, "engine": engine, **options}
    call(
        decode_shard,
        *("--distillation", json.dumps(settings), "--checkpoint", teacher, "--shard", shard, "--shards", shards),
        *("--system", "teacher", "--seed", 1, "--search-name", "distillation", "--best", best),
        *("--corpus", tables.corpus / "train.parquet", "--state", output.parent / "state", "--output", output),
    )
    return read_table(output, TRANSLATIONS).to_pylist()


def differing_engine(monkeypatch):
    """CTranslate2 with another output for one source."""
    original = exact_search.ExactSearch.decode

    def decode(self, source):
        lists = original(self, source)
        lists[3] = [replace(lists[3][0], tokens=[7, 8])]
        return lists

    monkeypatch.setattr(exact_search.ExactSearch, "decode", decode)


def without_scores(rows):
    return [{key: value for key, value in row.items() if key != "score"} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "search", "best"), [("auto", BEAM, 1), ("ctranslate2", BEAM, 4), ("auto", GREEDY, 1)]
)
def test_ctranslate2_gives_the_table_of_torch(tables, teacher, tmp_path, engine, search, best):
    rows, expected = (decoded(tables, teacher, tmp_path / name, name, search, best) for name in (engine, "torch"))
    assert without_scores(rows) == without_scores(expected) and len(rows) == best * TRAIN_PAIRS
    assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in expected], abs=1e-4)
    facts = read_provenance(tmp_path / engine)["decoder"]
    assert facts["engine"] == "ctranslate2"
    assert (facts["checked_sources"], facts["different_sources"]) == (TRAIN_PAIRS, 0)
    assert read_provenance(tmp_path / "torch")["decoder"] == {"engine": "torch", "reason": None}


def test_lists_of_hypotheses_are_decoded_by_torch_unless_asked(tables, teacher, tmp_path):
    decoded(tables, teacher, tmp_path / "out", best=4)
    facts = read_provenance(tmp_path / "out")["decoder"]
    assert facts == {"engine": "torch", "reason": "lists of several hypotheses are not always equal"}


@pytest.mark.slow
def test_an_engine_that_differs_is_not_used(tables, teacher, tmp_path, monkeypatch, capsys):
    differing_engine(monkeypatch)
    expected = decoded(tables, teacher, tmp_path / "torch", "torch", shard=1, shards=2)
    rows = decoded(tables, teacher, tmp_path / "auto", shard=1, shards=2)
    errors = capsys.readouterr().err
    assert rows == expected, "both shards compare the corpus's first sources"
    assert f"1 of the first {TRAIN_PAIRS} training sources" in errors and "decoded by torch" in errors
    assert read_provenance(tmp_path / "auto")["decoder"]["different_sources"] == 1
    chosen = decoded(tables, teacher, tmp_path / "ctranslate2", "ctranslate2")
    assert (
        chosen[3]["tokens"] == [7, 8]
        and read_provenance(tmp_path / "ctranslate2")["decoder"]["engine"] == "ctranslate2"
    )


@pytest.mark.slow
def test_what_ctranslate2_cannot_do_is_left_to_torch_or_refused(tables, teacher, tmp_path, capsys):
    decoded(tables, teacher, tmp_path / "auto", precision="bfloat16")
    facts = read_provenance(tmp_path / "auto")["decoder"]
    assert facts["engine"] == "torch" and "bfloat16" in facts["reason"]
    with pytest.raises(SystemExit):
        decoded(tables, teacher, tmp_path / "one", "ctranslate2", {"kind": "beam", "beam_size": 1})
    assert "beams of two and more" in capsys.readouterr().err
    with pytest.raises(ValueError, match="set engine to auto or precision to float32"):
        Distillation(engine="ctranslate2", precision="bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize("differs", [False, True])
def test_an_interrupted_shard_keeps_its_engine(tables, teacher, tmp_path, monkeypatch, differs):
    monkeypatch.setattr(decode_shard, "CHUNK_ROWS", 20)
    expected = decoded(tables, teacher, tmp_path / "expected" / "out")
    original, parts, compared = decoding.TeacherDecoder.translate, [], []
    original_compared = decoding.TeacherDecoder._compared

    def translate(self, texts):
        if len(texts) == 20:
            if len(parts) == 2:
                raise KeyboardInterrupt
            parts.append(self.exact is not None)
        return original(self, texts)

    with monkeypatch.context() as patch:
        if differs:
            differing_engine(patch)
        patch.setattr(decoding.TeacherDecoder, "translate", translate)
        with pytest.raises(SystemExit) as end:
            decoded(tables, teacher, tmp_path / "out")
    assert end.value.code == 130 and parts == [not differs] * 2 and not (tmp_path / "out").exists()
    parts.clear()
    monkeypatch.setattr(
        decoding.TeacherDecoder, "_compared", lambda *args: compared.append(1) or original_compared(*args)
    )
    monkeypatch.setattr(decoding.TeacherDecoder, "translate", translate)
    rows = decoded(tables, teacher, tmp_path / "out")
    assert parts == [not differs] and not compared
    assert without_scores(rows) == without_scores(expected)
    assert read_provenance(tmp_path / "out")["decoder"]["engine"] == ("torch" if differs else "ctranslate2")


@pytest.mark.slow
def test_another_engine_takes_no_part(tables, teacher, tmp_path):
    for engine in ("auto", "torch"):
        decoded(tables, teacher, tmp_path / "out", engine)
        shutil.move(tmp_path / "out", tmp_path / engine)
    assert len(list((tmp_path / "state").iterdir())) == 2


def test_a_shard_that_goes_on_without_its_engine_says_so(tables, teacher, tmp_path, monkeypatch):
    checkpoint = load_checkpoint(teacher, torch.device("cpu"))
    model, vocabulary = checkpoint.model, checkpoint.vocabulary
    decision = tmp_path / "engine.json"
    decision.write_text('{"engine": "ctranslate2", "different_sources": 0}')
    monkeypatch.setattr(exact_search, "unsupported", lambda *given: "no reason")
    decoder = decoding.TeacherDecoder(model, vocabulary, Distillation(), checked=[], decision=decision)
    assert decoder.exact is None and json.loads(decision.read_text()) == {"engine": "torch", "reason": "no reason"}
