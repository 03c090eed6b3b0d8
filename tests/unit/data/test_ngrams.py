"""The n-gram model of target tokens, against a plain one of dictionaries."""

from collections import Counter, defaultdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from retort.config.search import MAX_NGRAM_VOCABULARY
from retort.data.batches import Ragged
from retort.data.ngram_counts import NgramCounter
from retort.data.ngrams import BITS, NgramModel, check_ngrams, load_ngrams
from retort.data.vocabulary import BOS, EOS
from retort.errors import RetortError
from retort.search.ngram_scores import Scorer, scorer_of

VOCABULARY = 12


def sentences(count: int, seed: int = 0) -> list[list[int]]:
    draws = np.random.default_rng(seed)
    return [draws.integers(6, VOCABULARY, draws.integers(0, 7)).tolist() for _ in range(count)]


class Plain:
    """Interpolated Kneser-Ney from its definition."""

    def __init__(self, texts: list[list[int]], order: int) -> None:
        bordered = [(BOS, *text, EOS) for text in texts]
        self.order = order
        raw: Counter[tuple[int, ...]] = Counter(
            text[i : i + n] for text in bordered for n in range(1, order + 1) for i in range(len(text) - n + 1)
        )
        self.counts: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
        for ngram, count in raw.items():
            if len(ngram) == order or ngram[0] == BOS:
                self.counts[len(ngram)][ngram] += count
            if len(ngram) > 1:
                self.counts[len(ngram) - 1][ngram[1:]] += 1
        for n in range(2, order):
            for ngram in [g for g in self.counts[n] if g[0] != BOS]:
                self.counts[n][ngram] = sum(1 for longer in raw if len(longer) == n + 1 and longer[1:] == ngram)
        if order > 1:
            self.counts[1] = Counter(
                {(token,): sum(1 for g in raw if len(g) == 2 and g[1] == token) for token in range(VOCABULARY)}
            )
        self.counts[1].pop((BOS,), None)

    def prob(self, context: tuple[int, ...], token: int) -> float:
        context = context[max(0, len(context) - self.order + 1) :]
        return self._prob(context, token)

    def _prob(self, context: tuple[int, ...], token: int) -> float:
        shorter = self._prob(context[1:], token) if context else 1 / VOCABULARY
        counts = {g: c for g, c in self.counts[len(context) + 1].items() if c}
        ones, twos = (sum(1 for c in counts.values() if c == k) for k in (1, 2))
        discount = ones / (ones + 2 * twos) if ones and twos else 0.5
        followers = {g[-1]: c for g, c in counts.items() if g[:-1] == context}
        total = sum(followers.values())
        if not total:
            return shorter
        own = max(followers.get(token, 0) - discount, 0) / total
        return own + discount * len(followers) / total * shorter


def counted(texts: list[list[int]], order: int, most: int = 10**6, parts: int = 1) -> NgramModel:
    counter = NgramCounter(order, most)
    for part in range(parts):
        counter.add(Ragged.from_lists(texts[part::parts]))
    return counter.model(VOCABULARY)


def probabilities(model: NgramModel, context: list[int]) -> np.ndarray:
    """p of every token after bos and the context."""
    scorer = Scorer(model, 1.0, 0.0)
    behind = scorer.start()
    for token in context:
        behind = scorer.extended(behind, token)
    return np.exp([scorer.score(behind, token) for token in range(VOCABULARY)])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_interpolated_kneser_ney(order: int) -> None:
    texts = sentences(25)
    plain, model = Plain(texts, order), counted(texts, order, parts=3)
    for context in [[], texts[1][:1], texts[2][:2], texts[3][:3], [11, 6, 11, 6], texts[4]]:
        found = probabilities(model, context)
        expected = [plain.prob((BOS, *context), token) for token in range(VOCABULARY)]
        assert found.tolist() == pytest.approx(expected, rel=1e-4), context
        assert found.sum() == pytest.approx(1, rel=1e-4)


def test_the_ids_of_the_largest_vocabulary_fit_into_a_key() -> None:
    assert MAX_NGRAM_VOCABULARY == (1 << BITS) - 2


def test_the_rarest_of_the_longest_are_dropped_where_there_is_no_room() -> None:
    texts = sentences(200, seed=1)
    everything, few = counted(texts, 3, parts=4), counted(texts, 3, most=150, parts=4)
    assert len(few.keys) < 200 < len(everything.keys)
    for context in [[], [7], [8, 9], [9, 9, 6]]:
        assert probabilities(few, context).sum() == pytest.approx(1, rel=1e-4)


FACTS, KEYS, ZEROS = np.array([2.0, 0.0]), np.arange(5, dtype=np.uint64), np.zeros(5, np.float32)
OTHERS = {
    "another order": (np.array([9.0, 0.0]), KEYS, ZEROS, ZEROS),
    "no order": (np.array([np.nan, 0.0]), KEYS, ZEROS, ZEROS),
    "lengths": (FACTS, KEYS, ZEROS[:2], ZEROS),
    "descending": (FACTS, KEYS[::-1].copy(), ZEROS, ZEROS),
    "a matrix": (FACTS, KEYS[:, None], ZEROS, ZEROS),
    "other keys": (FACTS, KEYS.astype(float), ZEROS, ZEROS),
    "no number": (FACTS, KEYS, ZEROS * np.nan, ZEROS),
    "nothing": (FACTS, KEYS[:0], ZEROS[:0], ZEROS[:0]),
}


def test_a_file_holds_the_model_and_other_files_are_named(tmp_path: Path) -> None:
    model = counted(sentences(20), 2)
    path = tmp_path / "table.ngrams"
    path.write_bytes(model.to_bytes())
    assert probabilities(load_ngrams(str(path)), [7]).tolist() == probabilities(model, [7]).tolist()
    whole = model.to_bytes()
    for place in [*range(0, len(whole), 97), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (tmp_path / f"flipped{place}").write_bytes(damaged)
        with pytest.raises(RetortError, match=f"flipped{place}: cannot be read as a table of n-grams"):
            load_ngrams(str(tmp_path / f"flipped{place}"))
    for name, arrays in OTHERS.items():
        with open(tmp_path / name, "wb") as file:
            for array in arrays:
                np.save(file, array)
        with pytest.raises(RetortError, match=f"{name}: cannot be read as a table of n-grams"):
            load_ngrams(str(tmp_path / name))
    # as tables were before they had a vocabulary, and before they had a digest
    unnamed = whole[: whole.rindex(b"\x93NUMPY")]
    for name, content in (("early", unnamed + sha256(unnamed).digest()), ("earliest", unnamed)):
        (tmp_path / name).write_bytes(content)
        early = load_ngrams(str(tmp_path / name))
        assert early.order == model.order and not early.vocabulary
    (tmp_path / "other").write_text("no table")
    with pytest.raises(RetortError, match="other: cannot be read as a table of n-grams"):
        load_ngrams(str(tmp_path / "other"))


def test_a_table_is_read_once_and_again_when_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "table.ngrams"
    options = {"kind": "ctc_beam", "table": str(path), "lm_weight": 0.3, "token_bonus": 0.0}
    first, second = counted(sentences(20), 2), counted(sentences(30, seed=1), 3)
    path.write_bytes(first.to_bytes())
    scorer = scorer_of(options)
    assert load_ngrams(str(path)) is load_ngrams(str(path)) and scorer_of(options) is scorer
    assert scorer_of(options | {"token_bonus": 1.0}) is not scorer
    path.write_bytes(second.to_bytes())
    assert load_ngrams(str(path)).order == 3
    found, expected = scorer_of(options), Scorer(second, 0.3, 0.0)
    assert found.score(found.start(), 7) == expected.score(expected.start(), 7) != scorer.score(scorer.start(), 7)


def test_a_table_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    counter = NgramCounter(2, 1000)
    counter.add(Ragged.from_lists(sentences(20)))
    own, unnamed = tmp_path / "own.ngrams", tmp_path / "unnamed.ngrams"
    own.write_bytes(counter.model(VOCABULARY, "aa11").to_bytes())
    unnamed.write_bytes(counter.model(VOCABULARY).to_bytes())
    for path, weight, vocabulary in ((own, 0.3, "aa11"), (own, 0, "bb22"), (unnamed, 0.3, "bb22"), (None, 0, "bb22")):
        check_ngrams({"table": path and str(path), "lm_weight": weight}, vocabulary)
    check_ngrams({"kind": "ctc_collapse"}, "bb22")
    with pytest.raises(RetortError, match=r"own\.ngrams: these n-grams were counted with another vocabulary"):
        check_ngrams({"table": str(own), "lm_weight": 0.3}, "bb22")
    with pytest.raises(RetortError, match="search ctc_beam needs a table of n-grams, .* set lm_weight to 0"):
        check_ngrams({"kind": "ctc_beam", "table": None, "lm_weight": 0.3}, "bb22")


def test_frequent_n_grams_are_dropped_too_where_there_is_no_room():
    assert len(counted(sentences(200, seed=1) * 3, 3, most=150).keys) < 200


def test_what_is_seen_once_counts_half_where_nothing_is_seen_twice() -> None:
    texts = [[6, 7, 8], [9]]
    plain, model = Plain(texts, 2), counted(texts, 2)
    for context in [], [6], [8]:
        expected = [plain.prob((BOS, *context), token) for token in range(VOCABULARY)]
        assert probabilities(model, context).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("most", "lengths", "dropped"), [(16, [5, 6, 5], 0), (11, [5, 6, 0], 5), (10, [5, 1, 0], 10), (1, [5, 0, 0], 11)]
)
def test_the_longest_are_dropped_first_and_single_tokens_never(most: int, lengths: list[int], dropped: int) -> None:
    counter = NgramCounter(3, most)
    counter.add(Ragged.from_lists([[6, 7, 6, 7], [8]]))
    assert [len(keys) for keys, _ in counter._tables] == lengths
    assert (counter.tokens, counter.dropped) == (5, dropped)


def test_a_score_is_the_weight_times_the_log_probability_and_eos_has_no_bonus():
    model = counted(sentences(25), 3)
    one, half = Scorer(model, 1.0, 0.0), Scorer(model, 0.5, 2.0)
    behind = [scorer.extended(scorer.extended(scorer.start(), 11), 6) for scorer in (one, half)]
    for token in range(VOCABULARY):
        expected = 0.5 * one.score(behind[0], token) + (0.0 if token == EOS else 2.0)
        assert half.score(behind[1], token) == pytest.approx(expected, abs=1e-5)
    bonus = Scorer(None, 0.0, 2.0)
    assert [bonus.score(bonus.start(), token) for token in (EOS, 6)] == [0.0, 2.0]
