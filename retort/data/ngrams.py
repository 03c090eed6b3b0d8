"""An n-gram model of target tokens: a sorted table.

The model is interpolated (``retort.data.ngram_counts``), so the longest n-gram in the table gives the probability,
times the weight of each longer context that was seen with other tokens alone (``retort.search.ngram_scores``). An
n-gram is one 64-bit key: the ids of its tokens, plus 1, in 16 bits each, the last token in the lowest. So the n-grams
that continue a context are neighbours. This module needs numpy alone, because exported systems use it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.lib.format import MAGIC_PREFIX, read_array

from retort.data.files import read_bytes
from retort.errors import RetortError

BITS = 16
MAX_ORDER = 64 // BITS


# arrays have no hash, and scorers are kept by model
@dataclass(frozen=True, eq=False)
class NgramModel:
    """Log-probabilities of tokens given up to ``order`` - 1 tokens before them, in nats."""

    order: int
    floor: float
    """Log-probability of a token that was never seen, before the weights of the contexts."""
    keys: np.ndarray
    """uint64, ascending; the first is that of the empty context."""
    log_probs: np.ndarray
    """float32; -inf for what is a context alone."""
    weights: np.ndarray
    """float32: log of the weight that shorter contexts have behind this one; 0 where nothing follows."""
    vocabulary: str = ""
    """Digest of the vocabulary that the tokens are of; empty if it is not known."""

    @classmethod
    def empty(cls) -> Self:
        """A model without n-grams, for which no token is improbable."""
        nothing = np.zeros(1, np.float32)
        return cls(1, 0.0, keys=np.zeros(1, np.uint64), log_probs=nothing, weights=nothing)

    @cached_property
    def first_continuations(self) -> np.ndarray:
        """uint32 [contexts + 1]: where the continuations of each context begin in the table, and the table's end.

        Contexts are the n-grams that are shorter than ``order``, in the table's order. A context's continuations end
        where those of the next one begin.
        """
        contexts = self.keys[: self.keys.searchsorted(np.uint64(1 << BITS * (self.order - 1)))]
        return np.append(self.keys.searchsorted(contexts << np.uint64(BITS)), len(self.keys)).astype(np.uint32)

    def to_bytes(self) -> bytes:
        """The content of a file: five arrays in the format of numpy, and a digest of them."""
        file = io.BytesIO()
        vocabulary = np.frombuffer(self.vocabulary.encode(), np.uint8)
        for array in (np.array([self.order, self.floor]), self.keys, self.log_probs, self.weights, vocabulary):
            np.save(file, array)
        content = file.getvalue()
        return content + hashlib.sha256(content).digest()


def load_ngrams(path: str) -> NgramModel:
    """The model in a file, which is read once while it is the same. Raises RetortError if it is none."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return _read(path, (facts.st_mtime_ns, facts.st_size, facts.st_ino))


@lru_cache(maxsize=4)
def _read(path: str, _identity: tuple[int, int, int]) -> NgramModel:
    """The same; ``_identity`` is another for another file under the same name."""
    try:
        file = io.BytesIO(read_bytes(Path(path)))
        facts, keys, log_probs, weights = (read_array(file, allow_pickle=False) for _ in range(4))
        # early tables have no vocabulary, the earliest no digest
        named = file.getvalue()[file.tell() :].startswith(MAGIC_PREFIX)
        vocabulary = read_array(file, allow_pickle=False) if named else np.zeros(0, np.uint8)
        content, digest = file.getvalue()[: file.tell()], file.read()
        if digest and digest != hashlib.sha256(content).digest():
            raise ValueError("another SHA-256 than at its end")
        order = int(facts[0])
        kinds = [(array.dtype, array.shape) for array in (keys, log_probs, weights)]
        if not 1 <= order <= MAX_ORDER or kinds != [
            (kind, (len(keys),)) for kind in (np.uint64, np.float32, np.float32)
        ]:
            raise ValueError("its arrays are no n-grams")
        if (
            not len(keys)
            or np.any(keys[1:] <= keys[:-1])
            or any(np.isnan(a).any() for a in (facts, log_probs, weights))
        ):
            raise ValueError("its numbers are no n-grams")
        digest_of_pieces = vocabulary.tobytes().decode()
        return NgramModel(
            order, float(facts[1]), keys=keys, log_probs=log_probs, weights=weights, vocabulary=digest_of_pieces
        )
    except (OSError, ValueError, EOFError, LookupError, TypeError, OverflowError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> RetortError:
    return RetortError(
        f"{path}: cannot be read as a table of n-grams ({error}); the rule count_ngrams makes it: run it again"
    )


def table_of(search: Mapping[str, Any]) -> str | None:
    """The table that a search, a complete section of the configuration, takes n-grams from; None: it takes none.

    Raises RetortError where it needs a table and names none.
    """
    if not search.get("lm_weight"):
        return None
    if not search["table"]:
        raise RetortError(
            f"search {search['kind']} needs a table of n-grams, which the workflow's rule count_ngrams makes; name it "
            f"as table, or set lm_weight to 0"
        )
    return str(search["table"])


def check_ngrams(search: Mapping[str, Any], vocabulary: str) -> None:
    """Raises RetortError if a search, a complete section of the configuration, lacks its n-grams, or if they were
    counted with another vocabulary than the one with this digest."""
    table = table_of(search)
    if table and load_ngrams(table).vocabulary not in ("", vocabulary):
        raise RetortError(
            f"{table}: these n-grams were counted with another vocabulary than the model's; count them in a run with "
            f"the model's vocabulary (vocabulary.path), and name that table as table"
        )
