"""Repeats removed from one-pass outputs, candidates of several lengths, and the teacher's choice among them."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from retort import config
from retort.data.vocabulary import BLANK, BOS, EOS, MASK, PAD, UNK
from retort.errors import RetortError
from retort.search import length_parallel
from retort.search.base import Hypothesis, run_search
from tests.unit.fakes_models import (
    VOCABULARY,
    FakeParallel,
    assert_decoded_as_alone,
    autoregressive,
    bang_model,
    padded,
    parallel,
    sentences,
)

ONE = padded([[7]])
A, B, C = 6, 7, 8
LISTS = sentences([3, 12, 1, 7, 9, 2, 5, 11], seed=3)


def argmax(**keys):
    return config.Argmax(kind="argmax", **keys)


def candidates(count, **keys):
    return config.LengthParallel(kind="length_parallel", candidates=count, **keys)


SEARCHES = {
    "remove": argmax(deduplicate="remove", length_beam=3),
    "odd": argmax(deduplicate="odd"),
    "priced": argmax(deduplicate="odd", repeat_penalty=0.1, length_beam=3),
    "own choice": candidates(5, rescore=False),
    "teacher's choice": candidates(9),
    "no length penalty": candidates(4, deduplicate="none", length_penalty=0.0),
    "removed, then chosen": candidates(4, deduplicate="remove"),
}


@pytest.fixture
def model():
    """Lengths are spread over the whole range, and neighbouring slots often hold the same token, but not always."""
    model = parallel(seed=5, length_from="slot", decoder_input="pad")
    model.length.weight.data *= 3
    model.embeddings.target.data[PAD] *= 0.3
    return model


@pytest.fixture
def teacher():
    return autoregressive(seed=5)


def slots(*tokens, second=None, vocabulary=VOCABULARY):
    """Logits of a model that is sure of these tokens, and less so of ``second``."""
    logits = torch.zeros(len(tokens), vocabulary)
    if second is not None:
        logits[:, second] = 4.0
    for slot, token in enumerate(tokens):
        logits[slot, token] = 5.0
    return logits


def filled(logits_tv, options, length=None, source=(7,), teacher=None, eos_anywhere=True):
    """N-best list of a model with these logits, whose most probable length is their number unless told."""
    model = FakeParallel(lambda _: logits_tv, lengths=[length or len(logits_tv)])
    model.eos_anywhere = eos_anywhere
    model.config.max_length = 40
    return run_search(model, padded([source]), options, teacher)[0]


def repeats(hypotheses):
    return sum(a == b for h in hypotheses for a, b in itertools.pairwise(h.tokens))


@torch.inference_mode()
def log_prob_alone(teacher, source, tokens):
    """log P of the tokens and eos, one step at a time."""
    cache = teacher.start(padded([source]))
    total = 0.0
    for before, token in itertools.pairwise([BOS, *tokens, EOS]):
        total += float(teacher.step(torch.tensor([before]), cache)[0, token])
    return total


# ---- repeats --------------------------------------------------------------------------------------------------------


def test_repeats_are_deleted_and_the_score_is_that_of_the_whole_output():
    logits = slots(A, A, B, C, C, A, EOS)
    (plain,), (removed,) = (filled(logits, argmax(deduplicate=how)) for how in ("none", "remove"))
    assert plain.tokens == [A, A, B, C, C, A] and removed.tokens == [A, B, C, A]
    assert (removed.score, removed.truncated, removed.passes) == (plain.score, False, 1)


def test_an_output_without_repeats_keeps_its_length():
    (odd,) = filled(slots(A, A, A, EOS, second=B), argmax(deduplicate="odd"))
    assert odd.tokens == [A, B, A]
    normaliser = math.log(math.exp(5) + math.exp(4) + VOCABULARY - 2 - 4)
    sure_of_eos = 5 - normaliser
    assert odd.score == pytest.approx((2 * (5 - normaliser) + 4 - normaliser + sure_of_eos) / 4, rel=1e-5)


def test_a_repeat_stays_if_its_price_is_lower_than_what_is_lost():
    for penalty, tokens in ((0.0, [A, A, A]), (0.4, [A, A, A]), (0.6, [A, B, A]), (None, [A, B, A])):
        (odd,) = filled(slots(A, A, A, EOS, second=B), argmax(deduplicate="odd", repeat_penalty=penalty))
        assert odd.tokens == tokens


def test_no_slot_holds_a_special_token_to_avoid_a_repeat():
    logits = slots(A, A, A, EOS)
    logits[:, [PAD, BOS, UNK, MASK, BLANK]] = 6.0
    logits[1, B] = 0.1
    (odd,) = filled(logits, argmax(deduplicate="odd"))
    assert odd.tokens == [A, B, A]
    # of two tokens that may be chosen there are no three
    (odd,) = filled(slots(A, A, A, vocabulary=7), argmax(deduplicate="odd"))
    assert odd.tokens == [A, A]


@pytest.mark.parametrize("how", ["none", "remove", "odd"])
def test_eos_is_in_the_last_slot_alone_where_the_training_puts_it_there(how):
    logits = slots(A, EOS, B, EOS, EOS, second=C)
    logits[1, A] = logits[3, A] = 4.5
    options = candidates(2, deduplicate=how, rescore=False)
    four, five = sorted((h.tokens for h in filled(logits, options, 5, eos_anywhere=False)), key=len)
    assert (four, five) == {"none": ([A, A, B], [A, A, B, A]), "remove": ([A, B], [A, B, A])}.get(
        how, ([A, C, B], [A, C, B, A])
    )
    assert filled(logits, argmax())[0].tokens == [A, B], "with eos anywhere"
    # the token that takes its place is as improbable as it was beside eos
    assert filled(logits, argmax(), eos_anywhere=False)[0].score < filled(logits, argmax())[0].score


def test_every_length_candidate_is_freed_of_its_repeats_and_equal_ones_are_one(model):
    source = padded(LISTS)
    plain, odd, removed = (
        run_search(model, source, argmax(deduplicate=how, length_beam=3)) for how in ("none", "odd", "remove")
    )
    for ours, theirs in zip(removed, plain, strict=True):
        freed = {}
        for h in theirs:
            freed.setdefault(tuple(token for token, _ in itertools.groupby(h.tokens)), h.score)
        assert [(tuple(h.tokens), h.score) for h in ours] == [*freed.items()]
    assert sum(map(repeats, plain)) > 20 > sum(map(repeats, odd)) and sum(map(repeats, removed)) == 0
    assert all([h.score for h in best] == sorted((h.score for h in best), reverse=True) for best in odd)


# ---- lengths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "count", "longest", "lengths"),
    [
        (20, 9, 512, range(16, 25)),
        (10, 4, 512, range(8, 12)),
        (3, 9, 512, range(2, 11)),
        (6, 9, 512, range(2, 11)),
        (1, 1, 512, [2]),
        (20, 1, 512, [20]),
        (20, 9, 22, range(16, 23)),
        (22, 9, 22, range(18, 23)),
        (22, 1, 22, [22]),
        (3, 9, 5, range(2, 6)),
    ],
)
def test_the_lengths_tried(predicted, count, longest, lengths):
    model = FakeParallel(lambda _: slots(*[A, B] * 15), lengths=[predicted])
    model.config.max_length = longest
    run_search(model, padded([[7] * 9]), candidates(count, rescore=False))
    (input_nt,) = model.inputs
    assert (input_nt == MASK).sum(1).tolist() == list(lengths)


def test_equal_outputs_count_once_with_their_best_score():
    """What follows eos is no text, so that longer candidates give the same output, with eos more often."""
    logits = slots(A, B, EOS, EOS, EOS, EOS)
    logits[4, EOS] = 9.0
    found = filled(logits, candidates(5, deduplicate="none", rescore=False), length=4)
    assert [h.tokens for h in found] == [[A, B]]
    alone = [filled(logits, argmax(), length)[0].score for length in range(2, 7)]
    assert found[0].score == max(alone) == alone[3]


def test_the_model_s_own_choice_has_the_best_mean_log_probability():
    logits = slots(A, B, A, B, A)
    logits[3, B], logits[4, A] = 7.0, 2.0
    found = filled(logits, candidates(4, rescore=False), length=4)
    assert [len(h.tokens) for h in found] == [4, 2, 3, 5] and {h.passes for h in found} == {1}
    assert found[1].score == pytest.approx(found[2].score, rel=1e-6)


@pytest.mark.parametrize("how", ["none", "remove", "odd"])
@pytest.mark.parametrize("rescore", [True, False])
def test_one_candidate_is_argmax_and_needs_no_teacher(model, how, rescore):
    options = candidates(1, deduplicate=how, rescore=rescore)
    source = padded(LISTS)
    expected = run_search(model, source, argmax(deduplicate=how))
    assert run_search(model, source, options) == run_search(model, source, options, object()) == expected
    assert {h.passes for best in expected for h in best} == {1} and not options.needs_teacher


# ---- the teacher ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEARCHES)
def test_a_batch_of_eight_gives_what_eight_batches_of_one_give(model, teacher, name):
    together = assert_decoded_as_alone(model, LISTS, SEARCHES[name], teacher)
    assert len({tuple(best[0].tokens) for best in together}) > 4


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [0.0, 1.0, 0.6])
def test_the_teacher_s_choice_is_that_of_scoring_each_candidate_alone(model, teacher, penalty):
    own = run_search(model, padded(LISTS), candidates(9, rescore=False))
    found = run_search(model, padded(LISTS), candidates(9, length_penalty=penalty), teacher)
    for source, unscored, best in zip(LISTS, own, found, strict=True):
        expected = {
            tuple(h.tokens): log_prob_alone(teacher, source, h.tokens) / ((5 + len(h.tokens) + 1) / 6) ** penalty
            for h in unscored
        }
        assert [tuple(h.tokens) for h in best] == sorted(expected, key=lambda tokens: -expected[tokens])
        assert [h.score for h in best] == pytest.approx([expected[tuple(h.tokens)] for h in best], rel=1e-4)
        assert {h.passes for h in best} == {2}
    assert [best[0].tokens for best in own] != [best[0].tokens for best in found]


def test_eos_is_scored_once_whether_or_not_the_model_put_one(teacher):
    """[A, B] comes from two slots without eos, from three with one, and from four with two."""
    options = candidates(3, deduplicate="none", length_penalty=1.0)
    for logits in (slots(A, B, A, B), slots(A, B, EOS, EOS)):
        found = filled(logits, options, 3, teacher=teacher)
        for h in found:
            expected = log_prob_alone(teacher, [7], h.tokens) / ((5 + len(h.tokens) + 1) / 6)
            assert h.score == pytest.approx(expected, rel=1e-4)
    assert [h.tokens for h in found] == [[A, B]]


def test_an_empty_candidate_is_scored_by_its_eos(teacher):
    (only,) = filled(slots(EOS, EOS, EOS), candidates(2, deduplicate="none"), 2, teacher=teacher)
    assert only.tokens == [] and only.score == pytest.approx(log_prob_alone(teacher, [7], []), rel=1e-4)


def test_a_candidate_as_long_as_the_model_can_be_is_scored(teacher):
    """With eos, which it lacks, it has a token more than that."""
    options = candidates(2, deduplicate="none")
    found = filled(slots(*[A, B] * 20), options, source=[7] * 39, teacher=teacher)
    assert sorted(len(h.tokens) for h in found) == [39, 40]
    longest = max(found, key=lambda h: len(h.tokens))
    assert longest.score == pytest.approx(log_prob_alone(teacher, [7] * 39, longest.tokens) / (46 / 6), rel=1e-4)


def test_a_teacher_whose_slots_have_places_scores_a_candidate_as_long_as_the_model_can_be():
    filler = [Hypothesis([A, B] * (length // 2), 0.0, False, 1) for length in (38, 40)]
    (short, longest), (alone,) = (
        length_parallel.rescored(bang_model(max_length=40), ONE, [hypotheses], alpha=0.0)[0]
        for hypotheses in (filler, filler[1:])
    )
    assert len(longest.tokens) == 40 and longest.score < short.score < 0
    assert longest.score == pytest.approx(alone.score, rel=1e-5)


@pytest.fixture
def calls(monkeypatch, teacher):
    """Shapes that the teacher's encoder and decoder got."""
    found = SimpleNamespace(encode=[], decode=[])
    for name in ("encode", "decode"):
        original, shapes = getattr(teacher, name), getattr(found, name)

        def counted(input_, *arguments, original=original, shapes=shapes):
            shapes.append(tuple(input_.shape))
            return original(input_, *arguments)

        monkeypatch.setattr(teacher, name, counted)
    return found


def test_all_candidates_of_a_batch_are_scored_in_one_pass(model, teacher, calls):
    source = padded(LISTS)
    found = run_search(model, source, candidates(9), teacher)
    assert calls.encode == [tuple(source.shape)]
    longest = max(len(h.tokens) for best in found for h in best)
    assert calls.decode == [(sum(map(len, found)), longest + 1)] and sum(map(len, found)) > 8 * 5


def test_scoring_in_parts_changes_nothing(model, teacher, calls, monkeypatch):
    options = candidates(9, deduplicate="remove")
    expected = run_search(model, padded(LISTS), options, teacher)
    monkeypatch.setattr(length_parallel, "SCORED_TOKENS", 100)
    found = run_search(model, padded(LISTS), options, teacher)
    (whole, *parts) = calls.decode
    assert len(calls.encode) == 2 and len(parts) > 3 and sum(n for n, _ in parts) == whole[0]
    assert all(n * t <= 100 for n, t in parts)
    for ours, theirs in zip(found, expected, strict=True):
        assert [(h.tokens, h.passes) for h in ours] == [(h.tokens, h.passes) for h in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], rel=1e-4)


def test_which_searches_need_a_teacher():
    assert candidates(2).needs_teacher and config.LengthParallel(kind="length_parallel").needs_teacher
    assert not candidates(9, rescore=False).needs_teacher and not argmax(length_beam=3).needs_teacher
    assert not config.Beam(kind="beam").needs_teacher


def test_a_missing_teacher_is_an_error(model):
    with pytest.raises(
        RetortError,
        match="search length_parallel needs an autoregressive teacher, .* set rescore to false or candidates to 1",
    ):
        run_search(model, ONE, candidates(2))
