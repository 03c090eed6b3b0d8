"""What is timed, in which order, and on which sentences."""

from types import SimpleNamespace

import pytest
import torch

from retort.config import Argmax, Greedy, Latency, LengthParallel
from retort.evaluation import latency
from retort.evaluation.latency import Timed, measure
from tests.unit.fakes_training import OBJECTIVES, small_model

# The name would make pytest collect it.
batches_of = latency.test_batches
TEXTS = [f"text {i}" for i in range(10)]


class Digits:
    """Stands in for a vocabulary: a token a character."""

    def encode_source(self, texts):
        return [[6 + ord(c) % 9 for c in text] for text in texts]

    def decode_target(self, tokens):
        return ["".join(map(str, ids)) for ids in tokens]


def timed(system, objective="vanilla", search=None, teacher=None):
    model = small_model(OBJECTIVES[objective]).eval()
    return Timed(system, 1, "s", search or Argmax(kind="argmax"), model, Digits(), teacher)


def test_batches_are_whole_and_skip_empty_sentences():
    assert batches_of(["a", "", " ", "b", "c"], 1, 3) == [["a"], ["b"], ["c"]]
    assert batches_of(TEXTS, 4, 10) == [TEXTS[:4], TEXTS[4:8]]
    assert batches_of(TEXTS, 3, 1) == [TEXTS[:3], TEXTS[3:6]], "two batches at least"
    assert batches_of(TEXTS[:3], 8, 100) == [TEXTS[:3]], "a lone batch may be smaller"


def test_systems_take_turns_on_each_batch_after_the_warm_up(monkeypatch):
    calls = []

    def time_batch(timed, texts):
        calls.append((timed.system, texts))
        return 1.0, 2.0

    monkeypatch.setattr(latency, "time_batch", time_batch)
    systems = [SimpleNamespace(system=name) for name in ("one", "two")]
    settings = Latency(sentences=4, batch_sizes=[2], warmup=3, repeats=2)
    timings = list(measure(systems, TEXTS, settings))
    first, second = TEXTS[:2], TEXTS[2:4]
    warm = [(name, texts) for name in ("one", "two") for texts in (first, second, first)]
    turns = [(name, texts) for texts in (first, second) for name in ("one", "two")]
    assert calls == warm + turns * 2
    assert [(t.timed.system, t.batch_size, t.batch, t.sentences) for t in timings] == [
        (name, 2, batch, 2) for batch in (0, 1, 0, 1) for name in ("one", "two")
    ]
    assert {(t.model_seconds, t.total_seconds) for t in timings} == {(1.0, 2.0)}


@pytest.mark.parametrize(
    ("objective", "search"), [("vanilla", Argmax(kind="argmax")), ("autoregressive", Greedy(kind="greedy"))]
)
def test_the_model_s_time_is_part_of_the_whole(objective, search):
    torch.set_num_threads(1)
    model_seconds, total_seconds = latency.time_batch(timed("one", objective, search), TEXTS[:3])
    assert 0 < model_seconds < total_seconds


def test_what_is_timed(monkeypatch):
    """Tokenising and detokenising count in the whole only, the search in both."""
    clock = [0.0]

    def taking(seconds, function):
        def run(*arguments):
            clock[0] += seconds
            return function(*arguments)

        return run

    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(latency, "run_search", taking(5.0, latency.run_search))
    monkeypatch.setattr(Digits, "encode_source", taking(30.0, Digits.encode_source))
    monkeypatch.setattr(Digits, "decode_target", taking(200.0, Digits.decode_target))
    assert latency.time_batch(timed("one"), TEXTS[:2]) == (5.0, 235.0)


def test_the_teacher_s_scoring_is_timed(monkeypatch):
    clock = [0.0]
    teacher = small_model(OBJECTIVES["autoregressive"]).eval()
    encode = teacher.encode

    def slowly(source_bs):
        clock[0] += 7.0
        return encode(source_bs)

    monkeypatch.setattr(teacher, "encode", slowly)
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    search = LengthParallel(kind="length_parallel", candidates=3)
    assert latency.time_batch(timed("one", search=search, teacher=teacher), TEXTS[:2]) == (7.0, 7.0)
    alone = search.model_copy(update={"rescore": False})
    assert latency.time_batch(timed("one", search=alone, teacher=teacher), TEXTS[:2]) == (0.0, 0.0)


@pytest.mark.parametrize("size", [1, 2])
def test_a_sentence_longer_than_the_model_is_timed_as_it_is_translated(size):
    """Cut, as in translating."""
    model = small_model(OBJECTIVES["vanilla"], max_length=16).eval()
    long = Timed("one", 1, "s", Argmax(kind="argmax"), model, Digits())
    assert latency.time_batch(long, ["a" * 40, "b"][:size])[0] > 0
