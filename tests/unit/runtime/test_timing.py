"""What is timed, in which order, and on which sentences."""

from types import SimpleNamespace

import pytest

from retort.config import Latency
from retort.runtime import timing
from retort.runtime.system import Decoded, Scored, System
from retort.runtime.timing import Timed, Times, Timing, changed_outputs, measure, time_batch
from retort.search.ngram_scores import scorer_of

# The name would make pytest collect it.
batches_of = timing.test_batches
TEXTS = [f"text {i}" for i in range(10)]


class Clock:
    """Time that passes when somebody says so; the processor works half of it."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def process_time(self):
        return self.now / 2


class Digits:
    """Stands in for a vocabulary: a token per character; encoding takes 30 seconds, decoding 200."""

    def __init__(self, clock):
        self.clock = clock

    def encode_source(self, texts):
        self.clock.now += 30
        return [[6 + ord(c) % 9 for c in text] for text in texts]

    def decode_target(self, tokens):
        self.clock.now += 200
        return ["".join(map(str, ids)) for ids in tokens]


class Echo(System):
    """Gives the source back, in 5 seconds; remembers what it was given."""

    engine = "echo"

    def __init__(self, clock, max_length=64):
        super().__init__(Digits(clock), {"kind": "none"}, ["none"], "float32", max_length, False)
        self.clock, self.given = clock, []

    def decode(self, sources):
        self.clock.now += 5
        self.given.append(sources)
        return [Decoded(tokens, False, 1) for tokens in sources]

    outputs_key = None

    def decode_scored(self, sources, count):
        return [[Scored(decoded, 0.0, [0.0] * len(decoded.tokens))] for decoded in self.decode(sources)]


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


def test_batches_are_whole_and_skip_empty_sentences():
    assert batches_of(["a", "", " ", "b", "c"], 1, 3) == [["a"], ["b"], ["c"]]
    assert batches_of(TEXTS, 4, 10) == [TEXTS[:4], TEXTS[4:8]]
    assert batches_of(TEXTS, 3, 1) == [TEXTS[:3], TEXTS[3:6]], "two batches at least"
    assert batches_of(TEXTS, 3, 7) == [TEXTS[:3], TEXTS[3:6], TEXTS[6:9]], "rounded up"
    assert batches_of(TEXTS[:3], 8, 100) == [TEXTS[:3]], "a lone batch may be smaller"


def test_a_sentence_without_tokens_is_not_decoded(clock):
    system = Echo(clock)
    system.vocabulary.encode_source = lambda texts: [[6] if text == "a" else [] for text in texts]
    assert time_batch(system, ["a", "\u200b"]).outputs == [[6], []]
    assert time_batch(system, ["\u200b"]).outputs == [[]]
    assert system.given == [[[6]]]


@pytest.fixture
def calls(monkeypatch):
    """Which system decoded what."""
    made = []

    def time_one(system, texts):
        made.append((system.name, texts))
        return Times(1.0, 2.0, 0.5, 7, [[1], [2, 3]])

    monkeypatch.setattr(timing, "time_batch", time_one)
    return made


def systems_of(*names):
    loaded = [SimpleNamespace(name=name, engine="torch", precision="float32", has_shortlist=False) for name in names]
    return [Timed(each.name, 1, "s", each) for each in loaded]


def test_systems_take_turns_after_the_warm_up(calls):
    systems = systems_of("one", "two")
    settings = Latency(sentences=4, batch_sizes=[2], warmup=3, repeats=2, turn=2)
    timings = list(measure(systems, TEXTS, settings))
    first, second = TEXTS[:2], TEXTS[2:4]
    warm = [(name, texts) for name in ("one", "two") for texts in (first, second, first)]
    turns = [(name, texts) for texts in (first, second) for name in ("one", "two")]
    assert calls == warm + turns * 2
    assert [(t.timed.system, t.batch_size, t.batch) for t in timings] == [
        (name, 2, batch) for batch in (0, 1, 0, 1) for name in ("one", "two")
    ]
    assert timings[0].row() == {
        "system": "one",
        "seed": 1,
        "search": "s",
        "engine": "torch",
        "precision": "float32",
        "batch_size": 2,
        "batch": 0,
        "sentences": 2,
        "source_characters": 12,
        "source_tokens": 7,
        "target_tokens": 3,
        "model_seconds": 1.0,
        "total_seconds": 2.0,
        "processor_seconds": 0.5,
    }


def test_no_turn_finds_scores_of_n_grams_of_the_same_sentences(monkeypatch):
    """The second engine, and the second repeat, would find all of them."""
    kept = []

    def time_one(system, texts):
        scorer = scorer_of({"table": None, "lm_weight": 0.0, "token_bonus": 0.0})
        context = scorer.start()
        kept.append(len(context.scores))
        for text in texts:
            scorer.score(context, 6 + TEXTS.index(text))
        return Times(1.0, 2.0, 0.5, 7, [[1], [2, 3]])

    monkeypatch.setattr(timing, "time_batch", time_one)
    settings = Latency(sentences=4, batch_sizes=[1], warmup=1, repeats=2, turn=2)
    list(measure(systems_of("one", "two"), TEXTS, settings))
    assert kept == [0, 1] + [0, 1] * 2 * 2 * 2


def test_a_turn_is_so_many_sentences_and_at_least_a_batch(calls):
    settings = Latency(sentences=5, batch_sizes=[1, 4], warmup=1, turn=3)
    timings = list(measure(systems_of("one", "two"), TEXTS, settings))
    assert [(t.timed.system, t.batch) for t in timings if t.batch_size == 1] == [
        *(("one", 0), ("one", 1), ("one", 2), ("two", 0), ("two", 1), ("two", 2)),
        *(("one", 3), ("one", 4), ("two", 3), ("two", 4)),
    ]
    assert [(t.timed.system, t.batch) for t in timings if t.batch_size == 4] == [
        (name, batch) for batch in (0, 1) for name in ("one", "two")
    ]


def test_what_is_timed(clock):
    """Tokenising and detokenising count in the whole only, the search in both."""
    times = time_batch(Echo(clock), ["abc", "de"])
    assert (times.model_seconds, times.total_seconds, times.processor_seconds) == (5.0, 235.0, 117.5)
    assert times.source_tokens == 5 and list(map(len, times.outputs)) == [3, 2]


def test_a_batch_is_decoded_at_once_and_long_sentences_are_cut_as_in_translating(clock):
    system = Echo(clock, max_length=16)
    time_batch(system, ["a" * 40, "b"])
    assert [list(map(len, sources)) for sources in system.given] == [[15, 1]]


def test_changed_outputs_are_counted_where_torch_decoded_the_same_sentences():
    def decoded(engine, batch, tokens, size=1):
        timed = Timed("a", 1, "s", SimpleNamespace(engine=engine, precision="int8", has_shortlist=False))
        return Timing(timed, size, batch, ["text"], Times(1.0, 1.0, 1.0, 1, [tokens]))

    timings = [decoded("torch", 0, [7]), decoded("torch", 1, [8]), decoded("onnx", 0, [7]), decoded("onnx", 1, [9])]
    facts = {"system": "a", "seed": 1, "search": "s", "engine": "onnx", "sentences": 2, "changed": 1}
    assert changed_outputs([*timings, decoded("onnx", 0, [5], size=4)]) == [facts]
    assert changed_outputs(timings[2:]) == []


def test_the_size_of_a_directory_is_that_of_its_files(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "b").write_bytes(b"123")
    assert timing.directory_bytes(tmp_path) == 5
    load = timing.machine_load()
    assert load is None or load >= 0
