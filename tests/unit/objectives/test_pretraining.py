"""Pre-training on corrupted text: corruption, loss, text, configuration, and what starts from it."""

import tracemalloc
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from torch.nn import functional

from retort import config
from retort.config import Cleaning
from retort.config.load import load_config
from retort.corpus import monolingual
from retort.corpus.cleaning import HeldOut
from retort.corpus.monolingual import blocks, clean
from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.references import corpus_table
from retort.data.tables import CORPUS, ENCODED
from retort.data.vocabulary import EOS, MASK, PAD, UNK
from retort.errors import RetortError
from retort.losses.bart_corruption import corrupt, infilled, rotated
from retort.losses.poisson_spans import covered, random_spans
from retort.losses.teacher_forcing import shifted_right
from retort.models.build import build_model
from retort.objectives import bart_janus
from retort.objectives.base import Step
from retort.training.warm_start import warm_start
from tests.unit.fakes_models import janus_model, padded, text
from tests.unit.fakes_runs import call, changed_at
from tests.unit.fakes_training import assert_pretrained_starts, sequences, small_vocabulary, trainer
from workflow_scripts import prepare_monolingual

OPTIONS = config.BartJanus(name="bart_janus")


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def tokens_of(row):
    return [token for token in row.tolist() if token != PAD]


def numbered(lengths, step=1):
    """Sentences whose tokens are all different."""
    return padded([list(range(6, 6 + n)) for n in lengths], step)


# ---- corruption -----------------------------------------------------------------------------------------------------


def infilled_by_hand(tokens, spans):
    """``spans`` are (start, length, whether it is to be predicted)."""
    removed, inside, inserts = set(), set(), set()
    for start, length, predict in spans:
        if predict and length:
            removed |= set(range(start, start + length))
            inside |= set(range(start + 1, start + length))
        if length == 0:
            inserts.add(start)
    begins = {start for start, length, predict in spans if predict and length} - inside
    body = {p: MASK if p in begins else t for p, t in enumerate(tokens) if p in begins or p not in removed}
    inserts -= inside
    if len(body) + len(inserts) > len(tokens):
        inserts = set()
    return [t for p in range(len(tokens)) for t in [MASK] * (p in inserts) + [body.get(p)] if t is not None]


@pytest.mark.parametrize(("ratio", "mean"), [(0.3, 3.0), (0.7, 0.7), (1.0, 2.0)])
def test_spans_become_one_mask_or_stay(ratio, mean):
    lengths = [0, 1, 2, 5, 9, 14, 30] * 30
    tokens = numbered(lengths, 4)
    spans = random_spans(tokens.masked_fill(tokens == EOS, PAD), ratio, mean, generator())
    predict = torch.rand(tokens.shape, generator=generator(2)) < 0.5
    found = infilled(tokens, spans, predict)
    inserted = 0
    for row, n in enumerate(lengths):
        chosen = spans.chosen_bt[row].nonzero()[:, 0].tolist()
        given = [(spans.start_bt[row, k].item(), spans.length_bt[row, k].item(), bool(predict[row, k])) for k in chosen]
        assert tokens_of(found[row]) == infilled_by_hand([*range(6, 6 + n), EOS], given)
        inserted += any(length == 0 for _, length, _ in given)
    assert inserted


def test_corruption_keeps_eos_and_never_grows():
    tokens = numbered([0, 1, 3, 12, 40] * 100)
    source, masked = corrupt(tokens, OPTIONS, generator())
    assert not (masked & (tokens < 6)).any()
    copied = predicted = 0
    for row in range(len(tokens)):
        before, after = tokens_of(tokens[row]), tokens_of(source[row])
        assert after[-1] == EOS and after.count(EOS) == 1 and len(after) <= len(before)
        assert UNK not in after
        kept = [token for token in after if token != MASK]
        assert kept == [*sorted(kept[:-1]), EOS]
        hidden = set(before) - set(after)
        assert hidden <= set(tokens[row][masked[row]].tolist())
        predicted += len(hidden)
        copied += int(masked[row].sum()) - len(hidden)
    # half of the spans are of each kind
    assert 0.4 < predicted / (predicted + copied) < 0.6
    assert 0.2 < masked.sum() / (tokens >= 6).sum() < 0.3
    assert source.shape[1] % 4 == 0


def test_inputs_are_rotated_only_on_demand():
    tokens = numbered([1, 2, 5, 8])
    for draw in (0.0, 0.5, 0.99):
        found = rotated(tokens, torch.tensor([True, True, True, False]), torch.full((4,), draw))
        for row, n in enumerate((1, 2, 5, 8)):
            text, k = list(range(6, 6 + n)), 1 + int(draw * (n - 1))
            expected = text if row == 3 else text[k % n :] + text[: k % n]
            assert tokens_of(found[row]) == [*expected, EOS]
    many = numbered([10] * 200)
    for rotate, least, most in ((0.0, 0, 0), (0.5, 60, 140)):
        options = OPTIONS.model_copy(update={"mask_ratio": 0.0, "rotate": rotate})
        source, masked = corrupt(many, options, generator())
        assert not masked.any()
        assert least <= sum(tokens_of(row) != tokens_of(other) for row, other in zip(source, many, strict=True)) <= most


def test_masks_cover_both_kinds_of_spans():
    tokens = numbered([30] * 50)
    spans = random_spans(tokens.masked_fill(tokens == EOS, PAD), 0.3, 3.0, generator())
    _, masked = corrupt(tokens, OPTIONS, generator())
    assert torch.equal(masked, covered(spans))


# ---- loss -----------------------------------------------------------------------------------------------------------


def test_the_loss_counts_half_of_everything_per_token():
    model, pairs = janus_model().train(), text([12, 7, 20])
    loss = bart_janus.compute(model, pairs, OPTIONS, Step(generator()))
    source, masked = corrupt(pairs.target_bt, OPTIONS, generator())
    target, real = pairs.target_bt, pairs.target_bt != PAD
    ar = model.logits(model(source, shifted_right(target))).log_softmax(-1)
    nar, aux = (model.logits(x).log_softmax(-1) for x in model.decode_masked(target, masked, *model.encode(source)))
    nll, parallel, auxiliary = (
        functional.nll_loss(x, tokens, reduction="sum")
        for x, tokens in ((ar[real], target[real]), (nar, target[masked]), (aux, target[masked]))
    )

    def divergence(p, q):
        return ((p.exp() - q.exp()) * (p - q)).sum() / 2

    divergences = divergence(nar, aux) + divergence(ar[masked], aux)
    expected = (nll + parallel + auxiliary + divergences) / 2 / pairs.target_tokens
    torch.testing.assert_close(loss.total, expected)
    of_masked = {"auxiliary": auxiliary, "parallel": parallel, "divergence": divergences}
    means = {"nll": nll / pairs.target_tokens} | {name: nats / masked.sum() for name, nats in of_masked.items()}
    torch.testing.assert_close(loss.parts, {name: mean.detach() for name, mean in means.items()})
    assert loss.counts == dict.fromkeys(of_masked, masked.sum())
    wanted = torch.autograd.grad(expected, model.embeddings.target)[0]
    torch.testing.assert_close(torch.autograd.grad(loss.total, model.embeddings.target)[0], wanted)


def test_a_batch_without_masks_has_a_loss():
    model, pairs = janus_model(), text([0, 1, 1])
    loss = bart_janus.compute(model, pairs, OPTIONS.model_copy(update={"mask_ratio": 0.0}), Step(generator()))
    assert loss.total.isfinite() and loss.parts["parallel"] == loss.parts["divergence"] == 0
    loss.total.backward()


@pytest.mark.slow
def test_pre_training_learns(tmp_path):
    train, valid = sequences(2000, 1), sequences(100, 2)
    settings = {"max_updates": 100, "warmup": 30, "learning_rate": 0.01, "validate_every": 100, "select_by": "loss"}
    search = config.Greedy(kind="greedy")
    learner = trainer(tmp_path, "bart_janus", train, valid, search, batch_tokens=512, decode_sentences=0, **settings)
    before = learner.validator(learner.model)
    after = learner.run(tmp_path / "events").scores
    assert all(after[name] < 0.75 * before[name] for name in ("loss", "nll", "parallel", "auxiliary"))


# ---- text -----------------------------------------------------------------------------------------------------------


def test_blocks_are_whole_lines_but_for_longer_ones():
    counts = Counter()
    found = list(blocks([[1, 2], [3], [4, 5], [6] * 5, [7] * 6, [8], [9] * 13, [1, 2]], 5, counts))
    assert found == [[1, 2, 3, 4, 5], [6] * 5, [7] * 5, [7, 8], [9] * 5, [9] * 5, [9, 9, 9, 1, 2]]
    assert counts == {"cut": 2}
    assert list(blocks([], 5, counts)) == []


def test_lines_are_cleaned_and_counted(tmp_path):
    held_out, counts = HeldOut(), Counter()
    held_out.add(corpus_table([0], ["a test"], [["ein Test"]]))
    lines = ["one", "", "a\u00a0test", "two", "one ", "ein  Test", "x " * 9, "three"]
    assert list(clean(lines, Cleaning(max_words=5), held_out, counts)) == ["one", "two", "three"]
    assert counts == {"read": 8, "kept": 3, "empty": 1, "leak": 2, "duplicate": 1, "too_long": 1}
    assert list(clean(["one", "one"], Cleaning(drop_duplicates=False), held_out, counts)) == ["one", "one"]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vocabulary")
    return small_vocabulary(directory, [f"{'abcdefgh'[i % 8]}{'hgfedcba'[i % 7]} fade bead" for i in range(100)])


def prepared(tmp_path, vocabulary, *options):
    vocabulary.copy_to(tmp_path / "vocabulary")
    (tmp_path / "text").write_text("".join(f"{a}{b} fade {b}{a}\n" for a in "abcdefgh" for b in "abcdefgh"))
    write_table(tmp_path / "valid.parquet", CORPUS, corpus_table([0], ["aa fade aa"], [["nothing"]]))
    arguments = ["--texts", f'[{{"location": "{tmp_path}/text"}}]', "--held-out", tmp_path / "valid.parquet"]
    arguments += ["--vocabulary", tmp_path / "vocabulary", "--block-tokens", 30, "--output", tmp_path / "made"]
    call(prepare_monolingual, *map(str, [*arguments, *options]))


def test_text_becomes_blocks_for_training_and_validation(tmp_path, vocabulary):
    prepared(tmp_path, vocabulary, "--valid-blocks", "3")
    tables = [read_table(tmp_path / "made" / f"{split}.parquet", ENCODED) for split in ("train", "valid")]
    assert tables[1].num_rows == 3 and tables[0].num_rows > 3
    rows = sorted(row for table in tables for row in zip(*map(pa.ChunkedArray.to_pylist, table.columns), strict=True))
    assert [i for i, _, _ in rows] == list(range(len(rows)))
    assert all(source == target and len(source) <= 30 for _, source, target in rows)
    said = " ".join(vocabulary.decode_target([target for _, _, target in rows])).split()
    expected = [w for a in "abcdefgh" for b in "abcdefgh" for w in (a + b, "fade", b + a) if (a, b) != ("a", "a")]
    assert said == expected
    assert read_provenance(tmp_path / "made" / "train.parquet")["lines"] == {"read": 64, "kept": 63, "leak": 1}


@pytest.mark.parametrize(("long", "warned"), [(10, False), (95, True)])
def test_a_cleaning_that_takes_much_of_the_text_is_warned_of(tmp_path, vocabulary, caplog, long, warned):
    lines = [f"{'abcdefgh'[i % 8]} fade " * (50 if i < long else 1) for i in range(100)]
    arguments = {"vocabulary": vocabulary, "block_tokens": 9, "valid_blocks": 1, "provenance": {}}
    rules = Cleaning(max_words=20, drop_duplicates=False)
    counts = monolingual.prepare_monolingual(lines, [], rules, output=tmp_path, **arguments)
    assert counts == {"read": 100, "too_long": long, "kept": 100 - long}
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert said == [f"pretraining: cleaning takes {long} % of the lines, most as too_long; see docs/corpus.md"] * warned


def test_the_training_corpus_can_be_the_text(tmp_path, vocabulary):
    pairs = corpus_table([5, 9, 7, 8], ["abba", "fade", "bead", "cab"], [["ha ha"], ["fade"], ["ebb"], []])
    write_table(tmp_path / "corpus.parquet", CORPUS, pairs)
    options = ["--texts", "[]", "--corpus", tmp_path / "corpus.parquet", "--block-tokens", "9", "--valid-blocks", "0"]
    prepared(tmp_path, vocabulary, *options)
    found = read_table(tmp_path / "made" / "train.parquet", ENCODED).column("target").to_pylist()
    assert " ".join(vocabulary.decode_target(found)) == "abba fade bead cab ha ha ebb"
    lines = read_provenance(tmp_path / "made" / "train.parquet")["lines"]
    assert lines == {"read": 7, "kept": 6, "duplicate": 1}


def test_the_text_is_not_held_in_memory(tmp_path, vocabulary, monkeypatch):
    """Beside a part of it there are a few bytes per block."""
    monkeypatch.setattr(monolingual, "ROW_GROUP_ROWS", 100)
    arguments = {"vocabulary": vocabulary, "block_tokens": 100, "valid_blocks": 3, "provenance": {}}
    lines = ("abcdefgh " * 50 for _ in range(1000))
    tracemalloc.start()
    monolingual.prepare_monolingual(lines, [], Cleaning(drop_duplicates=False), output=tmp_path, **arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tokens = pc.sum(pc.list_value_length(read_table(tmp_path / "train.parquet", ENCODED)["source"])).as_py()
    assert tokens > 300_000 and peak < 4 * tokens


def test_too_little_text_is_an_error(tmp_path, vocabulary, capsys):
    with pytest.raises(SystemExit):
        prepared(tmp_path, vocabulary, "--valid-blocks", "500")
    assert "500 of validation and at least one of training" in capsys.readouterr().err
    assert not list((tmp_path / "made").glob("*"))


# ---- configuration, and starting from it ----------------------------------------------------------------------------

BASE = {
    "name": "run",
    "corpus": {"kind": "generated"},
    "model": {"d_model": 16, "heads": 2},
    "training": {"max_updates": 2000, "decode_sentences": 50},
    "teacher": {"objective": {"name": "autoregressive"}},
    "students": {"j": {"objective": {"name": "janus"}, "training": {"warm_start": "pretrained"}}},
    "pretraining": {"texts": [{"location": "text"}], "system": {"training": {"max_updates": 3000}}},
}


def test_a_pre_trained_system_is_none_of_the_systems():
    loaded = load_config(BASE)
    assert list(loaded.systems) == ["teacher", "j"] and list(loaded.trained) == ["pretrained", "teacher", "j"]
    system = loaded.trained["pretrained"]
    assert (system.objective.name, system.data, system.model.d_model) == ("bart_janus", "monolingual", 16)
    training = system.training
    assert (training.max_updates, training.decode_sentences, training.select_by) == (3000, 0, "loss")
    assert load_config(changed_at(BASE, "seeds", [4, 5])).seeds_of("pretrained") == [4]
    assert load_config(loaded.model_dump(mode="json")) == loaded
    assert load_config(changed_at(BASE, "teacher.training", {"warm_start": "pretrained"}))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("pretraining", None, "students.j.training.warm_start: there is no pretraining section"),
        ("students.j.model", {"ffn": 24}, "students.j.model.ffn: warm_start pretrained needs pretraining.system's 512"),
        ("students.j.model", {"tied": "none"}, "students.j.model.tied: warm_start pretrained needs"),
        ("students.j.model", {"decoder_layers": 2}, "needs at least pretraining.system's 4, found 2"),
        ("students.pretrained", {"objective": {"name": "ctc"}}, "students.pretrained: this name is pretraining's"),
        ("students.x", {"objective": {"name": "bart_janus"}}, "students.x.objective.name: bart_janus is for"),
        ("students.x", {"objective": {"name": "ctc"}, "data": "monolingual"}, "students.x.data: monolingual text has"),
        ("pretraining.system.objective", {"name": "janus"}, "pretraining.system.objective.name: pre-training is by"),
        ("pretraining.system.data", "raw", "pretraining.system.data: pre-training is on monolingual text"),
        ("pretraining.system.training", {"warm_start": "pretrained"}, "pre-training starts from nothing"),
        ("pretraining.block_tokens", 256, "pretraining.block_tokens: blocks with eos need model.max_length of 257"),
        ("vocabulary", {"joint": False}, "vocabulary.joint: pretraining has one text for both sides"),
    ],
)
def test_what_does_not_fit_is_named(path, value, message):
    with pytest.raises(RetortError) as caught:
        load_config(changed_at(BASE, path, value))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "objective",
    [
        config.Janus(name="janus"),
        config.Autoregressive(name="autoregressive"),
        config.Vanilla(name="vanilla", length_from="slot"),
        config.Dag(name="dag", upsampling=2),
    ],
    ids=lambda objective: objective.name,
)
def test_any_family_starts_from_it(tmp_path, vocabulary, objective):
    shape = config.Model(d_model=8, heads=2, ffn=8, encoder_layers=1, decoder_layers=2, max_length=16)
    before, pretrained = assert_pretrained_starts(tmp_path, vocabulary, OPTIONS, shape, objective, encoder_layers=2)
    assert {name for name in pretrained if name in before} >= {n for n in pretrained if not n.startswith("length")}
    for update, message in (
        ({"heads": 4}, "model.heads must be 2"),
        ({"decoder_layers": 1}, "layers must be at least 2"),
    ):
        other = build_model(objective, shape.model_copy(update=update), vocabulary)
        with pytest.raises(RetortError, match=message):
            warm_start(other, tmp_path, objective, config.Training(warm_start="pretrained"), vocabulary)


def test_validation_blocks_are_spread_over_the_text(tmp_path, vocabulary):
    arguments = {"vocabulary": vocabulary, "block_tokens": 9, "valid_blocks": 3, "provenance": {}}
    lines = ["abcdefgh " * 2] * 20
    monolingual.prepare_monolingual(lines, [], Cleaning(drop_duplicates=False), output=tmp_path, **arguments)
    ids = [read_table(tmp_path / f"{split}.parquet", ENCODED)["id"].to_pylist() for split in ("train", "valid")]
    last = len(ids[0]) + 2
    assert last > 9 and ids[1] == [0, last // 2, last]
