"""Optimal de-duplicated decoding against an exhaustive search."""

import itertools
import math

import pytest
import torch

from retort.data.vocabulary import BLANK, EOS, PAD
from retort.search.odd import best_without_repeats
from retort.search.tokens import TOKENS_PER_SLOT

PENALTIES = [None, 0.0, 0.3, 1.0, 5.0]


def decoded(log_probs_ntv, lengths, penalty, k=TOKENS_PER_SLOT):
    log_probs_ntk, tokens_ntk = log_probs_ntv.topk(min(k, log_probs_ntv.shape[2]), -1)
    return best_without_repeats(log_probs_ntk, tokens_ntk, torch.tensor(lengths), penalty)


def random_log_probs(t, v, seed, n=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(1.5 * torch.randn(n, t, v, generator=generator), -1)


def repeats(tokens):
    """Blanks and eos may follow each other."""
    return sum(a == b not in (BLANK, EOS) for a, b in itertools.pairwise(tokens))


def value(log_probs, tokens, penalty):
    """What is maximised: fewest repeats first where they are forbidden."""
    total = sum(row[token] for row, token in zip(log_probs, tokens, strict=True))
    return (-repeats(tokens), total) if penalty is None else (0, total - penalty * repeats(tokens))


def best_value(log_probs, penalty):
    """Over all sequences of tokens that are not impossible."""
    possible = [[token for token, log_prob in enumerate(row) if log_prob > -math.inf] for row in log_probs]
    return max(value(log_probs, tokens, penalty) for tokens in itertools.product(*possible))


def check(log_probs_tv, penalty):
    tokens_nt, log_probs_nt = decoded(log_probs_tv[None], [len(log_probs_tv)], penalty)
    tokens = tokens_nt[0].tolist()
    log_probs = log_probs_tv.tolist()
    found, expected = value(log_probs, tokens, penalty), best_value(log_probs, penalty)
    assert found[0] == expected[0] and found[1] == pytest.approx(expected[1], abs=1e-5)
    assert torch.equal(log_probs_nt[0], log_probs_tv[range(len(tokens)), tokens])
    return tokens


def test_an_example_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.6, 0.25, 0.1, 0.05], [0.55, 0.05, 0.3, 0.1]])
    assert decoded(p.log()[None], [3], 0.0)[0].tolist() == [[0, 0, 0]]
    tokens_nt, log_probs_nt = decoded(p.log()[None], [3], None)
    assert tokens_nt.tolist() == [[0, 1, 0]]
    assert float(log_probs_nt.sum()) == pytest.approx(-2.677279, abs=1e-6)
    # a repeat costs less than the 0.875 nats that token 1 has below token 0
    assert decoded(p.log()[None], [3], 0.4)[0].tolist() == [[0, 0, 0]]
    assert decoded(p.log()[None], [3], 0.5)[0].tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("t", "v"), [(1, 4), (2, 3), (4, 2), (5, 1), (3, 7), (5, 4), (6, 3), (4, 5)])
def test_nothing_is_better(t, v, penalty):
    for seed in range(12):
        check(random_log_probs(t, v, seed)[0], penalty)


def test_a_higher_price_leaves_fewer_repeats():
    cases = [random_log_probs(5, 4, seed)[0] for seed in range(30)]
    found = [[check(case, penalty) for case in cases] for penalty in PENALTIES]
    counts = [sum(map(repeats, outputs)) for outputs in found]
    assert counts[0] == 0 < counts[3] < counts[2] < counts[1]
    assert found[1] == [case.argmax(-1).tolist() for case in cases]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_repeats_that_cannot_be_avoided_are_as_few_as_possible(penalty):
    """Impossible tokens are not chosen, even where that takes a repeat."""
    for seed in range(40):
        log_probs_tv = random_log_probs(5, 3, seed)[0]
        impossible = torch.rand(5, 3, generator=torch.Generator().manual_seed(seed)) < 0.6
        impossible[range(5), log_probs_tv.argmax(-1)] = False
        check(log_probs_tv.masked_fill(impossible, -math.inf), penalty)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_ties_are_broken_in_favour_of_some_best_output(penalty):
    for t, v in ((4, 4), (5, 3), (4, 2)):
        check(torch.full((t, v), -math.log(v)), penalty)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        check(-torch.randint(1, 3, (5, 4), generator=generator).float(), penalty)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_three_tokens_a_slot_are_enough(penalty):
    log_probs_ntv = torch.log_softmax(random_log_probs(30, 50, 5, n=20) + 4 * random_log_probs(1, 50, 6, n=20), -1)
    few, all_of_them = (decoded(log_probs_ntv, [30] * 20, penalty, k) for k in (3, 50))
    assert torch.equal(few[0], all_of_them[0]) and torch.equal(few[1], all_of_them[1])
    if penalty is None:
        assert not torch.equal(decoded(log_probs_ntv, [30] * 20, None, 2)[0], few[0]), "two are too few"


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("beyond", [0.0, 1e30, -math.inf, math.nan])
def test_what_lies_beyond_a_row_s_slots_does_not_matter(penalty, beyond):
    lengths = [1, 7, 3, 9, 2, 5, 8, 4]
    log_probs_ntk, tokens_ntk = random_log_probs(9, 6, 2, n=8).topk(3, -1)
    for row, length in enumerate(lengths):
        log_probs_ntk[row, length:] = beyond
        # the last slot's best token again: nothing there may count as a repeat
        tokens_ntk[row, length:] = tokens_ntk[row, length - 1, 0]
    tokens_nt, log_probs_nt = best_without_repeats(log_probs_ntk, tokens_ntk, torch.tensor(lengths), penalty)
    for row, length in enumerate(lengths):
        alone = (x[row : row + 1, :length] for x in (log_probs_ntk, tokens_ntk))
        tokens_1t, log_probs_1t = best_without_repeats(*alone, torch.tensor([length]), penalty)
        assert tokens_nt[row].tolist() == tokens_1t[0].tolist() + [PAD] * (9 - length)
        assert log_probs_nt[row].tolist() == log_probs_1t[0].tolist() + [0.0] * (9 - length)
