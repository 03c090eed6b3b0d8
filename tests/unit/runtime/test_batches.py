"""How many lines an engine decodes at once."""

from threading import Barrier
from types import SimpleNamespace

import pytest

from retort.export.parity import Lines, compare
from retort.runtime.system import BATCH_SIZE, Decoded, Scored, System, by_length
from retort.runtime.translator import Translator


class Recorder(System):
    """Gives sources of one token per character back, and remembers the sizes of its batches."""

    engine = "recorder"

    def __init__(self):
        vocabulary = SimpleNamespace(
            encode_source=lambda texts: [[ord(c) for c in text] for text in texts],
            decode_target=lambda tokens: ["".join(map(chr, ids)) for ids in tokens],
            target_pieces=[],
        )
        super().__init__(vocabulary, {"kind": "none", "several": 2}, ["none"], "float32", 64, False)
        self.sizes = []

    def decode(self, sources):
        self.sizes.append(len(sources))
        return [Decoded(list(tokens), False, 1) for tokens in sources]

    outputs_key = "several"

    def decode_scored(self, sources, count):
        return [[Scored(decoded, 0.0, [])] * count for decoded in self.decode(sources)]


TEXTS = ["a" * (i % 7 + 1) for i in range(2 * BATCH_SIZE + 3)]
BOUNDED = [BATCH_SIZE, BATCH_SIZE, 3]
CALLS = {
    "translate": lambda system, **options: Translator(system).translate(TEXTS, **options),
    "n best": lambda system, **options: Translator(system).translate(TEXTS, n_best=2, **options),
    "running text": lambda system, **options: Translator(system).translate_text("\n".join(TEXTS), **options),
}


@pytest.mark.parametrize("name", CALLS)
def test_batches_are_bounded_unless_a_size_is_given(name):
    system = Recorder()
    CALLS[name](system)
    assert system.sizes == BOUNDED
    system.sizes.clear()
    CALLS[name](system, batch_size=100)
    assert system.sizes == [len(TEXTS)]


def test_the_check_of_an_export_decodes_bounded_batches():
    exact, exported = Recorder(), Recorder()
    assert compare(exact, exported, Lines("lines", TEXTS, None))[0]["changed_outputs"] == 0
    assert exact.sizes == exported.sizes == BOUNDED


@pytest.mark.parametrize("name", ["translate", "n best"])
def test_lines_that_are_decoded_one_by_one_are_decoded_at_the_same_time(name, monkeypatch):
    both = Barrier(2, timeout=30)

    class Waiting(Recorder):
        lines_at_once = 2

        def decode(self, sources):
            both.wait()
            return super().decode(sources)

    monkeypatch.setitem(globals(), "TEXTS", TEXTS[:8])
    ours, alone = (CALLS[name](system, batch_size=1) for system in (Waiting(), Recorder()))
    assert ours == alone and [translation.text for translation in ours] == TEXTS


def test_sources_of_about_the_same_length_are_decoded_together() -> None:
    lengths = [3, 40, 4, 29, 4, 31, 28, 4]
    sources = [[number] * length for number, length in enumerate(lengths)]
    groups = []

    def decode(group):
        groups.append([len(tokens) for tokens in group])
        return [tokens[0] for tokens in group]

    assert by_length(sources, decode) == list(range(len(lengths)))
    assert groups == [[40, 31], [29, 28], [4, 4, 4, 3]]
    groups.clear()
    assert by_length([[0] * 60] * 20, decode) == [0] * 20
    assert groups == [[60] * 8, [60] * 8, [60] * 4]
    groups.clear()
    assert by_length([[0] * 600, [1] * 600], decode) == [0, 1]
    assert groups == [[600], [600]]
    assert by_length([], decode) == []


def test_groups_are_decoded_at_the_same_time() -> None:
    together = Barrier(2)

    def decode(group):
        together.wait(timeout=20)
        return [tokens[0] for tokens in group]

    assert by_length([[1], [2] * 9, [3], [4] * 9], decode, at_once=2) == [1, 2, 3, 4]


def test_an_engine_that_loses_a_source_is_found() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        by_length([[1], [2]], lambda group: group[:1])
