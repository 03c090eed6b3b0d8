"""BANG: what each stream sees and what reaches it, its modes, and the search in blocks."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from retort import config
from retort.losses import bang
from retort.losses.base import Step
from retort.losses.masked_spans import Masked, diagonals
from retort.losses.next_token import shifted_right
from retort.models.bang import BUCKETS, Slots, blocks, distance_buckets, visibility
from retort.search.base import run_search
from retort.vocabulary import BOS, EOS, MASK, PAD, UNK
from tests.unit.fakes_models import VOCABULARY, bang_model, batch, padded, sentences
from tests.unit.fakes_training import sequences, trainer

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
SHAPES = {"pre-norm": {}, "post-norm, learned, untied": {"norm": "post", "positions": "learned", "tied": "none"}}
CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def lively(**changes):
    """What it says depends on its source and on the place."""
    model = bang_model(**changes)
    model.slot_vector.data.zero_()
    for layer in model.decoder.layers:
        layer.cross_attention.memory.weight.data *= 4
        layer.cross_attention.query.weight.data *= 4
    model.embeddings.output.data[EOS] *= 1.4
    return model


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
    with torch.no_grad():
        expected = torch.log_softmax(model.logits(model(source, inputs)), -1)
        cache = model.start(source)
        for t in range(inputs.shape[1]):
            if t == 3:  # two rows a source, as in a beam
                cache.select(torch.arange(4).repeat_interleave(2))
            if t == 5:  # of which one stays, of two sources
                cache.select(torch.tensor([3, 6]), torch.tensor([1, 3]))
                expected, inputs = expected[[1, 3]], inputs[[1, 3]]
            token = inputs[:, t].repeat_interleave(2) if t in (3, 4) else inputs[:, t]
            found = model.step(token, cache)
            for rows in [found[::2], found[1::2]] if t in (3, 4) else [found]:
                torch.testing.assert_close(rows, expected[:, t], **CLOSE)


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
    bang.compute(model, batch(SOURCES, TARGETS), config.Bang(name="bang", block=2), STEP).total.backward()
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0} == set()


# ---- losses ---------------------------------------------------------------------------------------------------------

STEP = Step(torch.Generator())


def test_a_batch_trains_one_mode_as_often_as_it_should():
    model, pairs = bang_model().train(), batch(SOURCES[:1], TARGETS[:1])
    options = config.Bang(name="bang", nar_ratio=0.3, label_smoothing=0.0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        totals = [bang.compute(model, pairs, options, Step(generator)).total.item() for _ in range(200)]
        left, parallel = (
            -(bang.log_likelihood(model, pairs, config.Bang(name="bang", nar_ratio=r)) / pairs.target_tokens).item()
            for r in (0, 1)
        )
    drawn = [abs(total - parallel) < 1e-5 for total in totals]
    assert all(was or abs(total - left) < 1e-5 for was, total in zip(drawn, totals, strict=True))
    assert abs(left - parallel) > 1e-3 and abs(sum(drawn) / 200 - 0.3) < 5 * (0.21 / 200) ** 0.5


def test_validation_weighs_the_modes():
    model, pairs = bang_model(), batch(SOURCES, TARGETS)
    left, parallel, both = (
        bang.compute(model, pairs, config.Bang(name="bang", nar_ratio=r), STEP) for r in (0, 1, 0.25)
    )
    torch.testing.assert_close(both.total, 0.75 * left.total + 0.25 * parallel.total)
    torch.testing.assert_close(both.parts["nll"], both.total.detach())
    assert abs(left.total - parallel.total) > 1e-3


@pytest.mark.parametrize(("changes", "size"), [({"nar_ratio": 0}, 1), ({"block": 3}, 3), ({}, 9)])
def test_a_log_likelihood_is_that_of_the_mode(changes, size):
    """Block by block, each given the tokens before it."""
    model, pairs = bang_model(), batch(SOURCES, TARGETS)
    total, inputs = torch.zeros(4), shifted_right(pairs.target_bt)
    with torch.no_grad():
        for start in range(0, 9, size):
            states = model.advance(inputs[:, : start + 1], model.start(pairs.source_bs), min(size, 9 - start))
            target = pairs.target_bt[:, start : start + size]
            log_probs = torch.log_softmax(model.logits(states), -1).gather(2, target[:, :, None])[:, :, 0]
            total += (log_probs * (target != PAD)).sum(1)
    options = config.Bang(name="bang", **changes)
    torch.testing.assert_close(bang.log_likelihood(model, pairs, options), total)
    loss = bang.compute(model, pairs, options, STEP)
    torch.testing.assert_close(loss.total, -total.sum() / pairs.target_tokens)


def test_one_training_teaches_both_modes(tmp_path):
    train, valid = sequences(4000, 1), sequences(200, 2)
    at_once, greedy = config.Blocks(kind="blocks", collapse=False), config.Greedy(kind="greedy")
    settings = {"max_updates": 200, "warmup": 40, "learning_rate": 0.01, "schedule": "cosine", "validate_every": 200}
    learner = trainer(tmp_path, "bang", train, valid, at_once, batch_tokens=512, **settings)
    assert learner.run(tmp_path / "events").scores["BLEU"] > 98
    for search in (greedy, config.Blocks(kind="blocks", block=2, collapse=False)):
        learner.validator.search = search
        assert learner.validator(learner.model)["BLEU"] > 98


def test_a_teacher_labels_the_slots_of_the_parallel_mode():
    """The left-to-right mode of a model of the same kind."""
    model, teacher = bang_model().train(), bang_model(seed=5)
    kinds, weights = torch.tensor([True, False, True, True]), torch.tensor([1.0, 1.0, 0.25, 0.5])
    pairs = replace(batch(SOURCES, TARGETS), distilled_b=kinds, weight_b=weights)
    options, step = config.Bang(name="bang", block=3, teacher_weight=0.7), replace(STEP, teacher=teacher)
    found, without = (bang.compute(model, pairs, options, s) for s in (step, STEP))
    inputs, real = shifted_right(pairs.target_bt), pairs.target_bt != PAD
    theirs = torch.softmax(teacher.logits(teacher(pairs.source_bs, inputs)), -1).detach()
    states = model.decode_blocks(inputs, 3, *model.encode(pairs.source_bs))
    cross = -(theirs * torch.log_softmax(model.logits(states), -1)).sum(-1)
    expected = (cross * real * (kinds * weights)[:, None]).sum() / (real * weights[:, None]).sum()
    torch.testing.assert_close(found.total, without.total + 0.7 * expected)
    torch.testing.assert_close(found.parts["taught"], expected.detach())
    left = options.model_copy(update={"nar_ratio": 0.0})
    untaught = bang.compute(model, pairs, left, step)
    assert untaught.parts["taught"] == 0 and torch.equal(untaught.total, bang.compute(model, pairs, left, STEP).total)
    assert "taught" not in bang.compute(model.eval(), pairs, options, step).parts


@pytest.mark.parametrize(("changes", "size"), [({"nar_ratio": 0}, 1), ({"block": 3}, 3), ({}, 7)])
def test_agreement_is_the_share_of_slots_that_say_the_target(changes, size):
    """Every other token is the most probable one, given those before it that the mode sees."""
    model, source, tokens = lively(), padded(SOURCES[:1]), []
    model.embeddings.output.data[:6] *= 0.01
    for t in range(6):
        inputs = shifted_right(torch.tensor([tokens + [7] * (7 - t)]))
        best = model.logits(model.decode_blocks(inputs, size, *model.encode(source)))[0, t].argmax().item()
        assert best >= 6
        tokens.append(best if t % 2 else 6 + (best - 5) % 8)
    pairs = batch([SOURCES[0], SOURCES[1]], [tokens, tokens * 2])
    assert bang.agreement(model, pairs, config.Bang(name="bang", **changes))[0].item() == pytest.approx(3 / 7)


# ---- search ---------------------------------------------------------------------------------------------------------


class FakeBang:
    """The best token of each slot is given; remembers what it was fed."""

    def __init__(self, *rows, max_length=64):
        self.rows, self.shape, self.fed, self.counts = rows, type("Shape", (), {"max_length": max_length}), [], []

    def start(self, source_bs):
        self.length, self.open = 0, list(range(len(source_bs)))
        return self

    def select(self, rows, memory_rows):
        self.open = [self.open[row] for row in rows.tolist()]

    def advance(self, token_rk, cache, count):
        self.fed.append(token_rk.tolist())
        self.counts.append(count)
        self.length += token_rk.shape[1]
        logits = torch.zeros(len(token_rk), count, 12)
        for i, row in enumerate(self.open):
            for p in range(count):
                t = self.length - 1 + p
                logits[i, p, self.rows[row][t] if t < len(self.rows[row]) else 11] = 3.0
        # likelier, but nothing that a slot may hold
        logits[:, :, [PAD, BOS, MASK]] = 4.0
        return logits

    def logits(self, hidden):
        return hidden


def found(model, options, lengths=(4,)):
    return [best[0] for best in run_search(model, padded([[7] * n for n in lengths]), options)]


OUTPUTS = {
    "cut at eos": ([6, 7, 8, EOS, 9, 9], [6, 7, 8], False),
    "repeats": ([6, 6, 7, 7, 7, 6, EOS], [6, 7, 6], False),
    "eos before any text": ([EOS, EOS, 6, 7, EOS], [6, 7], False),
    "unknown words": ([UNK, 6, EOS], [UNK, 6], False),
    "no eos": ([6, 7] * 20, [6, 7] * 7, True),
    "eos just in time": ([6, 7] * 7 + [EOS], [6, 7] * 7, False),
    "nothing": ([EOS] * 40, [], False),
}


@pytest.mark.parametrize("block", [None, 1, 3, 40])
@pytest.mark.parametrize("name", OUTPUTS)
def test_slots_become_outputs(name, block):
    row, tokens, truncated = OUTPUTS[name]
    (best,) = found(FakeBang(row), config.Blocks(kind="blocks", block=block))
    assert (best.tokens, best.truncated) == (tokens, truncated)
    end = next((t for t, token in enumerate(row[:15]) if token == EOS and any(x != EOS for x in row[:t])), 14)
    assert best.score == pytest.approx((end + 1) * (3 - math.log(3 * math.exp(4) + math.exp(3) + 8)), rel=1e-5)
    assert best.passes == (1 if block is None else end // block + 1)


def test_blocks_go_on_from_what_was_said():
    model = FakeBang([6, 6, 7, 8, EOS], [9, EOS], [EOS, 6, 7, 7, 9, 9, 10, 6, EOS])
    ends = found(model, config.Blocks(kind="blocks", block=3), (4, 2, 5))
    assert [h.tokens for h in ends] == [[6, 7, 8], [9], [6, 7, 9, 10, 6]] and [h.passes for h in ends] == [2, 1, 3]
    assert model.fed == [[[BOS]] * 3, [[6, 6, 7], [EOS, 6, 7]], [[7, 9, 9]]]
    kept = found(FakeBang([6, 6, 7, 8, EOS]), config.Blocks(kind="blocks", block=3, collapse=False))
    assert kept[0].tokens == [6, 6, 7, 8]


def test_the_number_of_slots_is_that_of_the_source_or_fixed():
    endless = [6, 7] * 40
    for options, lengths, expected in (
        ({}, (4, 9), [14, 19]),
        ({"max_ratio": 2.0}, (4, 9), [18, 28]),
        ({"max_tokens": 16}, (4, 9), [14, 16]),
        ({"max_tokens": 3, "block": 2}, (4, 9), [3, 3]),
    ):
        model = FakeBang(endless, endless)
        ends = found(model, config.Blocks(kind="blocks", **options), lengths)
        assert [len(h.tokens) for h in ends] == expected and sum(model.counts) == max(expected) + 1
        assert all(h.truncated for h in ends)
    (best,) = found(FakeBang(endless, max_length=8), config.Blocks(kind="blocks"))
    assert len(best.tokens) == 7


@pytest.mark.parametrize(
    "search",
    [config.Blocks(kind="blocks", block=size, collapse=c) for size, c in ((None, True), (3, False), (1, False))]
    + [config.Greedy(kind="greedy"), config.Beam(kind="beam", beam_size=3)],
    ids=["all at once", "blocks of 3", "blocks of 1", "greedy", "beam"],
)
def test_a_batch_decodes_as_its_sources_do_alone(search):
    model, sources = lively(), sentences([3, 12, 1, 7, 9, 2, 5, 11], seed=3)
    together = run_search(model, padded(sources), search)
    assert len({tuple(best[0].tokens) for best in together}) > 4
    for source, best in zip(sources, together, strict=True):
        (alone,) = run_search(model, padded([source]), search)
        assert [h.tokens for h in alone] == [h.tokens for h in best]
        assert [h.score for h in alone] == pytest.approx([h.score for h in best], rel=1e-4)
        assert [(h.truncated, h.passes) for h in alone] == [(h.truncated, h.passes) for h in best]


def test_blocks_of_one_are_greedy():
    model, source = lively(), padded(sentences([3, 12, 1, 7, 9, 2, 5, 11], seed=3))
    single = config.Blocks(kind="blocks", block=1, collapse=False, max_ratio=2.0)
    ours, theirs = (run_search(model, source, s) for s in (single, config.Greedy(kind="greedy")))
    pairs = [(a[0], b[0]) for a, b in zip(ours, theirs, strict=True) if b[0].tokens]
    assert len(pairs) > 4 and len({b.passes for _, b in pairs}) > 2
    for a, b in pairs:
        assert (a.tokens, a.truncated, a.passes) == (b.tokens, b.truncated, b.passes)
        assert a.score == pytest.approx(b.score, rel=1e-5)
