"""Lexical shortlists: candidates from the training text, and CTranslate2 that decodes with them."""

import json
import random
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retort import config
from retort.cli import main
from retort.data.parquet import write_table
from retort.data.tables import ENCODED
from retort.data.vocabulary import BLANK, EOS, UNK
from retort.errors import RetortError
from retort.export import shortlist as module
from retort.export.exporting import ShortlistSource, export_system
from retort.export.parity import Lines
from retort.export.shortlist import build, facts_of
from retort.runtime import open_system
from retort.runtime.candidates import Candidates
from tests.unit.fakes_export import saved, text_vocabulary

AUTOREGRESSIVE = config.Autoregressive(name="autoregressive")
COMMON = 10
"""A target piece that is in every line."""


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return text_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def write_text(path, vocabulary, seed=1, lines=300, digest=None):
    """Source piece i is translated by i + 1 (the last by 11), in any order, beside the piece that is always there."""
    rng, size = random.Random(seed), vocabulary.target_size
    sources = [rng.choices(range(11, size), k=rng.randint(1, 6)) for _ in range(lines)]
    targets = [[COMMON, *rng.sample([translation(i, size) for i in source], len(source))] for source in sources]
    table = pa.table({"id": range(lines), "source": sources, "target": targets}, schema=ENCODED.schema)
    write_table(path, ENCODED, table, {"vocabulary": digest or vocabulary.digest})


def translation(piece, size):
    return piece + 1 if piece + 1 < size else 11


@pytest.fixture
def run(tmp_path, vocabulary):
    """A run with training and validation text and one checkpoint."""
    write_text(tmp_path / "encoded" / "train.parquet", vocabulary)
    write_text(tmp_path / "encoded" / "valid.parquet", vocabulary, seed=2, lines=50)
    saved(tmp_path / "systems" / "teacher" / "seed1", vocabulary, AUTOREGRESSIVE)
    return tmp_path


def test_the_translation_of_a_piece_wins_over_the_piece_that_is_everywhere(run, vocabulary, monkeypatch):
    table = run / "encoded" / "train.parquet"
    built = build(table, vocabulary, 1)
    size = vocabulary.target_size
    assert [ids.tolist() for ids in built.by_source[11:]] == [[translation(i, size)] for i in range(11, size)]
    assert built.frequent.tolist() == [UNK, COMMON]
    assert built.of([11, 12, 11]).tolist() == [UNK, COMMON, 12, 13]
    assert all(len(ids) == 0 for ids in built.by_source[: BLANK + 1])
    known = facts_of(built, table, 1)
    assert known["recall"] == 1.0 and 3 < known["candidates_per_sentence"] < 8
    monkeypatch.setattr(module, "CHUNK", 7)
    again = build(table, vocabulary, 1)
    assert all(np.array_equal(a, b) for a, b in zip(built.by_source, again.by_source, strict=True))
    monkeypatch.setattr(module, "LINES", 10)
    assert sum(map(len, build(table, vocabulary, 1).by_source)) < sum(map(len, built.by_source))


def test_recall_counts_what_is_missing_and_is_unknown_without_validation_text(run, vocabulary):
    built = build(run / "encoded" / "train.parquet", vocabulary, 1)
    swapped = pa.table({"id": [1], "source": [[11]], "target": [[12, 20, 21, COMMON]]}, schema=ENCODED.schema)
    write_table(run / "encoded" / "valid.parquet", ENCODED, swapped)
    assert facts_of(built, run / "encoded" / "train.parquet", 1)["recall"] == 0.5
    (run / "encoded" / "valid.parquet").unlink()
    assert facts_of(built, run / "encoded" / "train.parquet", 1)["recall"] is None


def test_ctranslate2_emits_only_candidates_and_never_a_suppressed_piece(run, vocabulary):
    checkpoint = run / "systems" / "teacher" / "seed1"
    text = vocabulary.decode_target([[11, 17, 23], [30], [12, 35, 35, 14, 27]])
    lines = Lines("lines", text, None)
    with_list = export_system(checkpoint, run / "list", lines=lines, shortlist=ShortlistSource(size=2))
    assert with_list["shortlist"]["recall"] == 1.0 and with_list["files"]["vmap.txt"]
    assert with_list == json.loads((run / "list" / "bundle.json").read_text())
    assert "lexical shortlist (IBM model 1" in (run / "list" / "README.md").read_text()
    export_system(checkpoint, run / "plain")
    built = build(run / "encoded" / "train.parquet", vocabulary, 2)
    listed, plain = open_system(run / "list"), open_system(run / "plain")
    differ = filled = 0
    for search in (config.Greedy(kind="greedy"), config.Beam(kind="beam", beam_size=3)):
        one, other = listed.with_search(search.model_dump()), plain.with_search(search.model_dump())
        for line, output, full in zip(text, one.translate(text), other.translate(text), strict=True):
            allowed = built.of(vocabulary.encode_source([line])[0])
            assert set(output.tokens) <= set(allowed.tolist()) - {UNK}
            filled += bool(output.tokens)
            assert one.translate([line])[0] == output
            differ += output.tokens != full.tokens
    assert differ and filled


def without_targets(path, vocabulary, every):
    """The text of ``write_text``, and after each of its lines ``every`` lines without a target."""
    write_text(path, vocabulary)
    table = pq.read_table(path)
    empty = pa.table({"id": [0], "source": [[12]], "target": [[]]}, schema=ENCODED.schema)
    parts = [part for row in range(len(table)) for part in (table.slice(row, 1), *[empty] * every)]
    rows = pa.concat_tables(parts).set_column(0, "id", pa.array(range(len(parts)), ENCODED.schema.field("id").type))
    write_table(path, ENCODED, rows, {"vocabulary": vocabulary.digest})


def test_lines_without_a_target_take_no_place(run, vocabulary, monkeypatch):
    table = run / "encoded" / "train.parquet"
    monkeypatch.setattr(module, "LINES", 100)
    thinned = build(table, vocabulary, 2)
    without_targets(table, vocabulary, every=3)
    again = build(table, vocabulary, 2)
    assert [list(ids) for ids in again.by_source] == [list(ids) for ids in thinned.by_source]


def test_text_without_targets_gives_no_shortlist(run, vocabulary):
    table = run / "encoded" / "train.parquet"
    rows = pa.table({"id": [0, 1], "source": [[11], [12]], "target": [[], []]}, schema=ENCODED.schema)
    write_table(table, ENCODED, rows, {"vocabulary": vocabulary.digest})
    with pytest.raises(RetortError, match="train.parquet: holds no targets; a shortlist needs"):
        build(table, vocabulary, 2)


def write_everything(path, vocabulary):
    """Text in which every source piece is translated by every target piece."""
    rng = random.Random(4)
    everything = [[*range(BLANK + 1, vocabulary.target_size)]] * 40
    sources = [[i] for i in rng.choices(range(11, vocabulary.source_size), k=40)]
    table = pa.table({"id": range(40), "source": sources, "target": everything}, schema=ENCODED.schema)
    write_table(path, ENCODED, table)


def test_a_list_of_everything_changes_nothing(run, vocabulary):
    checkpoint = run / "systems" / "teacher" / "seed1"
    write_everything(run / "all.parquet", vocabulary)
    export_system(checkpoint, run / "list", shortlist=ShortlistSource(run / "all.parquet", 1000))
    export_system(checkpoint, run / "plain")
    texts = vocabulary.decode_target([[11, 17, 23], [30], [12, 35, 35, 14, 27]])
    assert open_system(run / "list").translate(texts) == open_system(run / "plain").translate(texts, batch_size=1)


PARALLEL = {
    "vanilla, lengths, ODD": ("vanilla", {}, {"kind": "argmax", "length_beam": 3, "deduplicate": "odd"}),
    "vanilla, deep supervision": ("vanilla", {"deep_supervision": True}, {"kind": "argmax"}),
    "cmlm": ("cmlm", {}, {"kind": "mask_predict"}),
    "ctc": ("ctc", {}, {"kind": "ctc_collapse"}),
    "dag": ("dag", {}, {"kind": "dag_path"}),
    "dag, viterbi": ("dag", {}, {"kind": "joint_viterbi"}),
    "bang": ("bang", {}, {"kind": "blocks"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARALLEL)
def test_graphs_emit_only_candidates_and_with_a_list_of_everything_what_they_emit_without(run, vocabulary, name):
    objective, options, search = PARALLEL[name]
    checkpoint = run / "systems" / objective / "seed1"
    saved(checkpoint, vocabulary, config.objective_named(objective)(name=objective, **options))
    write_everything(run / "all.parquet", vocabulary)
    sources = [[11, 17, 23], [30], [12, 35, 35, 14, 27], [20, 21, 22, 23, 24, 25]]
    lines = Lines("lines", vocabulary.decode_target(sources), None)
    for label, shortlist in (("plain", None), ("all", ShortlistSource(run / "all.parquet", 1000)),
                             ("few", ShortlistSource(size=2))):  # fmt: skip
        export_system(checkpoint, run / label, search=search, lines=lines, shortlist=shortlist)
    plain, listed, few = (open_system(run / label) for label in ("plain", "all", "few"))
    assert listed.decode(sources) == plain.decode(sources)
    assert [listed.decode([source]) for source in sources] == [plain.decode([source]) for source in sources]
    built = build(run / "encoded" / "train.parquet", vocabulary, 2)
    for source in sources:
        assert set(few.decode([source])[0].tokens) <= set(built.of(source).tolist())
    assert few.decode(sources) != plain.decode(sources)


@pytest.mark.parametrize("objective", ["ctc", "dag"])
def test_in_int8_a_list_of_everything_changes_next_to_nothing(run, vocabulary, objective):
    checkpoint = run / "systems" / objective / "seed1"
    saved(checkpoint, vocabulary, config.objective_named(objective)(name=objective), d_model=64, ffn=128)
    write_everything(run / "all.parquet", vocabulary)
    export_system(checkpoint, run / "plain", precision="int8")
    export_system(checkpoint, run / "all", precision="int8", shortlist=ShortlistSource(run / "all.parquet", 1000))
    rng = random.Random(6)
    sources = [[rng.randrange(11, vocabulary.source_size) for _ in range(rng.randint(1, 9))] for _ in range(20)]
    plain, listed = (open_system(run / label) for label in ("plain", "all"))
    same = [listed.decode([source]) == plain.decode([source]) for source in sources]
    assert sum(same) == len(same)


def test_a_damaged_list_is_an_error_that_names_it(tmp_path):
    rows = [np.array([3, 9]), np.array([], np.int64), np.array([7, 9])]
    candidates = Candidates.of_rows(rows)
    (tmp_path / "list").write_bytes(candidates.to_bytes())
    again = Candidates.read(tmp_path / "list")
    assert again.of([[1], [0]]).tolist() == [3, 7, 9] and again.of([[0]]).tolist() == [3, 9]
    (tmp_path / "list").write_bytes(candidates.to_bytes()[:150])
    with pytest.raises(RetortError, match="list: cannot be read"):
        Candidates.read(tmp_path / "list")


def export_call(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["retort", "export", *map(str, options)])
    main()


def test_the_command_finds_the_text_of_the_run(run, vocabulary, monkeypatch, capsys):
    checkpoint = run / "systems" / "teacher" / "seed1"
    for number, given in enumerate(([], [run], [run / "encoded" / "train.parquet"])):
        options = ("--shortlist", *given, "--shortlist-size", 3)
        export_call(monkeypatch, "--model", checkpoint, "--output", run / str(number), *options)
        assert "3 candidates per piece). It holds 100.0% of the target tokens" in capsys.readouterr().out
    assert len({(run / str(number) / "vmap.txt").read_bytes() for number in range(3)}) == 1
    with pytest.raises(SystemExit):
        export_call(monkeypatch, "--model", checkpoint, "--output", run / "x", "--shortlist-size", 3)
    assert "--shortlist-size is of --shortlist" in capsys.readouterr().err


def test_a_limit_of_bleu_needs_references(tmp_path, vocabulary, monkeypatch, capsys):
    saved(tmp_path / "ctc", vocabulary, config.Ctc(name="ctc"))
    (tmp_path / "lines").write_text("abcd\n")
    with pytest.raises(SystemExit):
        options = ("--check", tmp_path / "lines", "--max-bleu-loss", 0)
        export_call(monkeypatch, "--model", tmp_path / "ctc", "--output", tmp_path / "x", *options)
    assert "--max-bleu-loss is a limit of BLEU, which needs references" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_what_cannot_have_a_shortlist_is_refused(run, vocabulary):
    checkpoint = run / "systems" / "teacher" / "seed1"
    with pytest.raises(RetortError, match=r"elsewhere/encoded/train.parquet: not found; --shortlist needs"):
        export_system(checkpoint, run / "out", shortlist=ShortlistSource(run / "elsewhere"))
    write_text(run / "other.parquet", vocabulary, digest="0" * 64)
    with pytest.raises(RetortError, match="encoded with another vocabulary"):
        export_system(checkpoint, run / "out", shortlist=ShortlistSource(run / "other.parquet"))
    assert not (run / "out").exists()
    assert EOS not in build(run / "encoded" / "train.parquet", vocabulary, 5).of([EOS, 11])
