"""Pre-training of BANG: spans, their corruption, which streams predict what, the loss, and what starts from it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from retort import config
from retort.config.load import load_config
from retort.data.batches import EncodedCorpus, Ragged
from retort.data.vocabulary import EOS, MASK, PAD
from retort.errors import RetortError
from retort.losses.bang_spans import Masked, corrupt, diagonals, random_spans, span_length
from retort.losses.teacher_forcing import shifted_right
from retort.models.bang import Slots
from retort.objectives import bang_pretraining
from retort.objectives.base import Step
from tests.unit.fakes_models import VOCABULARY, bang_model, padded, sentences, text
from tests.unit.fakes_runs import changed_at
from tests.unit.fakes_training import SYMBOLS, assert_pretrained_starts, small_vocabulary, trainer

PAPER = config.BangPretraining(name="bang_pretraining")
SMALL = config.BangPretraining(name="bang_pretraining", span_block=6, mask_ratio=0.5)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def numbered(lengths, step=4):
    """Texts whose tokens are all different."""
    return padded([list(range(6, 6 + n)) for n in lengths], step)


# ---- spans ----------------------------------------------------------------------------------------------------------


def spans_by_row(masked):
    return [place[present].tolist() for place, present in zip(*masked, strict=True)]


def lengths_by_hand(n, size=64, ratio=0.15):
    """Span lengths of a text of n tokens."""
    return [max(1, int(ratio * min(size, n - start))) for start in range(0, n, size)]


def test_each_block_of_64_has_one_span_of_9():
    lengths = [512, 64, 63, 65, 10, 1, 0, 200] * 5
    tokens = numbered(lengths)
    rows = spans_by_row(random_spans(tokens, PAPER, generator()))
    assert lengths_by_hand(512) == [9] * 8 and lengths_by_hand(200) == [9, 9, 9, 1]
    for n, places in zip(lengths, rows, strict=True):
        expected = lengths_by_hand(n)
        assert len(places) == sum(expected)
        for k, length in enumerate(expected):
            span, places = places[:length], places[length:]
            assert span == list(range(span[0], span[0] + length))
            assert 64 * k <= span[0] and span[-1] < min(64 * k + 64, n)


def test_spans_begin_anywhere_in_their_block():
    tokens = numbered([12] * 4000)
    masked = random_spans(tokens, SMALL, generator())
    starts = masked.place_bm[:, [0, 3]]
    assert span_length(SMALL, 6) == 3
    for column, first in enumerate((0, 6)):
        counts = (starts[:, column] - first).bincount(minlength=4).double() / 4000
        assert len(counts) == 4 and (counts - 0.25).abs().max() < 5 * (0.1875 / 4000) ** 0.5


@pytest.mark.parametrize(
    ("ratio", "size", "length"),
    [
        (0.15, 20, 3),
        (0.15, 64, 9),
        (0.3, 10, 3),
        (0.29, 100, 29),
        (0.7, 90, 63),
        (0.58, 50, 29),
        (1.0, 7, 7),
        (0, 9, 1),
    ],
)
def test_spans_have_their_share(ratio, size, length):
    options = config.BangPretraining(name="bang_pretraining", span_block=size, mask_ratio=ratio)
    assert span_length(options, size) == length
    (places,) = spans_by_row(random_spans(numbered([3 * size]), options, generator()))
    assert len(places) == 3 * length


def test_the_encoder_sees_masks_the_tokens_or_others():
    tokens = numbered([40] * 500)
    masked = random_spans(
        tokens, config.BangPretraining(name="bang_pretraining", span_block=10, mask_ratio=0.8), generator()
    )
    source = corrupt(tokens, masked, 1000, generator(2))
    hidden = torch.zeros_like(tokens, dtype=torch.bool).scatter_(1, masked.place_bm, True)
    assert hidden.sum() == 500 * 32 and torch.equal(source[~hidden], tokens[~hidden])
    before, after = tokens[hidden], source[hidden]
    for share, expected in (
        ((after == MASK).double().mean(), 0.8),
        ((after == before).double().mean(), 0.1 + 0.1 / 994),
        ((after > 45).double().mean(), 0.1 * 954 / 994),  # texts hold 6 to 45
    ):
        assert abs(share - expected) < 5 * (expected * (1 - expected) / 16000) ** 0.5
    assert ((after == MASK) | (after >= 6)).all() and after.max() < 1000


def test_eos_and_padding_are_never_corrupted():
    tokens = numbered([1, 2, 7, 30, 0])
    everything = config.BangPretraining(name="bang_pretraining", span_block=4, mask_ratio=1.0)
    masked = random_spans(tokens, everything, generator())
    source = corrupt(tokens, masked, 1000, generator())
    assert [len(places) for places in spans_by_row(masked)] == [1, 2, 7, 30, 0]
    for special in (EOS, PAD):
        assert torch.equal(source == special, tokens == special)


# ---- streams --------------------------------------------------------------------------------------------------------


def test_a_span_of_9_has_9_and_8_and_7_terms_and_so_on():
    masked = random_spans(numbered([512, 512]), PAPER, generator())
    found = diagonals(masked, 9)
    assert masked.place_bm.shape == (2, 72) and found.present_bp.all() and found.index_p.shape == (8 * 45,)
    assert found.stream_p.bincount().tolist() == [8 * (9 - s) for s in range(9)]
    assert found.offset_p.bincount().tolist() == [8 * (o + 1) for o in range(9)]
    triples = set(zip(found.index_p.tolist(), found.offset_p.tolist(), found.stream_p.tolist(), strict=True))
    assert triples == {(9 * k + o, o, s) for k in range(8) for o in range(9) for s in range(o + 1)}


def test_slots_of_spans_are_those_of_their_texts():
    lengths = [20, 7, 1, 13, 0]
    masked = random_spans(numbered(lengths), SMALL, generator())
    found = diagonals(masked, 3)
    for row, n in enumerate(lengths):
        places = spans_by_row(masked)[row]
        expected, index = [], 0
        for length in lengths_by_hand(n, 6, 0.5):
            for offset in range(length):
                # (position of what is predicted, tokens of the main stream that are seen)
                expected += [(places[index] + 1, index - s) for s in range(offset + 1)]
                index += 1
        present = found.present_bp[row]
        slots = zip(
            found.slots.place_bp[row, present].tolist(), found.slots.last_bp[row, present].tolist(), strict=True
        )
        assert sorted(slots) == sorted(expected)
        assert (found.slots.last_bp[row, ~present] == -1).all()
        assert found.slots.token_place_bm[row, : len(places)].tolist() == places


# ---- loss -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_the_mean_over_slots_each_computed_alone(training):
    lengths = [16, 7, 20, 1]
    model, pairs = bang_model().train(training), text(lengths)
    options = SMALL.model_copy(update={"label_smoothing": 0.2})
    loss = bang_pretraining.compute(model, pairs, options, Step(generator()))
    draws = generator()
    masked = random_spans(pairs.target_bt, options, draws)
    source = corrupt(pairs.target_bt, masked, VOCABULARY, draws)
    before, terms = shifted_right(pairs.target_bt), []
    for row, places in enumerate(spans_by_row(masked)):
        memory = model.encode(source[row : row + 1, : int((source[row] != PAD).sum())])
        index = 0
        for length in lengths_by_hand(lengths[row], 6, 0.5):
            for first in range(length):
                # all that is left of a span, given its first tokens and all spans before
                last, rest = index + first, places[index + first : index + length]
                main, slots = torch.tensor([places[: last + 1]]), torch.tensor([rest])
                layout = Slots(main, slots + 1, torch.full_like(slots, last))
                states = model.predict(before[row : row + 1].gather(1, main), layout, *memory)
                target = pairs.target_bt[row, rest]
                logits = model.logits(states[0])
                plain, smooth = (
                    functional.cross_entropy(logits, target, label_smoothing=e, reduction="none") for e in (0.0, 0.2)
                )
                terms += [(s, s + first, *x) for s, x in enumerate(zip(plain.tolist(), smooth.tolist(), strict=True))]
            index += length
    assert len(terms) == 6 * 6 + 3 + 3 * 1  # spans of 3 tokens, of 2, and of 1

    def mean(rows):
        rows = list(rows)
        return sum(rows) / len(rows)

    assert loss.total.item() == pytest.approx(mean(t[3] if training else t[2] for t in terms), rel=1e-5)
    assert loss.parts["nll"].item() == pytest.approx(mean(t[2] for t in terms if t[0] == 0), rel=1e-5)
    assert loss.parts["parallel"].item() == pytest.approx(mean(t[2] for t in terms if t[0] == t[1] > 0), rel=1e-5)
    assert loss.parts["between"].item() == pytest.approx(mean(t[2] for t in terms if 0 < t[0] < t[1]), rel=1e-5)


def test_padding_and_other_texts_do_not_change_a_prediction():
    model, lengths = bang_model(positions="learned"), [20, 7, 1, 13]
    tokens = padded(sentences(lengths, seed=3), 16)
    masked = random_spans(tokens, SMALL, generator())
    found = diagonals(masked, 3)
    before = shifted_right(tokens)
    with torch.no_grad():
        together = model.predict(before.gather(1, masked.place_bm), found.slots, *model.encode(tokens))
        for row, n in enumerate(lengths):
            place = masked.place_bm[row : row + 1, masked.present_bm[row]]
            alone = diagonals(Masked(place, torch.ones_like(place, dtype=torch.bool)), 3)
            memory = model.encode(tokens[row : row + 1, : n + 1])
            states = model.predict(before[row : row + 1].gather(1, place), alone.slots, *memory)
            real = found.present_bp[row]
            torch.testing.assert_close(together[row, real], states[0, alone.present_bp[0]], rtol=1e-4, atol=1e-5)


def test_text_without_spans_has_a_loss():
    loss = bang_pretraining.compute(bang_model(), text([0, 0]), PAPER, Step(generator()))
    assert loss.total == 0
    loss.total.backward()


def test_pre_training_is_a_function_of_its_step():
    model, pairs = bang_model(), text([30, 12])
    totals = [bang_pretraining.compute(model, pairs, SMALL, Step(generator(i))).total for i in (1, 1, 2)]
    assert totals[0] == totals[1] != totals[2]


def counting(texts):
    """Twelve consecutive symbols, from any of them on."""
    tokens = Ragged.from_lists([[6 + (i + k) % SYMBOLS for k in range(12)] for i in range(texts)])
    return EncodedCorpus(np.arange(texts), tokens, tokens)


@pytest.mark.slow
def test_pre_training_learns_in_all_streams(tmp_path):
    train, valid = counting(2000), counting(100)
    settings = {"max_updates": 100, "warmup": 30, "learning_rate": 0.01, "validate_every": 100, "select_by": "loss"}
    search = config.Greedy(kind="greedy")
    learner = trainer(
        tmp_path, "bang_pretraining", train, valid, search, batch_tokens=512, decode_sentences=0, **settings
    )
    before = learner.validator(learner.model)
    after = learner.run(tmp_path / "events").scores
    assert all(after[name] < 0.5 * before[name] for name in ("loss", "nll", "parallel", "between"))


# ---- configuration, and starting from it ----------------------------------------------------------------------------

BASE = {
    "name": "run",
    "corpus": {"kind": "generated"},
    "model": {"d_model": 16, "heads": 2},
    "teacher": {"objective": {"name": "bang", "nar_ratio": 0}, "training": {"warm_start": "pretrained"}},
    "students": {"b": {"objective": {"name": "bang"}, "training": {"warm_start": "pretrained"}}},
    "pretraining": {"system": {"objective": {"name": "bang_pretraining", "span_block": 16}}},
}


def test_teacher_and_students_can_start_from_it():
    loaded = load_config(BASE)
    assert loaded.pretraining.texts == [] and loaded.pretraining.system.data == "monolingual"
    assert loaded.pretraining.system.objective.span_block == 16
    assert loaded.teacher.objective.left_to_right and not loaded.students["b"].objective.left_to_right
    assert load_config(loaded.model_dump(mode="json")) == loaded


@pytest.mark.parametrize(
    ("objective", "searches"),
    [
        ({}, {"parallel": None}),
        ({"nar_ratio": 0}, {"beam5": None, "greedy": None}),
        ({"nar_ratio": 0.5, "block": 4}, {"parallel": 4, "beam5": None, "greedy": None}),
    ],
)
def test_searches_are_those_of_the_modes(objective, searches):
    found = load_config(changed_at(BASE, "students.b.objective", {"name": "bang", **objective})).students["b"].searches
    assert {name: getattr(search, "block", None) for name, search in found.items()} == searches
    assert list(found) == list(searches)


@pytest.mark.parametrize(
    ("path", "value", "messages"),
    [
        ("teacher.objective.nar_ratio", 0.5, ["teacher.objective.nar_ratio: the teacher decodes from left to right"]),
        (
            "teacher.objective",
            {"name": "janus"},
            ["teacher.objective.name: the teacher must be autoregressive, or bang"],
        ),
        (
            "students.b.objective",
            {"name": "bang_pretraining"},
            ["bang_pretraining is for pretraining.system; use bang"],
        ),
        (
            "pretraining.system.objective",
            {"name": "bang"},
            ["pre-training is by bart_janus or bang_pretraining, not bang"],
        ),
        ("students.b.objective.block", 0, ["students.b.objective.block: must be greater"]),
        ("teacher.objective.teacher_weight", 0.5, ["teacher.objective.teacher_weight: the teacher has no teacher"]),
        ("em", {"iterations": 1}, ["teacher.objective.name: the EM loop needs autoregressive, not bang"]),
        ("em", {"student": {"objective": {"name": "bang", "nar_ratio": 0}}}, ["student must be a parallel system"]),
    ],
)
def test_what_does_not_fit_is_named(path, value, messages):
    with pytest.raises(RetortError) as caught:
        load_config(changed_at(BASE, path, value))
    for message in messages:
        assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vocabulary")
    return small_vocabulary(directory, [f"{'abcdefgh'[i % 8]}{'hgfedcba'[i % 7]} fade bead" for i in range(100)])


@pytest.mark.parametrize(
    ("start", "objective"),
    [
        (PAPER, config.Bang(name="bang")),
        (PAPER, config.Vanilla(name="vanilla")),
        (PAPER, config.Ctc(name="ctc", upsampling=2)),
        (config.BartJanus(name="bart_janus"), config.Bang(name="bang")),
    ],
    ids=lambda objective: objective.name,
)
def test_models_start_from_what_they_share_with_it(tmp_path, vocabulary, start, objective):
    changes = {"encoder_layers": 1, "decoder_layers": 2, "max_length": 16, "positions": "learned"}
    shape = config.Model(d_model=8, heads=2, ffn=8, **changes)
    before, pretrained = assert_pretrained_starts(tmp_path, vocabulary, start, shape, objective, decoder_layers=3)
    own = {name for name in pretrained if name.startswith(("slot_vector", "relative."))}
    assert len(own) == (5 if start is PAPER else 0)
    assert own <= set(before) or objective.name != "bang"
