"""The recurrent model: its steps against its teacher-forced pass, padding, directions, shapes, and checkpoints."""

import pytest
import torch
from pydantic import ValidationError

from retort import config
from retort.config import OBJECTIVES
from retort.losses.teacher_forcing import shifted_right
from retort.models import recurrent as module
from retort.objectives.shared.next_token import next_token_loss
from tests.unit.fakes_models import batch, padded, recurrent, sentences

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)


@pytest.mark.parametrize("layers", [{}, {"encoder_layers": 2, "decoder_layers": 1}])
def test_steps_equal_the_teacher_forced_pass(layers):
    model, pairs = recurrent(**layers), batch(SOURCES, TARGETS)
    input_bt = shifted_right(pairs.target_bt)
    with torch.no_grad():
        whole = model.logits(model(pairs.source_bs, input_bt)).log_softmax(-1)
        cache = model.start(pairs.source_bs)
        for t in range(input_bt.shape[1]):
            torch.testing.assert_close(model.step(input_bt[:, t], cache), whole[:, t])


def test_rows_of_a_cache_are_kept_in_the_order_asked_for():
    model, pairs = recurrent(), batch(SOURCES, TARGETS)
    token_b = torch.tensor([6, 7, 8, 9])
    with torch.no_grad():
        cache = model.start(pairs.source_bs)
        model.step(token_b, cache)
        expected = model.step(token_b, cache)
        other = model.start(pairs.source_bs)
        model.step(token_b, other)
        other.select(torch.tensor([2, 0]), torch.tensor([2, 0]))
        torch.testing.assert_close(model.step(token_b[[2, 0]], other), expected[[2, 0]])
        # two rows a source
        beams = model.start(pairs.source_bs)
        beams.select(torch.arange(4).repeat_interleave(2))
        model.step(token_b.repeat_interleave(2), beams)
        beams.select(torch.tensor([1, 0, 3, 3, 4, 5, 6, 6]))
        found = model.step(token_b.repeat_interleave(2), beams)
        torch.testing.assert_close(found, expected.repeat_interleave(2, 0))


def test_padding_changes_nothing():
    model = recurrent()
    one, wide = (next_token_loss(model, batch(SOURCES, TARGETS, n), 0.0).total for n in (1, 16))
    torch.testing.assert_close(one, wide)
    pairs = zip(SOURCES, TARGETS, strict=True)
    alone = [next_token_loss(model, batch([s], [t]), 0.0).total * (len(t) + 1) for s, t in pairs]
    torch.testing.assert_close(one, sum(alone) / sum(len(t) + 1 for t in TARGETS))


def test_the_encoder_is_that_of_torch_over_packed_sentences():
    model, source_bs = recurrent(encoder_layers=1, decoder_layers=1), padded(SOURCES, 16)
    theirs = torch.nn.GRU(16, 16, batch_first=True, bidirectional=True)
    ours = {"": model.encoder.forwards[0], "_reverse": model.encoder.backwards[0]}
    theirs.load_state_dict({f"{n}{end}": w for end, gru in ours.items() for n, w in gru.state_dict().items()})
    lengths = [len(source) + 1 for source in SOURCES]
    with torch.no_grad():
        found, states, _ = model.encode(source_bs)
        x_bsd = model.embeddings.embed_source(source_bs)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x_bsd, lengths, batch_first=True, enforce_sorted=False)
        output, last = theirs(packed)
        output = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0]
    for row, length in enumerate(lengths):
        torch.testing.assert_close(found[row, :length], output[row, :length])
    torch.testing.assert_close(states[0][0], torch.cat([last[0], last[1]], -1))


def test_later_tokens_do_not_change_earlier_states():
    model, source_bs = recurrent(), padded(SOURCES)
    target_bt = padded(sentences([6] * 4))
    other_bt = target_bt.clone()
    other_bt[:, 4:] = 6
    with torch.no_grad():
        one, other = model(source_bs, target_bt), model(source_bs, other_bt)
    assert torch.equal(one[:, :4], other[:, :4]) and not torch.equal(one[:, 4:], other[:, 4:])


@pytest.mark.parametrize("tied", ["all", "output", "none"])
def test_all_parameters_learn_and_dropout_is_for_training(tied):
    model, pairs = recurrent(tied=tied, dropout=0.3), batch(SOURCES, TARGETS)
    plain = next_token_loss(model, pairs, 0.0).total
    torch.testing.assert_close(next_token_loss(model, pairs, 0.0).total, plain)
    loss = next_token_loss(model.train(), pairs, 0.0).total
    assert loss != plain
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_family_is_one_of_a_left_to_right_student():
    shape = {"family": "gru", "d_model": 16, "heads": 2}
    for name in [o.only_value("name") for o in OBJECTIVES if o.family == "autoregressive"]:
        assert config.System(objective={"name": name}, model=shape).model.family == "gru"
    with pytest.raises(ValidationError, match="a recurrent model cannot be trained as ctc; use autoregressive or"):
        config.System(objective={"name": "ctc"}, model=shape)
    with pytest.raises(ValidationError, match="2 encoder and 3 decoder layers"):
        config.Model(**shape, encoder_layers=2, decoder_layers=3)


def test_every_place_of_dropout_has_it(monkeypatch):
    shapes = []
    monkeypatch.setattr(module, "dropout", lambda x, p, training: shapes.append((x.shape[2], p)) or x)
    model = recurrent(dropout=0.3).train()
    model(padded(SOURCES), padded(TARGETS))
    assert shapes == [(32, 0.3)] * 3, "between two layers of either side, and before the projection"
