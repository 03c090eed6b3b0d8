"""The teacher's labels in a table: the loss with them, how they are stored and found again, and whose they are."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from retort.config import Greedy, Imitation, Mixture
from retort.config.load import load_config
from retort.data.batches import EncodedCorpus, Ragged
from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.tables import ENCODED, LABELS
from retort.data.teacher_labels import StoredLabels, TopK
from retort.distillation.label_shards import check_shards
from retort.distillation.labelling import label
from retort.errors import RetortError
from retort.losses.top_k_cross_entropy import top_k_cross_entropy, top_k_distributions
from retort.models.kernels import CHUNK
from retort.objectives import imitation
from retort.objectives.base import Step
from tests.unit.fakes_models import VOCABULARY, autoregressive, sentences
from tests.unit.fakes_runs import TEACHER, TRAIN_PAIRS, call, changed, make_tables
from tests.unit.fakes_training import OBJECTIVES, interrupt, sequences, trainer
from tests.unit.training.test_imitation_training import Oracle
from workflow_scripts import gather_labels, label_shard, train_system

DATA = Mixture(schedule="constant", share=1)
IDS = np.array([7, 3, 12, 5])
CORPUS = EncodedCorpus(
    IDS, Ragged.from_lists(sentences([3, 9, 6, 5])), Ragged.from_lists(sentences([8, 4, 5, 2], seed=1))
)


def options(labels="stored", top_k=VOCABULARY):
    return Imitation(name="imitation", labels=labels, top_k=top_k, beta=DATA)


def naive(logits, tokens, probabilities, rest):
    log_probs = logits.double().log_softmax(-1)
    others = torch.ones_like(log_probs, dtype=torch.bool).scatter(1, tokens, False)
    tail = log_probs.masked_fill(~others, -math.inf).logsumexp(-1)
    return -(probabilities * log_probs.gather(1, tokens)).sum() - (rest * tail).sum()


@pytest.mark.parametrize("count", [1, CHUNK + 3])
@pytest.mark.parametrize("scale", [1, 8])
def test_the_loss_is_that_of_k_tokens_and_one_event_for_the_others(count, scale):
    torch.manual_seed(1)
    states, weight = torch.randn(count, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    theirs = top_k_distributions(scale * torch.randn(count, 4), torch.randn(11, 4), 3)
    loss = top_k_cross_entropy(states, weight, theirs)
    expected = naive(states @ weight.t(), theirs.tokens_nk, theirs.probabilities_nk, theirs.rest_n)
    torch.testing.assert_close(loss, expected.float())
    found = torch.autograd.grad(3 * loss, (states, weight))
    for ours, theirs in zip(found, torch.autograd.grad(3 * expected, (states, weight)), strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-4)


def test_the_tokens_kept_are_the_most_probable():
    torch.manual_seed(1)
    states, weight = torch.randn(CHUNK + 3, 4), torch.randn(11, 4)
    found, probabilities = top_k_distributions(states, weight, 3), torch.softmax(states @ weight.t(), -1)
    expected = probabilities.topk(3)
    assert torch.equal(found.tokens_nk, expected.indices)
    torch.testing.assert_close(found.probabilities_nk, expected.values)
    torch.testing.assert_close(found.rest_n, 1 - expected.values.sum(1))
    everything = top_k_distributions(states, weight, 12)
    assert everything.tokens_nk.shape == (CHUNK + 3, 11) and not everything.rest_n.any()


def test_the_loss_is_finite_however_sure_either_is():
    states, weight = torch.tensor([[200.0], [-200.0]], requires_grad=True), torch.tensor([[1.0], [0.0], [-1.0]])
    sure = TopK(torch.tensor([[0], [0]]), torch.tensor([[0.5], [1.0]]), torch.tensor([0.5, 0.0]))
    loss = top_k_cross_entropy(states, weight, sure)
    assert loss.isfinite() and torch.autograd.grad(loss, states)[0].isfinite().all()


def test_the_loss_is_least_at_the_teacher_s_own_probabilities():
    torch.manual_seed(1)
    states, weight = torch.randn(5, 6, requires_grad=True), torch.randn(11, 6)
    (gradient,) = torch.autograd.grad(
        top_k_cross_entropy(states, weight, top_k_distributions(states, weight, 4)), states
    )
    torch.testing.assert_close(gradient, torch.zeros(5, 6), atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def teacher():
    return autoregressive(8, tied="none")


def stored(teacher, path, top_k=VOCABULARY, batch_tokens=32, **facts):
    write_table(path, LABELS, label(teacher, CORPUS, top_k, batch_tokens), {"top_k": top_k, **facts})
    return StoredLabels.read(path, top_k)


def trained_with(step, chosen, rows):
    model = autoregressive(10, tied="none").train()
    loss = imitation.compute(model, CORPUS.batch(np.array(rows)), chosen, step)
    return loss.total, torch.autograd.grad(loss.total, list(model.parameters()))


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 0], [3]])
@pytest.mark.parametrize(("top_k", "beside"), [(VOCABULARY, None), (VOCABULARY, VOCABULARY), (3, 3)])
def test_with_stored_labels_loss_and_gradients_are_those_of_a_teacher_beside(teacher, tmp_path, rows, top_k, beside):
    labels = stored(teacher, tmp_path / "labels.parquet", top_k)
    ours = trained_with(Step(torch.Generator(), labels=labels), options(top_k=top_k), rows)
    theirs = trained_with(Step(torch.Generator(), teacher=teacher), options("full", beside), rows)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-3, atol=0)
    for one, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(one, other, rtol=5e-3, atol=2e-4)


def test_few_labels_are_close_to_all_and_never_above(teacher, tmp_path):
    full = trained_with(Step(torch.Generator(), teacher=teacher), options("full", None), [0, 1, 2, 3])
    gaps, errors = [], []
    for top_k in (1, 4, 10):
        labels = stored(teacher, tmp_path / f"{top_k}.parquet", top_k)
        loss, gradients = trained_with(Step(torch.Generator(), labels=labels), options(top_k=top_k), [0, 1, 2, 3])
        gaps.append(float((full[0] - loss).detach()))
        errors.append(sum((a - b).square().sum() for a, b in zip(gradients, full[1], strict=True)).sqrt().item())
    assert gaps[0] > gaps[1] > gaps[2] > 0 and errors[0] > 2 * errors[1] > 4 * errors[2]


def test_what_is_stored_and_what_it_covers(teacher):
    table = label(teacher, CORPUS, 3, 32)
    rows = dict(zip(table["id"].to_pylist(), table.to_pylist(), strict=True))
    assert list(rows) == IDS.tolist()
    for i, id_ in enumerate(IDS.tolist()):
        alone = CORPUS.batch(np.array([i]))
        count = int(CORPUS.target.lengths[i]) + 1
        with torch.no_grad():
            inputs = torch.cat([torch.tensor([[1]]), alone.target_bt[:, :-1]], 1)
            probabilities = teacher.logits(teacher(alone.source_bs, inputs)[0, :count]).softmax(-1)
        best = probabilities.topk(3)
        row = rows[id_]
        assert row["positions"] == count and row["tokens"] == best.indices.flatten().tolist()
        kept = torch.cat([best.values, 1 - best.values.sum(1, keepdim=True)], 1)
        found = torch.tensor(np.array(row["probabilities"], np.float32)).view(count, 4)
        torch.testing.assert_close(found, kept, rtol=1e-3, atol=1e-6)
        assert row["mass"] == pytest.approx(float(best.values.sum()), rel=1e-5)
        for name, x in (("entropy", probabilities), ("kept_entropy", kept)):
            assert row[name] == pytest.approx(float(-(x * x.log()).sum()), rel=1e-5)


def test_a_vocabulary_or_a_teacher_that_is_too_small_is_refused(teacher):
    with pytest.raises(RetortError, match="15 tokens per position cannot be stored for a vocabulary of 14"):
        label(teacher, CORPUS, VOCABULARY + 1, 32)
    with pytest.raises(RetortError, match=r"2 pair\(s\) are longer than the teacher's 8 tokens, first id 7"):
        label(autoregressive(max_length=8), CORPUS, 3, 32)


def test_labels_of_other_pairs_lengths_or_files_are_refused(teacher, tmp_path):
    path = tmp_path / "labels.parquet"
    labels = stored(teacher, path, 3, train="a" * 64)
    lengths = CORPUS.target.lengths
    labels.check(path, IDS, lengths, {"train": "a" * 64})
    with pytest.raises(RetortError, match=r"lacks 2 ids of the training text, \[4, 99\]; labels are made for one"):
        labels.check(path, np.array([7, 3, 99, 5, 4]), np.array([8, 4, 5, 2, 1]), {})
    with pytest.raises(RetortError, match="first id 12 with 6 positions for 4 target tokens and eos"):
        labels.check(path, IDS, np.array([8, 4, 4, 2]), {})
    with pytest.raises(RetortError, match="made with another train .aaaaaaaaaaaa, expected bbbbbbbbbbbb"):
        labels.check(path, IDS, lengths, {"train": "b" * 64})
    with pytest.raises(RetortError, match="holds 3 tokens per position, and top_k is 5"):
        StoredLabels.read(path, 5)
    with pytest.raises(RetortError, match="reads stored labels, and there are none"):
        trained_with(Step(torch.Generator()), options(top_k=3), [0])


def test_only_the_data_s_prefixes_have_stored_labels():
    with pytest.raises(ValueError, match="data's prefixes alone"):
        Imitation(name="imitation", labels="stored", top_k=8)
    with pytest.raises(ValueError, match="need top_k"):
        Imitation(name="imitation", labels="stored", beta=DATA)
    assert options().needs_labels and not options().needs_teacher


def test_labels_are_not_stored_for_mixed_text():
    stored = {"name": "imitation", "labels": "stored", "top_k": 8, "beta": DATA.model_dump()}
    config = {"name": "n", "corpus": {"kind": "generated"}, "teacher": {"objective": {"name": "autoregressive"}}}
    assert load_config({**config, "students": {"a": {"objective": stored, "data": "interpolated"}}})
    with pytest.raises(RetortError, match="students.a.data: no labels are stored for mixed text; use raw or dist"):
        load_config({**config, "students": {"a": {"objective": stored, "data": "mixed"}}})


def learner(state, monkeypatch, **settings):
    """A trainer with the labels of a teacher that says the source from its end."""
    monkeypatch.setitem(OBJECTIVES, "imitation", options(top_k=2))
    valid, train = sequences(100, 2, reverse=True), sequences(2000, 1, reverse=True)
    defaults = {"batch_tokens": 512, "warmup": 5, "validate_every": 100, "learning_rate": 0.01, "schedule": "cosine"}
    made = trainer(state, "imitation", train, valid, Greedy(kind="greedy"), **{**defaults, **settings})
    oracle = Oracle(len(made.model.embeddings.output), 256)
    oracle.device = torch.device("cpu")
    path = state / "labels.parquet"
    write_table(path, LABELS, label(oracle, train, 2, 4096), {"top_k": 2})
    made.labels = StoredLabels.read(path, 2)
    return made


@pytest.mark.slow
def test_a_resumed_training_with_stored_labels_is_bit_equal(tmp_path, monkeypatch):
    settings = {"max_updates": 9, "checkpoint_minutes": 1e-9, "dropout": 0.2, "validate_every": 4}
    whole = learner(tmp_path / "whole", monkeypatch, **settings)
    expected = whole.run(tmp_path / "events")
    first = learner(tmp_path / "parts", monkeypatch, **settings)
    interrupt(first, tmp_path / "events", 6)
    second = learner(tmp_path / "parts", monkeypatch, **settings)
    assert second.run(tmp_path / "events").scores == expected.scores
    assert torch.equal(second.optimiser.master, whole.optimiser.master)


# ---- scripts --------------------------------------------------------------------------------------------------------

FEW = changed(TEACHER, "training", max_updates=6, validate_every=3, warmup=2)
STUDENT = {**FEW, "objective": {"name": "imitation", "labels": "stored", "top_k": 4, "beta": DATA.model_dump()}}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def checkpoint(tables):
    return tables.train(FEW, tables.root / "teacher")


def shard(tables, checkpoint, output, number=0, count=1):
    call(
        *(label_shard, "--distillation", "{}", "--teacher", checkpoint, "--vocabulary", tables.vocabulary),
        *("--train", tables.encoded / "train.parquet", "--top-k", 4),
        *("--shard", number, "--shards", count, "--output", output),
    )
    return output


@pytest.fixture(scope="module")
def labels(tables, checkpoint):
    shards = [shard(tables, checkpoint, tables.root / f"{i}.parquet", i, 2) for i in range(2)]
    output = tables.root / "labels.parquet"
    call(gather_labels, "--shards", *shards, "--train", tables.encoded / "train.parquet", "--output", output)
    return output


@pytest.mark.slow
def test_the_number_of_shards_changes_no_label(tables, checkpoint, labels, tmp_path):
    assert read_table(labels, LABELS).num_rows == TRAIN_PAIRS
    assert read_table(shard(tables, checkpoint, tmp_path / "one"), LABELS).equals(read_table(labels, LABELS))
    facts = read_provenance(labels)
    tokens = sum(len(row["target"]) + 1 for row in read_table(tables.encoded / "train.parquet", ENCODED).to_pylist())
    assert facts["positions"] == tokens and 0 < facts["mass"] < 1 and 0 < facts["loss_difference"] < facts["entropy"]


def test_shards_of_another_table_are_not_gathered(tables, labels, tmp_path, capsys):
    half, other = tables.root / "0.parquet", tmp_path / "other.parquet"
    for shards in ([half], [half, half]):
        with pytest.raises(SystemExit):
            call(gather_labels, "--shards", *shards, "--train", tables.encoded / "train.parquet", "--output", other)
        assert "rows that are not those of the 60 pairs" in capsys.readouterr().err
    rows = read_table(half, LABELS)
    write_table(other, LABELS, rows, read_provenance(half) | {"teacher": "x"})
    with pytest.raises(SystemExit):
        call(gather_labels, "--shards", half, other, "--train", other, "--output", tmp_path / "out")
    assert "make the labels again" in capsys.readouterr().err


def test_sources_without_a_target_have_no_labels(tables, checkpoint, labels, tmp_path):
    pairs = read_table(tables.encoded / "train.parquet", ENCODED)
    alone = pa.Table.from_pylist([{"id": 999 + i, "source": [7], "target": []} for i in range(5)], ENCODED.schema)
    write_table(tmp_path / "more.parquet", ENCODED, pa.concat_tables([alone, pairs, alone]))
    vocabulary = ("--vocabulary", tables.vocabulary, "--distillation", "{}", "--teacher", checkpoint, "--top-k", 4)
    train = ("--train", tmp_path / "more.parquet")
    call(label_shard, *vocabulary, *train, "--shard", 0, "--shards", 1, "--output", tmp_path / "0.parquet")
    call(gather_labels, "--shards", tmp_path / "0.parquet", *train, "--output", tmp_path / "labels.parquet")
    assert read_table(tmp_path / "labels.parquet", LABELS)["id"].equals(pairs["id"])


def test_a_text_without_labels_is_an_error(tables, checkpoint, tmp_path, capsys):
    pairs = read_table(tables.encoded / "train.parquet", ENCODED).to_pylist()
    long = [{**pair, "source": pair["source"] * 300} for pair in pairs]
    write_table(tmp_path / "long.parquet", ENCODED, pa.Table.from_pylist(long, ENCODED.schema))
    vocabulary = ("--vocabulary", tables.vocabulary, "--distillation", "{}", "--teacher", checkpoint, "--top-k", 4)
    train = ("--train", tmp_path / "long.parquet")
    call(label_shard, *vocabulary, *train, "--shard", 0, "--shards", 1, "--output", tmp_path / "0.parquet")
    with pytest.raises(SystemExit):
        call(gather_labels, "--shards", tmp_path / "0.parquet", *train, "--output", tmp_path / "labels.parquet")
    assert "no pair is labelled, as none has a target and sides shorter than 256 tokens" in capsys.readouterr().err


def test_shards_are_checked_without_the_whole_text_in_memory(tmp_path):
    count, length = 200_000, 20
    offsets = pa.array(np.arange(count + 1) * length, pa.int32())
    tokens = pa.ListArray.from_arrays(offsets, pa.array(np.full(count * length, 7), pa.int32()))
    text = {"id": np.arange(count), "source": tokens, "target": tokens}
    write_table(tmp_path / "train.parquet", ENCODED, pa.table(text, schema=ENCODED.schema))
    lists = {name: pa.array([[]] * count, LABELS.schema.field(name).type) for name in ("tokens", "probabilities")}
    sums = {name: np.ones(count, np.float32) for name in ("mass", "entropy", "kept_entropy")}
    rows = {"id": np.arange(count), "positions": np.full(count, length + 1), **lists, **sums}
    facts = {"max_length": length + 1}
    write_table(tmp_path / "labels.parquet", LABELS, pa.table(rows, schema=LABELS.schema), facts)
    pool = pa.proxy_memory_pool(before := pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        found = check_shards([tmp_path / "labels.parquet"], tmp_path / "train.parquet")
    finally:
        pa.set_memory_pool(before)
    assert found["positions"] == count * (length + 1)
    assert pool.max_memory() < 2.2 * 4 * 2 * count * length, "read whole and filtered it is three times the text"


def test_a_system_is_trained_with_its_labels_and_no_others(tables, checkpoint, labels, tmp_path, capsys):
    output = tables.train(STUDENT, tmp_path / "student", labels=labels, teacher=checkpoint)
    assert "labels" in read_provenance(output / "training.parquet")["inputs"]
    other = tables.train(FEW, tmp_path / "other", seed=2)
    for wrong, said in (
        ({"labels": labels, "teacher": other}, "made with another teacher"),
        ({"labels": labels, "train": tables.encoded / "valid.parquet"}, "12 pair(s) with labels for another length"),
        ({}, "no --labels was given"),
    ):
        with pytest.raises(SystemExit):
            call(train_system, *tables.training(STUDENT, tmp_path / "out", tmp_path / "state", **wrong))
        assert said in capsys.readouterr().err


def test_a_table_without_rows_is_refused(tmp_path):
    write_table(tmp_path / "empty", LABELS, pa.Table.from_pylist([], schema=LABELS.schema), {"top_k": 3})
    with pytest.raises(RetortError, match="holds no labels"):
        StoredLabels.read(tmp_path / "empty", 3)
