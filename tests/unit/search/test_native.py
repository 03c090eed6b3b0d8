"""The compiled searches, against those in Python."""

from __future__ import annotations

import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from retort.data.batches import Ragged
from retort.data.ngram_counts import NgramCounter
from retort.data.vocabulary import EOS
from retort.search import native
from retort.search.candidates import most_probable, most_probable_pairs
from retort.search.graph_beam import Successors, graph_beam, most_probable_successors, plain_graph_beam
from retort.search.ngram_scores import Pruning, Scorer
from retort.search.prefix_beam import plain_prefix_beam, prefix_beam, slots_of

TOKENS = 60


def test_it_is_built_where_there_is_a_compiler() -> None:
    command = [*(sysconfig.get_config_var("CC") or "cc").split(), "-fsyntax-only", "-x", "c", "-"]
    try:
        subprocess.run(command, input=b"#include <math.h>", check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler: {error}")
    assert native.library() is not None, "install the checkout again: `pip install --no-deps --editable .`"


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    rng = np.random.default_rng(1)
    counter = NgramCounter(4, 100_000)
    # few distinct n-grams, most of which were seen, and many which were not
    counter.add(Ragged.from_lists([(6 + rng.geometric(0.1, 12) % TOKENS).tolist() for _ in range(2_000)]))
    return Scorer(counter.model(6 + TOKENS), 0.4, 1.5)


def arguments(seed: int, pruning: Pruning) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of slots that are unsure, some of which have no candidate."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(TOKENS + 1, 0.05), 5 + seed % 40).astype(np.float32)
    with np.errstate(divide="ignore"):
        log_probs = np.log(probs[:, 1:])
    row, column = most_probable(log_probs, pruning.candidates, pruning.min_share, np.log(probs.max(1)))
    return probs[:, 0], row, 6 + column, log_probs[row, column]


def graph(seed: int, pruning: Pruning) -> Successors:
    """Of a graph whose vertices are unsure, some of which have no successor. In each third one many are equal."""
    rng = np.random.default_rng(seed)
    vertices, w = 2 + 2 * (seed % 30), pruning.candidates
    probs = rng.dirichlet(np.full(TOKENS, 0.05), vertices).astype(np.float32)
    ahead = np.arange(vertices) - np.arange(vertices)[:, None]
    transitions = (rng.gamma(0.3, 1.0, ahead.shape) * np.exp(-ahead / 3) * (ahead > 0)).astype(np.float32)
    token_jw = np.argsort(-probs, 1)[:, :w]
    prob_jw = np.take_along_axis(probs, token_jw, 1)
    with np.errstate(divide="ignore"):
        log_prob_jw, log_transitions_ij = np.log(prob_jw), np.log(transitions)
    if seed % 3 == 0:
        log_prob_jw, log_transitions_ij = np.ceil(log_prob_jw), np.ceil(log_transitions_ij)
    token_jw += 6
    token_jw[-1, 0], log_prob_jw[-1] = EOS, [-0.1, *[-np.inf] * (w - 1)]
    return most_probable_successors(log_transitions_ij, log_prob_jw, token_jw, pruning)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("beam_size", [1, 10, 50])
@pytest.mark.parametrize("threshold", [3.0, np.inf])
def test_both_find_the_same(scorer: Scorer, beam_size: int, threshold: float) -> None:
    pruning = Pruning(beam_size, 8, 0.001, threshold)
    for seed in range(30):
        given = arguments(seed, pruning)
        text, score = plain_prefix_beam(slots_of(*given), scorer, pruning)
        assert prefix_beam(*given, scorer=scorer, pruning=pruning) == (text, pytest.approx(score, abs=1e-9)), seed


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("beam_size", [1, 4, 10, 50])
@pytest.mark.parametrize(("min_share", "threshold"), [(0.0, 3.0), (0.003, 6.0), (0.0, np.inf)])
@pytest.mark.parametrize("with_ngrams", [True, False])
def test_both_find_the_same_in_a_graph(
    scorer: Scorer, beam_size: int, min_share: float, threshold: float, with_ngrams: bool
) -> None:
    pruning = Pruning(beam_size, 5, min_share, threshold)
    scorer = scorer if with_ngrams else Scorer(None, 0.0, 0.3)
    for seed in range(30):
        successors, limit = graph(seed, pruning), 1 + seed
        text, score = plain_graph_beam(successors, scorer, limit, pruning)
        assert graph_beam(successors, scorer, limit, pruning) == (text, pytest.approx(score, abs=1e-9)), seed


def scores(seed: int, rows: int, columns: int) -> np.ndarray:
    """Float32, part of a larger array; in each third one many are equal, some are -inf, and all of the last row."""
    values = np.random.default_rng(seed).normal(0, 2, (rows, columns + 3)).astype(np.float32)[:, :columns]
    if seed % 3 == 0:
        values[:] = np.ceil(values)
    values[values < -3] = -np.inf
    values[-1] = -np.inf
    return values


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("count", [1, 10, 90, 1000])
@pytest.mark.parametrize("min_share", [0.0, 0.003, 1.0])
def test_both_choose_the_same_pairs(count: int, min_share: float) -> None:
    for seed in range(12):
        vertices = 2 + 5 * seed
        transitions, tokens = scores(seed, vertices, vertices), scores(99 + seed, vertices, 4)
        both = (transitions[:, :, None] + tokens).reshape(vertices, -1)
        expected = most_probable(both, count, min_share)
        for given in (transitions, transitions.copy(), transitions.T.copy().T):
            found = most_probable_pairs(given, tokens, count, min_share)
            assert [x.tolist() for x in found] == [x.tolist() for x in expected], seed


@pytest.mark.usefixtures("compiled")
def test_no_slots_have_an_empty_text(scorer: Scorer) -> None:
    nothing, none = np.zeros(0), np.zeros(0, np.int64)
    text, score = prefix_beam(nothing, none, none, nothing, scorer=scorer, pruning=Pruning(3, 5, 0, 1))
    assert text == [] and score == pytest.approx(plain_prefix_beam([], scorer, Pruning(3, 5, 0, 1))[1])


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("kind", ["slots", "graph"])
def test_threads_search_at_once(scorer: Scorer, kind: str) -> None:
    pruning = Pruning(10, 8, 0.001, 5.0)

    def search(seed: int) -> tuple[list[int], float]:
        if kind == "graph":
            return graph_beam(graph(seed, pruning), scorer, 40, pruning)
        return prefix_beam(*arguments(seed, pruning), scorer=scorer, pruning=pruning)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(search, range(100))) == list(map(search, range(100)))


@pytest.mark.usefixtures("compiled")
def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    native.library.cache_clear()
    monkeypatch.setattr(native, "VERSION", -1)
    try:
        assert native.library() is None
    finally:
        native.library.cache_clear()
