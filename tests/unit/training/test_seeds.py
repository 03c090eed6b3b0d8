"""Seeds of batches: values that earlier versions drew from, on whichever Python."""

import random
import sys

import pytest
import torch

from retort.training.seeds import batch_seed, digest_of_integers

SEEDS = [8465923850643586596, 6028866003903340903, 3538128623017014028]


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="the hash is CPython's")
def test_the_digest_is_cpythons_hash_of_a_tuple():
    rng = random.Random(1)
    tuples = [tuple(rng.randrange(-(2**rng.randrange(1, 70)), 2**rng.randrange(1, 70)) for _ in range(rng.randrange(6)))
              for _ in range(1000)]  # fmt: skip
    tuples += [(), (-1,), (0,), (2**61 - 1,), (2**61,), (-(2**61),)]
    assert all(digest_of_integers(*values) == hash(values) & (2**64 - 1) for values in tuples)
    trainings = [(rng.randrange(10_000), rng.randrange(10**6), rng.randrange(64)) for _ in range(1000)]
    assert all(batch_seed(*values) == hash(values) & (2**63 - 1) for values in trainings)


def test_seeds_do_not_change_and_torch_accepts_them():
    assert [batch_seed(1, 1, 0), batch_seed(1, 2, 0), batch_seed(2, 1, 3)] == SEEDS
    for seed in SEEDS:
        assert torch.Generator().manual_seed(seed).initial_seed() == seed
