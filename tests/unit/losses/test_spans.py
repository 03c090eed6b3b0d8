"""Random spans of tokens and what they cover."""

import math

import pytest
import torch

from retort.data.vocabulary import PAD
from retort.losses.poisson_spans import covered, random_spans, span_mask


def sentences_of(lengths):
    return torch.where(torch.arange(max(lengths)) < torch.tensor(lengths)[:, None], 7, PAD)


@pytest.mark.parametrize(("ratio", "mean"), [(0.7, 2.0), (0.3, 3.0), (1.0, 1.0)])
def test_spans_stay_within_their_sentence_and_their_budget(ratio, mean):
    lengths = [1, 2, 5, 10, 20, 40, 50] * 50
    spans = random_spans(sentences_of(lengths), ratio, mean, torch.Generator().manual_seed(1))
    cover = covered(spans)
    for row, n in enumerate(lengths):
        chosen = spans.chosen_bt[row].nonzero()[:, 0].tolist()
        found = [(spans.start_bt[row, k].item(), spans.length_bt[row, k].item()) for k in chosen]
        assert chosen == list(range(len(chosen))) and len({start for start, _ in found}) == len(found)
        assert all(0 <= start < n and start + length <= n for start, length in found)
        assert sum(length for _, length in found) <= math.ceil(ratio * n - 1e-9)
        assert not spans.length_bt[row][~spans.chosen_bt[row]].any()
        inside = {place for start, length in found for place in range(start, start + length)}
        assert cover[row].nonzero()[:, 0].tolist() == sorted(inside)


@pytest.mark.parametrize(("n", "ratio", "budget"), [(10, 0.25, 3), (1, 0.3, 1), (50, 0.33, 17)])
def test_the_budget_is_rounded_up(n, ratio, budget):
    spans = random_spans(sentences_of([n] * 500), ratio, 1.0, torch.Generator().manual_seed(1))
    assert (spans.length_bt * spans.chosen_bt).sum(1).max() == budget


def test_lengths_are_poisson_and_starts_uniform():
    spans = random_spans(sentences_of([400] * 300), 0.3, 3.0, torch.Generator().manual_seed(2))
    first = spans.length_bt[:, :10].flatten()
    assert first.double().mean() == pytest.approx(3.0, abs=0.15)
    assert (first == 0).double().mean() == pytest.approx(math.exp(-3), abs=0.02)
    assert (spans.length_bt * spans.chosen_bt).sum(1).double().mean() == pytest.approx(120, abs=2)
    assert spans.start_bt[:, :10].double().mean() == pytest.approx(199.5, abs=10)


@pytest.mark.parametrize("n", [12, 20, 50])
def test_overlaps_leave_fewer_tokens_masked_than_the_budget(n):
    masked = span_mask(sentences_of([n] * 2000), 0.7, 2.0, torch.Generator().manual_seed(3))
    assert 0.52 < masked.double().mean() < 0.6


def test_no_sentence_is_left_without_a_mask():
    tokens = sentences_of([3] * 2000 + [1, 8])
    spans = random_spans(tokens, 0.3, 0.2, torch.Generator().manual_seed(4))
    assert not covered(spans).any(1).all()
    masked = span_mask(tokens, 0.3, 0.2, torch.Generator().manual_seed(4))
    assert masked.any(1).all() and not masked[tokens == PAD].any()
    assert (covered(spans) <= masked).all()
    single = masked[:2000][~covered(spans)[:2000].any(1)]
    assert (single.sum(1) == 1).all() and (single[:, :3].double().mean(0) - 1 / 3).abs().max() < 0.1


def test_a_span_may_end_with_its_sentence():
    spans = random_spans(sentences_of([10] * 500), 0.5, 3.0, torch.Generator().manual_seed(5))
    assert ((spans.start_bt + spans.length_bt == 10) & (spans.length_bt > 1)).any()
