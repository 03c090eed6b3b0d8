"""NCM: exact for a model whose distribution is known, and a ratio of sums over the pairs that are possible."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from retort import config
from retort.data.batches import EncodedCorpus, Ragged
from retort.data.vocabulary import EOS, MASK
from retort.evaluation.multimodality import Multimodality, multimodality
from retort.objectives import ctc
from tests.unit.fakes_models import VOCABULARY, batch, parallel, sentences

VANILLA = config.Vanilla(name="vanilla")


def corpus(sources, targets):
    return EncodedCorpus(np.arange(len(sources)), Ragged.from_lists(sources), Ragged.from_lists(targets))


class FakeFactorised:
    """P(length) and P(token | place, length) by table, whatever the source; eos is sure to come last."""

    def __init__(self, lengths, tokens):
        self.lengths, self.tokens, self.device = lengths, tokens, torch.device("cpu")
        self.embeddings = SimpleNamespace(output=torch.eye(VOCABULARY))
        self.length, self.config = SimpleNamespace(out_features=8), SimpleNamespace(max_length=40)

    def encode(self, source_bs):
        return source_bs, source_bs

    def predict_length(self, source_bs, memory):
        logits = torch.full((len(source_bs), 8), -math.inf)
        for n, p in self.lengths.items():
            logits[:, n + 1] = math.log(p)
        return logits

    def length_offset(self, source_length_b):
        return torch.zeros_like(source_length_b)

    def decode_tokens(self, input_bt, memory, bias):
        logits = torch.full((*input_bt.shape, VOCABULARY), -1e4)
        for row, n in enumerate(((input_bt == MASK).sum(1) - 1).tolist()):
            logits[row, n, EOS] = 0.0
            for place, probabilities in enumerate(self.tokens[n]):
                for token, p in probabilities.items():
                    logits[row, place, token] = math.log(p)
        return logits


def test_ncm_of_a_models_own_distribution_is_its_entropy():
    """Every target stands in the corpus as often as the model expects it: one of 32 the rarest."""
    half, quarter, eighth = 0.5, 0.25, 0.125
    lengths = {1: quarter, 2: 3 * quarter}
    tokens = {
        1: [{6: half, 7: quarter, 8: quarter}],
        2: [{6: quarter, 7: 3 * quarter}, {9: half, 6: eighth, 7: 3 * eighth}],
    }
    weights = {
        text: lengths[n] * math.prod(slot[token] for slot, token in zip(tokens[n], text, strict=True))
        for n in lengths
        for text in itertools.product(*tokens[n])
    }
    counts = {text: round(128 * p) for text, p in weights.items()}
    assert sum(counts.values()) == 128 and sum(weights.values()) == pytest.approx(1)
    targets = [list(text) for text, count in counts.items() for _ in range(count)]
    found = multimodality(FakeFactorised(lengths, tokens), VANILLA, corpus([[7]] * 128, targets), 64)

    def entropy(*probabilities):
        return -sum(p * math.log(p) for p in probabilities)

    slots = {n: sum(entropy(*slot.values()) for slot in tokens[n]) for n in lengths}
    expected = entropy(*lengths.values()) + sum(p * slots[n] for n, p in lengths.items())
    assert (found.sentences, found.infeasible, found.tokens) == (128, 0, 32 * 2 + 96 * 3)
    assert found.nats == pytest.approx(128 * expected, rel=1e-5)
    assert found.ncm == pytest.approx(expected / 2.75, rel=1e-5)


def test_ncm_lies_above_the_entropy_of_a_corpus_with_several_modes():
    """Two translations that share no place: one bit, of which factors see two."""
    model = FakeFactorised({2: 1.0}, {2: [{6: 0.5, 7: 0.5}, {6: 0.5, 7: 0.5}]})
    found = multimodality(model, VANILLA, corpus([[7]] * 4, [[6, 7], [7, 6]] * 2), 64)
    assert found.nats == pytest.approx(4 * 2 * math.log(2), rel=1e-5)


def test_ncm_is_a_ratio_of_sums():
    assert Multimodality(sentences=4, infeasible=9, tokens=40, nats=60.0).ncm == 1.5
    assert math.isnan(Multimodality(sentences=0, infeasible=9, tokens=0, nats=0.0).ncm)


def test_pairs_that_a_model_cannot_produce_are_counted_and_left_out():
    """Two slots a source token, eos included: six for the short sources, and the third and last targets do not fit."""
    model, options = parallel(2), config.Ctc(name="ctc", upsampling=2)
    sources = [*sentences([2, 9, 2, 2]), [7, 7]]
    targets = [*sentences([4, 3, 7, 6], seed=1), [6, 6, 6, 6]]
    targets[3] = [6, 7, 8, 9, 10, 11]
    nats = [-ctc.log_likelihood(model, batch([s], [t]), options).item() for s, t in zip(sources, targets, strict=True)]
    assert [math.isinf(value) for value in nats] == [False, False, True, False, True]
    found = multimodality(model, options, corpus(sources, targets), 32)
    assert (found.sentences, found.infeasible, found.tokens) == (3, 2, 5 + 4 + 7)
    assert found.nats == pytest.approx(sum(value for value in nats if math.isfinite(value)), rel=1e-5)
    assert found.ncm == found.nats / 16


def test_label_smoothing_changes_nothing():
    pairs = corpus(sentences([3, 9, 6]), sentences([8, 4, 5], seed=1))
    found = {
        multimodality(parallel(), config.Vanilla(name="vanilla", label_smoothing=p), pairs, 64) for p in (0.0, 0.5)
    }
    assert len(found) == 1
