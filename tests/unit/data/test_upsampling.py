"""Slots of sources, as fractions of their tokens."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from retort import config
from retort.data.upsampling import Upsampling
from tests.unit.fakes_models import padded, parallel


@pytest.mark.parametrize("number", ["1", "2", "1.5", "1.25", "0.1", "0.3", "1.1", "2.333", "100"])
def test_slots_are_rounded_up_and_come_from_tokens_in_order(number: str) -> None:
    upsampling, exact = Upsampling.of(float(number)), Fraction(number)
    for tokens in range(1, 60):
        count = upsampling.slots(tokens)
        assert count == math.ceil(tokens * exact)
        origins = [upsampling.token(slot) for slot in range(count)]
        assert origins == [int(slot / exact) for slot in range(count)]
        assert origins[-1] < tokens


def test_arrays_and_tensors_give_what_numbers_give() -> None:
    upsampling = Upsampling.of(1.3)
    counts = list(range(1, 30))
    slots, tokens = [[method(n) for n in counts] for method in (upsampling.slots, upsampling.token)]
    for kind in (np.int32, np.int64):
        assert upsampling.slots(np.array(counts, kind)).tolist() == slots
        assert upsampling.slots(np.array(counts, kind)).dtype == kind
        assert upsampling.token(np.array(counts, kind)).tolist() == tokens
    assert upsampling.slots(torch.tensor(counts)).tolist() == slots
    assert upsampling.token(torch.tensor(counts)).tolist() == tokens


@pytest.mark.parametrize(("number", "fact"), [(2, 2), (2.0, 2), (1.5, [3, 2]), (0.333, [333, 1000])])
def test_a_bundle_says_what_it_reads(number: float, fact: int | list[int]) -> None:
    upsampling = Upsampling.of(number)
    assert upsampling.fact == fact
    assert Upsampling.of_fact(upsampling.fact) == upsampling


def test_a_whole_number_is_written_in_one_way() -> None:
    """Or a run whose configuration says 2.0 instead of 2 would be trained again."""
    whole, same, fraction = (config.Ctc(name="ctc", upsampling=number) for number in (2, 2.0, 1.5))
    assert whole == same == config.Ctc(name="ctc") != fraction
    for given in (whole, same):
        assert '"upsampling":2,' in given.model_dump_json()
        assert repr(given.model_dump()["upsampling"]) == repr(given.upsampling) == "2"


@torch.no_grad()
@pytest.mark.parametrize("upsampling", [0.4, 1, 1.5, 1.9, 3])
def test_a_source_has_the_same_states_alone_and_padded(upsampling: float) -> None:
    model = parallel(upsampling)
    sources = [[6, 7, 8, 9, 10, 11, 12], [9, 10, 11], [7]]
    together = padded(sources)
    states_btd, slots_b = model.decode_upsampled(together, *model.encode(together))
    for states_td, count, source in zip(states_btd, slots_b.tolist(), sources, strict=True):
        alone = padded([source])
        (expected_td,), (expected,) = model.decode_upsampled(alone, *model.encode(alone))
        assert count == expected == math.ceil(upsampling * (alone != 0).sum().item()) == len(expected_td)
        torch.testing.assert_close(states_td[:count], expected_td)


@torch.no_grad()
def test_a_fraction_and_a_whole_number_upsample_alike() -> None:
    whole, fraction = parallel(2), parallel(2)
    fraction.upsampling = Upsampling(4, 2)  # the same number, by the way of fractions
    source = padded([[6, 7, 8], [9, 10, 11, 12, 13]])
    expected, given = (model.decode_upsampled(source, *model.encode(source)) for model in (whole, fraction))
    assert torch.equal(expected[0], given[0])
    assert torch.equal(expected[1], given[1])
