"""Seeds of batches: digests of integers, the same in every process and Python version.

The digest is the hash that CPython 3.8 and later give a tuple of integers, which is based on xxHash
(Objects/tupleobject.c). It is written out here so that no seed depends on an interpreter's internals.
"""

from __future__ import annotations

PRIME_1 = 11_400_714_785_074_694_791
PRIME_2 = 14_029_467_366_897_019_727
PRIME_5 = 2_870_177_450_012_600_261
LENGTH_SALT = 3_527_539
"""Constants of CPython's variant of xxHash64."""
MERSENNE = 2**61 - 1
"""CPython's hash of an integer is its remainder modulo this prime, with the integer's sign."""
MASK_64 = 2**64 - 1
MASK_63 = 2**63 - 1


def batch_seed(seed: int, update: int, part: int) -> int:
    """Seed of a batch: from 0 to 2**63 - 1.

    ``seed`` is the training's, ``update`` the update's number, ``part`` the batch's index in the update.
    """
    return digest_of_integers(seed, update, part) & MASK_63


def digest_of_integers(*values: int) -> int:
    """CPython's ``hash`` of the tuple of ``values``, as an unsigned number of 64 bits."""
    digest = PRIME_5
    for value in values:
        digest = (digest + _lane(value) * PRIME_2) & MASK_64
        digest = (digest << 31 | digest >> 33) & MASK_64
        digest = digest * PRIME_1 & MASK_64
    digest = (digest + (len(values) ^ PRIME_5 ^ LENGTH_SALT)) & MASK_64
    # CPython reserves a hash of -1 for errors
    return 1_546_275_796 if digest == MASK_64 else digest


def _lane(value: int) -> int:
    """CPython's ``hash`` of an integer."""
    remainder = abs(value) % MERSENNE
    if value < 0:
        remainder = -remainder
    return -2 if remainder == -1 else remainder
