"""The search in blocks: from the best token of each slot to outputs."""

import math

import pytest
import torch

from retort import config
from retort.data.vocabulary import BOS, EOS, MASK, PAD
from retort.search.base import run_search
from tests.unit.fakes_models import assert_decoded_as_alone, lively_bang_model, padded, sentences


class FakeBang:
    """The best token of each slot is given; remembers what it was fed."""

    def __init__(self, *rows, max_length=64):
        self.rows, self.config, self.fed, self.counts = rows, type("Shape", (), {"max_length": max_length}), [], []

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


SAID = 3 - math.log(3 * math.exp(4) + math.exp(3) + 8)
"""Log-probability of a slot's token."""
OUTPUTS = {
    "cut at eos": ([6, 7, 8, EOS, 9, 9], [6, 7, 8], False),
    "repeats": ([6, 6, 7, 7, 7, 6, EOS], [6, 7, 6], False),
    "eos before any text": ([EOS, EOS, 6, 7, EOS], [6, 7], False),
    "no eos": ([6, 7] * 20, [6, 7] * 7, True),
    "eos just in time": ([6, 7] * 7 + [EOS], [6, 7] * 7, False),
    "nothing": ([EOS] * 40, [], False),
}


@pytest.mark.parametrize("bonus", [0.0, 2.9, 3.1])
def test_a_bonus_per_token_moves_the_end(bonus):
    # eos is 3 nats above every other token of the third slot
    (best,) = found(FakeBang([6, 7, EOS, 8, EOS]), config.Blocks(kind="blocks", token_bonus=bonus))
    assert best.truncated == (bonus > 3) and (len(best.tokens) > 2) == (bonus > 3)
    assert best.log_probs[:2] == pytest.approx([SAID] * 2)
    if bonus < 3:
        assert best.score == pytest.approx(3 * SAID - bonus)


@pytest.mark.parametrize("block", [None, 1, 3, 40])
@pytest.mark.parametrize("name", OUTPUTS)
def test_slots_become_outputs(name, block):
    row, tokens, truncated = OUTPUTS[name]
    (best,) = found(FakeBang(row), config.Blocks(kind="blocks", block=block))
    assert (best.tokens, best.truncated) == (tokens, truncated)
    end = next((t for t, token in enumerate(row[:15]) if token == EOS and any(x != EOS for x in row[:t])), 14)
    assert best.score == pytest.approx((end + 1) * SAID, rel=1e-5)
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
    model, sources = lively_bang_model(), sentences([3, 12, 1, 7, 9, 2, 5, 11], seed=3)
    together = assert_decoded_as_alone(model, sources, search)
    assert len({tuple(best[0].tokens) for best in together}) > 4


def test_blocks_of_one_are_greedy():
    model, source = lively_bang_model(), padded(sentences([3, 12, 1, 7, 9, 2, 5, 11], seed=3))
    single = config.Blocks(kind="blocks", block=1, collapse=False, max_ratio=2.0)
    ours, theirs = (run_search(model, source, s) for s in (single, config.Greedy(kind="greedy")))
    pairs = [(a[0], b[0]) for a, b in zip(ours, theirs, strict=True) if b[0].tokens]
    assert len(pairs) > 4 and len({b.passes for _, b in pairs}) > 2
    for a, b in pairs:
        assert (a.tokens, a.truncated, a.passes) == (b.tokens, b.truncated, b.passes)
        assert a.score == pytest.approx(b.score, rel=1e-5)
