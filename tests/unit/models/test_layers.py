import itertools
import math
from typing import Any

import pytest
import torch

from retort.data.vocabulary import BOS, MASK, PAD
from retort.models.embeddings import Positions
from retort.models.layers import CrossAttention, EncoderLayer, FeedForward, ResidualBlock, SelfAttention
from retort.models.parallel import LENGTH_RANGE, length_class, most_probable_lengths
from tests.unit.fakes_models import VOCABULARY, autoregressive, padded, parallel, sentences, tiny_shape

SHAPES = [
    {"norm": norm, "positions": positions, "tied": tied, "activation": activation}
    for (norm, activation), positions, tied in itertools.product(
        [("pre", "relu"), ("post", "gelu")], ["sinusoidal", "learned"], ["all", "output", "none"]
    )
]
SOURCES = padded(sentences([3, 9, 6]))
TARGETS = torch.cat([torch.full((3, 1), BOS), padded(sentences([8, 4, 5], seed=1))[:, :-1]], 1)
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def alone(rows_bt: torch.Tensor, row: int) -> torch.Tensor:
    """A row without its padding."""
    return rows_bt[row : row + 1, : int((rows_bt[row] != PAD).sum())]


@pytest.fixture(params=["pre", "post"])
def norm(request):
    return request.param


def test_padding_does_not_change_the_encoders_states(norm):
    model = autoregressive(norm=norm)
    together, _ = model.encode(SOURCES)
    for row in range(3):
        apart, _ = model.encode(alone(SOURCES, row))
        torch.testing.assert_close(together[row, : apart.shape[1]], apart[0], **CLOSE)


def test_padding_does_not_change_a_causal_decoders_states(norm):
    model = autoregressive(norm=norm)
    together = model(SOURCES, TARGETS)
    for row in range(3):
        apart = model(alone(SOURCES, row), alone(TARGETS, row))
        torch.testing.assert_close(together[row, : apart.shape[1]], apart[0], **CLOSE)


def test_padding_does_not_change_a_parallel_decoders_states(norm):
    model = parallel(norm=norm)
    together = model.decode_tokens(TARGETS, *model.encode(SOURCES))
    lengths = model.predict_length(SOURCES, model.encode(SOURCES)[0])
    for row in range(3):
        memory = model.encode(alone(SOURCES, row))
        apart = model.decode_tokens(alone(TARGETS, row), *memory)
        torch.testing.assert_close(together[row, : apart.shape[1]], apart[0], **CLOSE)
        torch.testing.assert_close(lengths[row], model.predict_length(alone(SOURCES, row), memory[0])[0], **CLOSE)


def test_padding_does_not_change_upsampled_states(norm):
    model = parallel(upsampling=3, norm=norm)
    together, slots = model.decode_upsampled(SOURCES, *model.encode(SOURCES))
    assert together.shape[:2] == (3, 3 * SOURCES.shape[1])
    assert slots.tolist() == [12, 30, 21]
    for row in range(3):
        source = alone(SOURCES, row)
        apart, _ = model.decode_upsampled(source, *model.encode(source))
        torch.testing.assert_close(together[row, : apart.shape[1]], apart[0], **CLOSE)


def test_a_causal_decoder_sees_earlier_tokens_only_and_a_parallel_one_all():
    changed = TARGETS.clone()
    changed[0, 6] = 13 if TARGETS[0, 6] != 13 else 12
    causal, other = autoregressive(), parallel()
    before, after = causal(SOURCES, TARGETS), causal(SOURCES, changed)
    assert torch.equal(before[0, :6], after[0, :6])
    assert not torch.isclose(before[0, 6:], after[0, 6:]).all(1).any()
    before, after = (other.decode_tokens(target, *other.encode(SOURCES)) for target in (TARGETS, changed))
    assert not torch.isclose(before[0], after[0]).all(1)[:8].any()
    assert torch.equal(before[1:], after[1:])


@pytest.mark.parametrize("upsampling", [0, 2])
def test_the_slots_of_a_parallel_decoder_differ(upsampling):
    model = parallel(upsampling)
    memory = model.encode(SOURCES)
    if upsampling:
        states = model.decode_upsampled(SOURCES, *memory)[0]
    else:
        states = model.decode_tokens(torch.full((3, 8), MASK), *memory)
    assert not torch.isclose(states[:, 1:], states[:, :-1], atol=1e-3).all(2).any()


@pytest.mark.parametrize("changes", SHAPES, ids=lambda changes: "-".join(changes.values()))
def test_every_parameter_of_every_shape_is_trained(changes):
    causal, slots, upsampled = autoregressive(**changes), parallel(**changes), parallel(2, **changes)
    memory = slots.encode(SOURCES)
    outputs = {
        causal: [causal.logits(causal(SOURCES, TARGETS))],
        slots: [slots.logits(slots.decode_tokens(TARGETS, *memory)), slots.predict_length(SOURCES, memory[0])],
        upsampled: [upsampled.logits(upsampled.decode_upsampled(SOURCES, *upsampled.encode(SOURCES))[0])],
    }
    for model, logits in outputs.items():
        sum(torch.log_softmax(y, -1)[..., 7].sum() for y in logits).backward()
        untrained = {name for name, p in model.named_parameters() if p.grad is None}
        # slots that start from the encoder's states have no use for target embeddings
        assert untrained == ({"embeddings.target"} if model is upsampled and changes["tied"] == "none" else set())
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(("tied", "matrices"), [("all", 1), ("output", 2), ("none", 3)])
def test_tied_embeddings_are_one_parameter(tied, matrices):
    model = autoregressive(tied=tied)
    shapes = [tuple(p.shape) for p in model.parameters()]
    assert shapes.count((VOCABULARY, 16)) == matrices
    assert (model.embeddings.source is model.embeddings.output) == (tied == "all")
    assert (model.embeddings.target is model.embeddings.output) == (tied != "none")


def test_sinusoidal_positions_are_those_of_the_paper():
    table = autoregressive().embeddings.positions.table
    for position, i in ((0, 0), (1, 0), (7, 3), (39, 7)):
        angle = position / 10000 ** (2 * i / 16)
        assert table[position, 2 * i : 2 * i + 2].tolist() == pytest.approx(
            [math.sin(angle), math.cos(angle)], abs=1e-5
        )


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_the_longest_sentences_fit_with_their_padding(positions):
    longest = padded(sentences([9, 5]), step=4)
    assert longest.shape[1] > 10
    changes = {"positions": positions, "max_length": 10}
    assert autoregressive(**changes)(longest, longest).isfinite().all()
    model = parallel(**changes)
    assert model.decode_tokens(longest, *model.encode(longest)).isfinite().all()
    model = parallel(upsampling=3, **changes)
    assert model.decode_upsampled(longest, *model.encode(longest))[0].shape[1] == 36


@pytest.mark.parametrize("changes", SHAPES, ids=lambda changes: "-".join(changes.values()))
@torch.inference_mode()
def test_step_by_step_equals_teacher_forcing(changes):
    """Three beams a source; halfway the beams change places and a source is dropped."""
    model = autoregressive(**changes)
    input_rt = torch.cat([torch.full((9, 1), BOS), padded(sentences([7] * 9, seed=2))[:, :7]], 1)
    source_rows = torch.arange(3).repeat_interleave(3)
    cache = model.start(SOURCES)
    cache.select(source_rows)

    def check(first: int, last: int) -> None:
        states = model(SOURCES[source_rows], input_rt)
        expected = torch.log_softmax(model.logits(states), -1)
        for t in range(first, last):
            torch.testing.assert_close(model.step(input_rt[:, t], cache), expected[:, t], **CLOSE)

    check(0, 4)
    rows = torch.tensor([2, 0, 0, 7, 8, 6])
    cache.select(rows, torch.tensor([0, 2]))
    input_rt, source_rows = torch.cat([input_rt[rows, :4], input_rt[:6, 4:]], 1), source_rows[rows]
    check(4, 8)


def predicting(model, logits_bl):
    """The model with these length logits, whatever the source."""
    model.predict_length = lambda source_bs, memory_bsd: logits_bl
    return model


@pytest.mark.parametrize("length_from", ["mean", "slot"])
def test_length_classes_and_lengths_are_inverse(length_from):
    model = parallel(length_from=length_from, max_length=99)
    source, length_b = padded(sentences([4, 4, 69, 0])), torch.tensor([9, 2, 6, 30])
    classes = length_class(model, source, length_b)
    logits = torch.nn.functional.one_hot(classes, model.length.out_features).float()
    assert most_probable_lengths(predicting(model, logits), source, None, 1)[:, 0].tolist() == length_b.tolist()


def test_a_length_slot_is_seen_and_holds_the_length():
    model, source = parallel(length_from="slot"), padded(sentences([4, 2]))
    memory, bias = model.encode(source)
    assert ((bias[::2, 0] == 0) == torch.cat([torch.ones(2, 1, dtype=torch.bool), source != PAD], 1)).all()
    assert torch.equal(model.predict_length(source, memory), model.length(memory[:, 0]))


def test_lengths_out_of_the_classes_range_take_the_last_class():
    lists = sentences([199, 0])
    assert length_class(parallel(), padded(lists), torch.tensor([1, 200])).tolist() == [0, 2 * LENGTH_RANGE]
    slot = parallel(length_from="slot", max_length=99)
    assert length_class(slot, padded(lists), torch.tensor([1, 200])).tolist() == [1, 99]


def test_the_most_probable_lengths_come_first_and_stay_in_range():
    logits = torch.zeros(1, 2 * LENGTH_RANGE + 1)
    logits[:, LENGTH_RANGE + 3], logits[:, LENGTH_RANGE - 1], logits[:, LENGTH_RANGE - 6] = 3.0, 2.0, 1.0
    model = predicting(parallel(max_length=10), logits)
    assert most_probable_lengths(model, padded(sentences([7])), None, 3).tolist() == [[10, 7, 2]]


def test_lengths_that_no_text_has_are_not_tried():
    logits = torch.zeros(1, 2 * LENGTH_RANGE + 1)
    logits[:, : LENGTH_RANGE - 2], logits[:, LENGTH_RANGE + 1], logits[:, LENGTH_RANGE - 2] = 3.0, 2.0, 1.0
    model = predicting(parallel(max_length=10), logits)
    assert most_probable_lengths(model, padded(sentences([3])), None, 2).tolist() == [[5, 2]]


def test_a_slot_predicts_lengths_that_do_not_depend_on_the_source_s():
    logits = torch.zeros(2, 41)
    logits[:, 40], logits[:, 7], logits[:, 0] = 3.0, 2.0, 1.0
    model = predicting(parallel(length_from="slot"), logits)
    assert most_probable_lengths(model, padded(sentences([7, 3])), None, 2).tolist() == [[40, 7]] * 2


@pytest.mark.parametrize("decoder_input", ["mask", "pad"])
def test_padding_changes_nothing_of_a_model_with_a_length_slot(norm, decoder_input):
    model = parallel(length_from="slot", decoder_input=decoder_input, norm=norm)
    slots = torch.where(padded(sentences([8, 4, 5])) == PAD, PAD, MASK)
    memory = model.encode(SOURCES)
    assert memory[0].shape[1] == SOURCES.shape[1] + 1
    together, lengths = model.decode_tokens(slots, *memory), model.predict_length(SOURCES, memory[0])
    wider = torch.nn.functional.pad(SOURCES, (0, 3), value=PAD)
    torch.testing.assert_close(model.predict_length(wider, model.encode(wider)[0]), lengths, **CLOSE)
    for row in range(3):
        source = alone(SOURCES, row)
        memory = model.encode(source)
        torch.testing.assert_close(lengths[row], model.predict_length(source, memory[0])[0], **CLOSE)
        apart = model.decode_tokens(alone(slots, row), *memory)
        torch.testing.assert_close(together[row, : apart.shape[1]], apart[0], **CLOSE)
    assert not torch.isclose(lengths[0], lengths[1], atol=1e-3).all()


def test_slots_filled_with_pad_are_seen_and_are_not_mask():
    """Pad's embedding stands in a slot that counts, unlike padding."""
    masked, padding = parallel(decoder_input="mask"), parallel(decoder_input="pad")
    slots = torch.where(padded(sentences([8, 4, 5])) == PAD, PAD, MASK)
    memory = masked.encode(SOURCES)
    states = padding.decode_tokens(slots, *memory)
    assert not torch.isclose(states, masked.decode_tokens(slots, *memory), atol=1e-3).all(2)[slots == MASK].any()
    padding.embeddings.target.data[MASK] = 7.0
    assert torch.equal(padding.decode_tokens(slots, *memory), states)
    fewer = slots.masked_fill(torch.arange(slots.shape[1]) == 3, PAD)
    assert not torch.isclose(padding.decode_tokens(fewer, *memory)[:, 0], states[:, 0], atol=1e-4).all(1).any()
    # given tokens stay what they are
    assert torch.equal(padding.decode_tokens(TARGETS, *memory), masked_like(padding).decode_tokens(TARGETS, *memory))


def masked_like(model):
    """The same weights, with mask as the decoder's input."""
    twin = parallel(decoder_input="mask")
    twin.load_state_dict(model.state_dict())
    return twin


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_an_encoder_layer_is_torchs(norm, activation):
    shape = tiny_shape(norm=norm, activation=activation)
    torch.manual_seed(0)
    ours, x = EncoderLayer(shape), torch.randn(2, 5, 16)
    theirs = torch.nn.TransformerEncoderLayer(16, 2, 24, 0.0, activation, batch_first=True, norm_first=norm == "pre")
    pairs = {
        "self_attn.in_proj_": ours.attention.input,
        "self_attn.out_proj.": ours.attention.output,
        "linear1.": ours.feed_forward.inner,
        "linear2.": ours.feed_forward.outer,
        "norm1.": ours.attention_block.norm,
        "norm2.": ours.feed_forward_block.norm,
    }
    theirs.load_state_dict({to + key: w for to, layer in pairs.items() for key, w in layer.state_dict().items()})
    torch.testing.assert_close(ours(x, torch.zeros(1, 1, 1)), theirs(x), **CLOSE)


@pytest.mark.parametrize("place", [SelfAttention, CrossAttention, FeedForward, ResidualBlock, Positions])
def test_every_place_of_dropout_has_it_in_training_only(place):
    module, x, bias = place(tiny_shape(dropout=0.5, attention_dropout=0.5)), torch.randn(2, 5, 16), torch.zeros(1, 1, 1)

    def output(training: bool) -> torch.Tensor:
        module.train(training)
        if place is CrossAttention:
            return module(x, module.keys_values(x), bias)
        if place is ResidualBlock:
            return module.residual(x, x)
        return module(x, bias) if place is SelfAttention else module(x)

    assert torch.equal(output(False), output(False)) and not torch.equal(output(True), output(False))


def test_embeddings_begin_with_the_length_of_one():
    model = autoregressive(d_model=64, tied="none")
    for weight in (model.embeddings.source, model.embeddings.target, model.embeddings.output):
        assert weight.norm(dim=1).mean().item() == pytest.approx(1, abs=0.1)
