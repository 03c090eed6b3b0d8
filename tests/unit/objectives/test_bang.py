"""BANG: what each stream sees and what reaches it, and its modes."""

import itertools
import math

import pytest
import torch

from retort import config
from retort.data.vocabulary import BOS
from retort.losses.bang_spans import Masked, diagonals
from retort.losses.teacher_forcing import shifted_right
from retort.models.bang import BUCKETS, Slots, blocks, distance_buckets, visibility
from retort.objectives import bang
from retort.objectives.base import Step
from tests.unit.fakes_models import VOCABULARY, assert_steps_are_teacher_forcing, bang_model, batch, padded, sentences

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
SHAPES = {"pre-norm": {}, "post-norm, learned, untied": {"norm": "post", "positions": "learned", "tied": "none"}}
CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def sees(row, column):
    """The statement of the method. A row or column is ("main", j), which holds the token before slot j, or (s, t),
    stream s at slot t."""
    (kind, t), (other, j) = row, column
    if kind == "main":
        return other == "main" and j <= t
    if other == "main":
        return j <= t - kind
    return any((other, j) == (kind - m, t - m) for m in range(kind + 1))


def every(slots):
    """The names of all rows of the first text, filling None."""
    m = slots.token_place_bm.shape[1]
    index = {place: i for i, place in enumerate(slots.token_place_bm[0].tolist())}
    names = []
    for place, last in zip(slots.place_bp[0].tolist(), slots.last_bp[0].tolist(), strict=True):
        t = index.get(place - 1, place - 1)  # blocks leave out the end of the main stream
        names.append((t - last, t) if last >= 0 else None)
    return [("main", j) for j in range(m)] + names


def spans(*starts, length, t=40):
    """Spans of one text, but for the last, which is one token shorter."""
    place = torch.tensor([[start + i for start in starts for i in range(length)]]).clamp(max=t - 1)
    present = torch.ones_like(place, dtype=torch.bool)
    present[0, -1] = False
    return Masked(place, present)


LAYOUTS = {
    "left to right": lambda: blocks(7, 1, CPU),
    "all at once": lambda: blocks(7, 7, CPU),
    "blocks of 3": lambda: blocks(7, 3, CPU),
    "one span": lambda: diagonals(Masked(torch.arange(5)[None], torch.ones(1, 5, dtype=torch.bool)), 5).slots,
    "three spans": lambda: diagonals(spans(2, 11, 20, length=4), 4).slots,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_streams_see_what_the_method_says(name):
    slots = LAYOUTS[name]()
    names, visible = every(slots), visibility(slots)
    assert visible.shape == (1, len(names), len(names)) and visible.any(2).all()
    for (i, row), (j, column) in itertools.product(enumerate(names), repeat=2):
        if row and column:
            assert visible[0, i, j] == sees(row, column), (row, column)
        elif row:
            assert not visible[0, i, j]


def test_slots_are_those_of_the_modes():
    def streams(slots):
        return [s for s, _ in every(slots)[slots.token_place_bm.shape[1] :]]

    assert streams(blocks(7, 1, CPU)) == [0] * 7
    assert streams(blocks(7, 7, CPU)) == list(range(7)) == streams(blocks(7, 99, CPU))
    assert streams(blocks(7, 3, CPU)) == [0, 1, 2, 0, 1, 2, 0]
    # no more of the main stream than is seen, and each token at the position at which it was predicted
    assert blocks(7, 3, CPU).token_place_bm.tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    assert blocks(6, 3, CPU).token_place_bm.tolist() == [[0, 1, 2, 3]]
    assert blocks(6, 6, CPU).token_place_bm.tolist() == [[0]]
    assert blocks(6, 3, CPU).place_bp.tolist() == [[1, 2, 3, 4, 5, 6]]


def tokens_of(slots, seed=3):
    """A main stream for a layout: bos, if it begins a text, and any tokens."""
    torch.manual_seed(seed)
    tokens = torch.randint(6, VOCABULARY, slots.token_place_bm.shape)
    return tokens.masked_fill(slots.token_place_bm == 0, BOS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_nothing_else_reaches_a_prediction(name, shape, monkeypatch):
    """Gradients of each state with respect to what all rows start from: through two layers, as visibility is
    transitive, they are those of what a row sees."""
    model, slots = bang_model(**SHAPES[shape]), LAYOUTS[name]()
    names, tokens, begun = every(slots), tokens_of(slots), []
    embed = model._embed
    monkeypatch.setattr(
        model, "_embed", lambda *given: begun.append(embed(*given).detach().requires_grad_()) or begun[-1]
    )
    states = model.predict(tokens, slots, *model.encode(padded(SOURCES[:1])))
    m = tokens.shape[1]
    for i, row in enumerate(names[m:]):
        (gradient,) = torch.autograd.grad(states[0, i].square().sum(), begun[0], retain_graph=True)
        reached = gradient[0].abs().amax(1) > 0
        if row:
            assert reached.tolist() == [bool(column) and sees(row, column) for column in names]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_real_token_reaches_those_streams_that_end_behind_it(name):
    model, slots = bang_model(), LAYOUTS[name]()
    tokens, memory = tokens_of(slots), model.encode(padded(SOURCES[:1]))
    names = every(slots)[tokens.shape[1] :]
    with torch.no_grad():
        before = model.predict(tokens, slots, *memory)
        for j in range(tokens.shape[1]):
            changed = tokens.clone()
            changed[0, j] = 6 + (changed[0, j] - 5) % 8
            moved = ((model.predict(changed, slots, *memory) - before).abs().amax(2) > 1e-6)[0].tolist()
            assert [m for m, who in zip(moved, names, strict=True) if who] == [j <= w[1] - w[0] for w in names if w]


# ---- one computation for all modes ----------------------------------------------------------------------------------


@torch.no_grad()
def chain(model, tokens, places, last, slot_places, memory):
    """States of the slots behind one token of the main stream alone."""
    slots = Slots(places[:, : last + 1], slot_places, torch.full_like(slot_places, last))
    return model.predict(tokens[:, : last + 1], slots, *memory)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_slots_with_one_prefix_are_computed_as_if_alone(name, shape):
    model, slots = bang_model(**SHAPES[shape]), LAYOUTS[name]()
    tokens, memory = tokens_of(slots), model.encode(padded(SOURCES[:1]))
    with torch.no_grad():
        together = model.predict(tokens, slots, *memory)
    for last in set(slots.last_bp[0].tolist()) - {-1}:
        chosen = slots.last_bp[0] == last
        alone = chain(model, tokens, slots.token_place_bm, last, slots.place_bp[:, chosen], memory)
        torch.testing.assert_close(together[:, chosen], alone, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_search_computes_the_diagonals_of_pre_training(shape):
    """One span over a whole text: whatever number of its tokens is known, all the others at once."""
    model, n = bang_model(**SHAPES[shape]), 6
    found = diagonals(Masked(torch.arange(n)[None], torch.ones(1, n, dtype=torch.bool)), n)
    source, target = padded(SOURCES[:1]), torch.tensor([TARGETS[0][:n]])
    with torch.no_grad():
        states = model.predict(shifted_right(target), found.slots, *model.encode(source))
        for known in range(n):
            cache = model.start(source)
            expected = model.advance(shifted_right(target)[:, : known + 1], cache, n - known)
            torch.testing.assert_close(states[:, found.slots.last_bp[0] == known], expected, **CLOSE)
            assert cache.length == known + 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_block_by_block_is_teacher_forcing(shape, size):
    model, source, target = bang_model(**SHAPES[shape]), padded(SOURCES), padded(TARGETS)
    inputs = shifted_right(target)
    with torch.no_grad():
        expected = model.decode_blocks(inputs, size, *model.encode(source))
        cache, fed = model.start(source), 0
        for start in range(0, 9, size):
            stop = min(start + size, 9)
            found = model.advance(inputs[:, fed : start + 1], cache, stop - start)
            torch.testing.assert_close(found, expected[:, start:stop], **CLOSE)
            fed = start + 1
            # of the slots nothing stays
            assert cache.length == fed and [key.shape[2] for key in cache.keys + cache.values] == [fed] * 4


@pytest.mark.parametrize("shape", SHAPES)
def test_step_by_step_is_teacher_forcing(shape):
    model, source, inputs = bang_model(**SHAPES[shape]), padded(SOURCES), shifted_right(padded(TARGETS))
    assert_steps_are_teacher_forcing(model, source, inputs)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_padding_changes_nothing(size):
    model = bang_model(positions="learned")
    source, inputs = padded(SOURCES, 16), shifted_right(padded(TARGETS, 16))
    with torch.no_grad():
        together = model.decode_blocks(inputs, size, *model.encode(source))
        for row, (one, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
            alone = model.decode_blocks(shifted_right(padded([target])), size, *model.encode(padded([one])))
            torch.testing.assert_close(together[row, : len(target) + 1], alone[0], **CLOSE)


def test_the_longest_sequences_have_positions():
    model, tokens = bang_model(positions="learned", max_length=37), sentences([36])
    states = model.decode_blocks(shifted_right(padded(tokens, 4)), 40, *model.encode(padded(tokens, 4)))
    assert states.shape == (1, 40, 16)


def test_distances_have_buckets():
    """n below 16: n; else 16 + floor(16 log(n / 16) / log(8)), at most 31."""
    assert distance_buckets(17).tolist() == list(range(17))
    expected = {17: 16, 19: 17, 20: 17, 31: 21, 32: 21, 64: 26, 100: 30, 127: 31, 128: 31, 500: 31}
    found = distance_buckets(501)
    assert {n: found[n].item() for n in expected} == expected
    for n in range(16, 501):
        assert found[n] == min(31, 16 + math.floor(math.log(n / 16) / math.log(8) * 16 + 1e-9))


def test_a_rows_own_state_weighs_its_distances():
    model = bang_model()
    h = torch.randn(2, 3, 16)
    places, columns = torch.tensor([[4, 7, 8], [1, 2, 30]]), torch.tensor([[0, 7, 9, 20], [0, 1, 2, 3]])
    visible = torch.rand(2, 3, 4) < 0.7
    bias = model._bias(1, h, visible, model._distances(places, columns)).view(2, 2, 3, 4)
    raw = model.relative[1](h).view(2, 3, 2, BUCKETS)
    for b, head, i, j in itertools.product(range(2), range(2), range(3), range(4)):
        distance = max(0, places[b, i].item() - columns[b, j].item())
        expected = raw[b, i, head, distance_buckets(64)[distance]].item() if visible[b, i, j] else -1e9
        assert bias[b, head, i, j].item() == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_parameter_is_trained(shape):
    model = bang_model(**SHAPES[shape]).train()
    bang.compute(
        model, batch(SOURCES, TARGETS), config.Bang(name="bang", block=2), Step(torch.Generator())
    ).total.backward()
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0} == set()
