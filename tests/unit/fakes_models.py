"""Tiny models with random weights, and fakes whose output is a table, for the tests of models, losses and searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retort import config
from retort.data.batches import Batch, Ragged
from retort.data.vocabulary import EOS, PAD, UNK
from retort.losses.base import Loss
from retort.models.autoregressive import AutoregressiveModel
from retort.models.bang import BangModel
from retort.models.base import EncoderDecoder
from retort.models.dag import DagModel
from retort.models.janus import JanusModel
from retort.models.parallel import LENGTH_RANGE, ParallelModel
from retort.models.recurrent import RecurrentModel
from retort.objectives.base import Step
from retort.search.base import Hypothesis, run_search

VOCABULARY = 14


def tiny_shape(**changes: Any) -> config.Model:
    small = {"d_model": 16, "heads": 2, "ffn": 24, "encoder_layers": 2, "decoder_layers": 2, "max_length": 40}
    return config.Model(**(small | {"dropout": 0.0} | changes))


def autoregressive(seed: int = 0, **changes: Any) -> AutoregressiveModel:
    torch.manual_seed(seed)
    return AutoregressiveModel(tiny_shape(**changes), VOCABULARY, VOCABULARY).eval()


def recurrent(seed: int = 0, **changes: Any) -> RecurrentModel:
    torch.manual_seed(seed)
    return RecurrentModel(tiny_shape(family="gru", **changes), VOCABULARY, VOCABULARY).eval()


def parallel(
    upsampling: float = 0,
    seed: int = 0,
    length_from: str = "mean",
    decoder_input: str = "mask",
    blank: bool = False,
    length_multiplier: float = 1.0,
    deep_supervision: bool = False,
    **changes: Any,
) -> ParallelModel:
    torch.manual_seed(seed)
    shape = tiny_shape(**changes)
    choices = (upsampling, length_from, decoder_input, blank, length_multiplier, deep_supervision)
    return ParallelModel(shape, VOCABULARY, VOCABULARY, *choices).eval()


def dag_model(upsampling: float = 4, seed: int = 0, **changes: Any) -> DagModel:
    torch.manual_seed(seed)
    return DagModel(tiny_shape(**changes), VOCABULARY, VOCABULARY, upsampling).eval()


def janus_model(seed: int = 0, **changes: Any) -> JanusModel:
    torch.manual_seed(seed)
    return JanusModel(tiny_shape(**changes), VOCABULARY, VOCABULARY).eval()


def bang_model(seed: int = 0, **changes: Any) -> BangModel:
    """Its distances count, as they do once it is trained."""
    torch.manual_seed(seed)
    model = BangModel(tiny_shape(**changes), VOCABULARY, VOCABULARY).eval()
    for parameter in model.relative.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def lively_bang_model(**changes: Any) -> BangModel:
    """What it says depends on its source and on the place."""
    model = bang_model(**changes)
    model.slot_vector.data.zero_()
    for layer in model.decoder.layers:
        layer.cross_attention.memory.weight.data *= 4
        layer.cross_attention.query.weight.data *= 4
    model.embeddings.output.data[EOS] *= 1.4
    return model


def sentences(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Random text tokens."""
    generator = np.random.default_rng(seed)
    return [generator.integers(6, VOCABULARY, n).tolist() for n in lengths]


def padded(lists: Sequence[Sequence[int]], step: int = 1) -> Tensor:
    return Ragged.from_lists(lists).padded(np.arange(len(lists)), step)


def batch(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], step: int = 1) -> Batch:
    return Batch(torch.arange(len(sources)), padded(sources, step), padded(targets, step))


def text(lengths: Sequence[int], step: int = 1) -> Batch:
    """A batch for pre-training: random text that is its own target."""
    target = padded(sentences(lengths, seed=3), step)
    return Batch(torch.arange(len(lengths)), target, target)


def assert_decoded_as_alone(
    model: Any, lists: Sequence[Sequence[int]], options: Any, teacher: Any = None
) -> list[list[Hypothesis]]:
    """A batch gives what batches of one give; returns it."""
    together = run_search(model, padded(lists), options, teacher)
    apart = [run_search(model, padded([tokens]), options, teacher)[0] for tokens in lists]
    assert [[h.tokens for h in best] for best in together] == [[h.tokens for h in best] for best in apart]
    for ours, alone in zip(together, apart, strict=True):
        assert [h.score for h in ours] == pytest.approx([h.score for h in alone], rel=1e-4)
        assert [(h.truncated, h.passes) for h in ours] == [(h.truncated, h.passes) for h in alone]
    return together


def assert_steps_are_teacher_forcing(model: JanusModel | BangModel, source: Tensor, inputs: Tensor) -> None:
    """Feeds four sources' inputs token by token, with the rows chosen anew twice."""
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
                torch.testing.assert_close(rows, expected[:, t], rtol=1e-4, atol=1e-5)
            assert [key.shape[2] for key in cache.keys] == [t + 1] * 2


def assert_left_out(
    compute: Callable[..., Loss],
    model: torch.nn.Module,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    options: Any,
) -> None:
    """The first of three sentences does not fit, and changes neither the loss nor its gradient."""
    loss, rest = (compute(model, batch(sources[i:], targets[i:]), options, Step(torch.Generator())) for i in (0, 1))
    assert loss.parts["infeasible"] == pytest.approx(1 / 3)
    assert loss.total.isfinite()
    assert rest.parts["infeasible"] == 0
    torch.testing.assert_close(loss.total, rest.total)
    parameters = list(model.parameters())
    pairs = zip(*(torch.autograd.grad(x.total, parameters) for x in (loss, rest)), strict=True)
    for ours, theirs in pairs:
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class Prefixes:
    """The cache of a ``FakeAutoregressive``: what was fed to each row."""

    def __init__(self, sources: Sequence[int]) -> None:
        self.rows: list[tuple[int, ...]] = [() for _ in sources]

    def select(self, rows: Tensor, memory_rows: Tensor | None = None) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]


class FakeAutoregressive:
    """Next-token probabilities are a function of the tokens so far, bos left out."""

    def __init__(self, probabilities: Callable[[tuple[int, ...]], Sequence[float]], max_length: int) -> None:
        self.probabilities, self.config = probabilities, SimpleNamespace(max_length=max_length)

    def start(self, source_bs: Tensor) -> Prefixes:
        return Prefixes(source_bs[:, 0].tolist())

    def step(self, token_r: Tensor, cache: Prefixes) -> Tensor:
        cache.rows = [(*row, token) for row, token in zip(cache.rows, token_r.tolist(), strict=True)]
        return torch.tensor([self.probabilities(row[1:]) for row in cache.rows]).log()


class FakeParallel:
    """Slot logits [t, v] are a function of the pass; length candidates are given. Remembers the decoder's inputs."""

    forbidden = ParallelModel.forbidden

    def __init__(self, slots: Callable[[int], Tensor], lengths: Sequence[int] = (), upsampling: int = 1) -> None:
        self.slots, self.lengths, self.upsampling = slots, lengths, 0 if lengths else upsampling
        self.config = SimpleNamespace(heads=1, max_length=512)
        self.length = SimpleNamespace(out_features=2 * LENGTH_RANGE + 1)
        self.blank = False
        self.eos_anywhere = False
        self.inputs: list[Tensor] = []

    def encode(self, source_bs: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(*source_bs.shape, 1), torch.zeros(len(source_bs), 1, source_bs.shape[1])

    def predict_length(self, source_bs: Tensor, memory_bsd: Tensor) -> Tensor:
        """The earlier in ``lengths``, the more probable."""
        logits_bl = torch.full((len(source_bs), 2 * LENGTH_RANGE + 1), -100.0)
        for rank, length in enumerate(self.lengths):
            classes_b = length - (source_bs != PAD).sum(1) + LENGTH_RANGE
            logits_bl[torch.arange(len(source_bs)), classes_b] = -float(rank)
        return logits_bl

    def slot_count(self, length: Tensor) -> Tensor:
        return length

    def length_offset(self, source_length_b: Tensor) -> Tensor:
        return source_length_b - LENGTH_RANGE

    def decode_tokens(self, input_bt: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        self.inputs.append(input_bt.clone())
        return self.slots(len(self.inputs) - 1)[: input_bt.shape[1]].expand(len(input_bt), -1, -1)

    def decode_upsampled(self, source_bs: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> tuple[Tensor, Tensor]:
        t = self.upsampling * source_bs.shape[1]
        return self.slots(0)[:t].expand(len(source_bs), -1, -1), self.upsampling * (source_bs != PAD).sum(1)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


def prefer_unknown(model: EncoderDecoder) -> None:
    """Make unk the most probable token everywhere, by far."""
    logits = model.logits

    def preferring(states: Tensor) -> Tensor:
        scores = logits(states).clone()
        scores[..., UNK] = scores.max() + 20
        return scores

    model.logits = preferring  # type: ignore[method-assign, assignment]
