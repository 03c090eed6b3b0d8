import itertools
import math
import random
from types import SimpleNamespace

import pytest
import torch

from retort import config
from retort.data.vocabulary import BLANK, BOS, EOS, MASK, PAD, UNK
from retort.search.base import Hypothesis, run_search
from retort.search.beam import largest
from retort.search.decoding import decode_texts
from tests.unit.fakes_models import (
    VOCABULARY,
    FakeAutoregressive,
    FakeParallel,
    assert_decoded_as_alone,
    autoregressive,
    dag_model,
    padded,
    parallel,
    recurrent,
    sentences,
    tiny_shape,
)

ONE = padded([[7]])
SEARCHES = {
    "greedy": (config.Greedy(kind="greedy"), autoregressive),
    "beam": (config.Beam(kind="beam", beam_size=3), autoregressive),
    "greedy, recurrent": (config.Greedy(kind="greedy"), recurrent),
    "beam, recurrent": (config.Beam(kind="beam", beam_size=3), recurrent),
    "argmax": (config.Argmax(kind="argmax", length_beam=2), parallel),
    "mask_predict": (config.MaskPredict(kind="mask_predict", iterations=4, length_beam=3), parallel),
    "mask_predict, confident": (
        config.MaskPredict(kind="mask_predict", iterations=10, length_beam=2, confidence=0.1),
        parallel,
    ),
    "ctc_collapse": (config.CtcCollapse(kind="ctc_collapse"), lambda seed: parallel(2, seed)),
    "dag_path": (config.DagPath(kind="dag_path"), lambda seed: dag_model(4, seed)),
    "joint_viterbi": (config.JointViterbi(kind="joint_viterbi"), lambda seed: dag_model(4, seed)),
}


def beam(size: int, penalty: float = 0.0) -> config.Beam:
    return config.Beam(kind="beam", beam_size=size, length_penalty=penalty)


def table(seed: int, vocabulary: int = 9, limit: int = 3) -> FakeAutoregressive:
    """Random probabilities for each prefix, the special tokens' included; at most ``limit`` tokens."""

    def probabilities(prefix: tuple[int, ...]) -> list[float]:
        generator = random.Random(f"{seed} {prefix}")
        weights = [generator.expovariate(1) for _ in range(vocabulary)]
        return [w / sum(weights) for w in weights]

    return FakeAutoregressive(probabilities, max_length=limit + 1)


def log_prob(model: FakeAutoregressive, tokens: list[int]) -> float:
    return sum(math.log(model.probabilities(tuple(tokens[:i]))[token]) for i, token in enumerate(tokens))


def constant(**probabilities: float) -> list[float]:
    """A distribution over ten tokens by name; the rest is spread over the others."""
    names = {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK, "mask": MASK, "blank": BLANK, "a": 6, "b": 7}
    given = {names[name]: p for name, p in probabilities.items()}
    return [given.get(token, (1 - sum(given.values())) / (10 - len(given))) for token in range(10)]


def found(model: object, source_bs: torch.Tensor, options: object) -> list[list[tuple[list[int], bool, int]]]:
    return [[(h.tokens, h.truncated, h.passes) for h in best] for best in run_search(model, source_bs, options)]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_batch_of_eight_gives_what_eight_batches_of_one_give(name):
    options, build = SEARCHES[name]
    model = build(seed=1)
    if name in ("greedy", "beam"):
        # eos must be likely enough for some sentences to end before others
        model.embeddings.output.data[EOS] *= 1.5
    lists = sentences([3, 12, 1, 7, 9, 2, 5, 11], seed=3)
    together = assert_decoded_as_alone(model, lists, options)
    assert len({tuple(best[0].tokens) for best in together}) > 2
    if name in ("greedy", "beam"):
        assert len({best[0].passes for best in together}) > 2


@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_a_beam_of_one(seed):
    model, source = autoregressive(seed), padded(sentences([3, 9, 6, 1, 4], seed))
    model.embeddings.output.data[EOS] *= 1.2
    greedy = config.Greedy(kind="greedy")
    assert found(model, source, greedy) == found(model, source, beam(1))
    for (ours,), (theirs,) in zip(run_search(model, source, greedy), run_search(model, source, beam(1)), strict=True):
        assert ours.score == pytest.approx(theirs.score, rel=1e-5)


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("n", [7, 64, 160, 163, 175])
def test_the_largest_are_those_of_a_whole_row(n, count):
    generator = torch.Generator().manual_seed(n)
    # in the first row they are the last columns, and in the third one most are equal
    rows = torch.stack([torch.arange(float(n)), torch.randn(n, generator=generator), torch.ones(n)])
    rows[2, -1] = 2
    count = min(count, n)
    values, columns = largest(rows, count)
    assert torch.equal(values, rows.topk(count, dim=1).values)
    assert torch.equal(rows.gather(1, columns), values)
    assert all(len(set(chosen)) == count for chosen in columns.tolist())


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_that_holds_everything_is_exhaustive(seed, penalty):
    model = table(seed)
    texts = [list(t) for n in range(4) for t in itertools.product([6, 7, 8], repeat=n)]
    scores = {tuple(t): log_prob(model, [*t, EOS]) / ((5 + len(t) + 1) / 6) ** penalty for t in texts}
    expected = sorted(scores, key=lambda t: -scores[t])
    # at the last step 27 prefixes have 4 continuations each
    best = run_search(model, ONE, beam(27 * 4, penalty))[0]
    assert [tuple(h.tokens) for h in best] == expected
    assert [h.score for h in best] == pytest.approx([scores[t] for t in expected], rel=1e-5)
    assert not any(h.truncated for h in best)


def plain_beam(model: FakeAutoregressive, k: int, penalty: float, limit: int) -> list[tuple[list[int], float]]:
    """Beam search without any early stop: finished hypotheses of all lengths, best first."""
    beams: list[tuple[list[int], float]] = [([], 0.0)]
    finished: list[tuple[list[int], float]] = []
    for step in range(1, limit + 2):
        extended = [
            ([*tokens, token], score + math.log(model.probabilities(tuple(tokens))[token]))
            for tokens, score in beams
            for token in (EOS, 6, 7, 8)
        ]
        extended.sort(key=lambda candidate: -candidate[1])
        ends = [(t[:-1], score / ((5 + step) / 6) ** penalty) for t, score in extended[:k] if t[-1] == EOS]
        finished += ends
        beams = [candidate for candidate in extended if candidate[0][-1] != EOS][:k]
    return sorted(finished, key=lambda candidate: -candidate[1])[:k]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_stopping_early_loses_nothing(k, penalty):
    stopped = 0
    for seed in range(15):
        model = table(seed, limit=6)
        expected = plain_beam(model, k, penalty, limit=6)
        best = run_search(model, ONE, beam(k, penalty))[0]
        complete = [h for h in best if not h.truncated]
        assert [h.tokens for h in complete] == [tokens for tokens, _ in expected]
        assert [h.score for h in complete] == pytest.approx([score for _, score in expected], rel=1e-5)
        stopped += len(complete) == k
    assert stopped > 5


def test_an_n_best_list_is_sorted_and_distinct():
    for seed in (0, 1, 3):
        for best in run_search(autoregressive(seed), padded(sentences([3, 9, 6])), beam(5, 1.0)):
            assert len(best) == len({tuple(h.tokens) for h in best}) == 5
            assert [(h.truncated, -h.score) for h in best] == sorted((h.truncated, -h.score) for h in best)


def test_the_length_penalty_counts_eos():
    def probabilities(prefix: tuple[int, ...]) -> list[float]:
        return constant(a=0.9) if len(prefix) < 6 else constant(eos=0.8)

    model = FakeAutoregressive(probabilities, max_length=40)
    for penalty in (0.0, 1.0, 0.6):
        (best,) = run_search(model, ONE, beam(1, penalty))[0]
        # six tokens and eos: ((5 + 7) / 6) ** penalty
        assert best.tokens == [6] * 6
        assert best.score == pytest.approx((6 * math.log(0.9) + math.log(0.8)) / 2**penalty, rel=1e-5)


@pytest.mark.parametrize("options", [config.Greedy(kind="greedy"), beam(1), beam(3, 1.0)], ids=["greedy", "1", "3"])
def test_outputs_without_an_end_are_cut_at_the_limit(options):
    model = FakeAutoregressive(lambda _: constant(a=0.6, eos=1e-6), max_length=400)
    for length, limit in ((1, 12), (20, 50)):
        best = run_search(model, padded([[7] * length]), options)[0][0]
        assert (best.tokens, best.truncated, best.passes) == ([6] * limit, True, limit + 1)
    model.config.max_length = 9
    assert len(run_search(model, ONE, options)[0][0].tokens) == 8


@pytest.mark.parametrize("options", [config.Greedy(kind="greedy"), beam(1)], ids=["greedy", "beam"])
def test_an_output_that_ends_at_the_limit_is_not_cut(options):
    def probabilities(prefix: tuple[int, ...]) -> list[float]:
        return constant(a=0.9) if len(prefix) < 12 else constant(eos=0.9)

    (best,) = run_search(FakeAutoregressive(probabilities, max_length=400), ONE, options)[0]
    assert (best.tokens, best.truncated) == ([6] * 12, False)


@pytest.mark.parametrize("options", [config.Greedy(kind="greedy"), beam(2)], ids=["greedy", "beam"])
def test_special_tokens_and_unknown_words_are_never_generated(options):
    def probabilities(prefix: tuple[int, ...]) -> list[float]:
        last = {"a": 0.1} if len(prefix) < 2 else {"eos": 0.1}
        return constant(pad=0.17, bos=0.17, unk=0.17, mask=0.17, blank=0.17, **last)

    best = run_search(FakeAutoregressive(probabilities, max_length=40), ONE, options)[0]
    assert best[0].tokens == [6, 6]
    assert all(token in (6, 7, 8, 9) for h in best for token in h.tokens)


@pytest.mark.parametrize(
    "options",
    [config.Argmax(kind="argmax"), config.MaskPredict(kind="mask_predict", iterations=3, length_beam=1)],
    ids=["argmax", "mask_predict"],
)
def test_parallel_outputs_hold_no_special_tokens(options):
    rows = [constant(mask=0.3, pad=0.2, unk=0.3, **{name: 0.1}) for name in ("a", "b", "a", "b", "eos")]
    (best,) = run_search(FakeParallel(lambda _: torch.tensor(rows).log(), lengths=[5]), ONE, options)[0]
    assert best.tokens == [6, 7, 6, 7]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (config.Argmax(kind="argmax", length_beam=3), ("a", "b", "eos", "eos", "eos")),
        (config.Argmax(kind="argmax", length_beam=3, deduplicate="remove"), ("a", "b", "b", "b", "b")),
        (config.MaskPredict(kind="mask_predict", iterations=2, length_beam=3), ("a", "b", "eos", "eos", "eos")),
    ],
    ids=["argmax", "argmax, repeats removed", "mask_predict"],
)
def test_lengths_that_give_one_output_are_one_hypothesis(options, names):
    rows = [constant(**{name: p}) for name, p in zip(names, (0.5, 0.5, 0.5, 0.6, 0.9), strict=True)]
    model = FakeParallel(lambda _: torch.tensor(rows).log(), lengths=[3, 4, 5])
    model.eos_anywhere = True
    (best,) = run_search(model, ONE, options)[0]
    # the surest one is that of five slots
    model.lengths = [5]
    assert [best] == run_search(model, ONE, options.model_copy(update={"length_beam": 1}))[0]
    assert best.tokens == [6, 7] and len(best.log_probs) == 2


@pytest.mark.parametrize(
    ("length", "counts"),
    [
        (1, [1, 1, 1, 1]),
        (3, [3, 2, 1, 1]),
        (3, [3, 2, 2, 2, 1, 1, 1, 1, 1, 1]),
        (4, [4, 3, 2, 1]),
        (10, [10, 7, 5, 2]),
        (10, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        (108, [108, 99, 90, 81, 72, 63, 54, 45, 36, 27, 18, 9]),
        (7, [7, 4, 2]),
    ],
)
def test_each_pass_masks_again_as_many_tokens_as_it_should(length, counts):
    iterations = len(counts)
    torch.manual_seed(7)
    logits = torch.randn(iterations, length, VOCABULARY)
    model = FakeParallel(logits.__getitem__, lengths=[length])
    options = config.MaskPredict(kind="mask_predict", iterations=iterations, length_beam=1)
    (best,) = run_search(model, padded([[7] * 60]), options)[0]
    assert [int((input_bt == MASK).sum()) for input_bt in model.inputs] == counts
    assert best.passes == iterations


def test_passes_over_one_slot_are_as_one():
    model = FakeParallel(lambda _: torch.tensor([constant(a=0.6, b=0.3)]).log(), lengths=[1])
    (once,), (often,) = (
        run_search(model, ONE, config.MaskPredict(kind="mask_predict", iterations=iterations, length_beam=1))[0]
        for iterations in (1, 4)
    )
    assert (once.tokens, once.score) == (often.tokens, often.score)


def test_mask_predict_masks_the_least_sure_tokens_and_keeps_the_others_probabilities():
    sure = [0.9, 0.6, 0.8, 0.7]
    passes = [
        torch.tensor([constant(a=p) for p in sure]).log(),
        torch.tensor([constant(b=0.95)] * 4).log(),
    ]
    model = FakeParallel(passes.__getitem__, lengths=[4])
    (best,) = run_search(model, ONE, config.MaskPredict(kind="mask_predict", iterations=2, length_beam=1))[0]
    assert model.inputs[1].tolist() == [[6, MASK, 6, MASK]]
    assert best.tokens == [6, 7, 6, 7]

    # probabilities are those among the tokens that may be generated: no pad, bos, mask or blank
    def allowed(p: float) -> float:
        return p / (1 - 4 * (1 - p) / 9)

    mean = sum(math.log(allowed(p)) for p in (0.9, 0.95, 0.8, 0.95)) / 4
    assert best.score == pytest.approx(mean, rel=1e-5)


def test_mask_predict_masks_no_padding():
    """A candidate of two slots beside one of four."""
    sure = torch.tensor([constant(a=p) for p in (0.9, 0.6, 0.8, 0.7)]).log()
    model = FakeParallel(lambda _: sure, lengths=[4, 2])
    run_search(model, ONE, config.MaskPredict(kind="mask_predict", iterations=2, length_beam=2))
    assert model.inputs[1].tolist() == [[6, MASK, 6, MASK], [6, MASK, PAD, PAD]]


@pytest.mark.parametrize(("confidence", "second", "passes"), [(1.0, 3, 4), (0.75, 2, 2), (0.5, 0, 1), (0.0, 0, 1)])
def test_sure_tokens_are_not_masked_again_and_passes_end(confidence, second, passes):
    later = torch.tensor([constant(b=0.97)] * 4).log()
    model = FakeParallel(
        lambda i: later if i else torch.tensor([constant(a=p) for p in (0.9, 0.55, 0.8, 0.6)]).log(), lengths=[4]
    )
    options = config.MaskPredict(kind="mask_predict", iterations=4, length_beam=1, confidence=confidence)
    (best,) = run_search(model, ONE, options)[0]
    masks = [int((input_bt == MASK).sum()) for input_bt in model.inputs]
    assert best.passes == passes == len(masks) and masks[1:2] == [second] * (passes > 1)


def test_a_token_as_sure_as_asked_is_not_masked_again():
    logits = torch.full((3, 10), -200.0)
    logits[:, 6] = 0.0
    logits[2, 7] = -1.0
    model = FakeParallel(lambda _: logits, lengths=[3])
    run_search(model, ONE, config.MaskPredict(kind="mask_predict", iterations=3, length_beam=1, confidence=1.0))
    assert [int((tokens == MASK).sum()) for tokens in model.inputs] == [3, 1, 1]


def test_one_iteration_is_argmax():
    model, source = parallel(), padded(sentences([3, 9, 6, 1]))
    once = config.MaskPredict(kind="mask_predict", iterations=1, length_beam=3)
    found_once = run_search(model, source, once)
    assert found_once == run_search(model, source, config.Argmax(kind="argmax", length_beam=3))
    assert found_once != run_search(model, source, once.model_copy(update={"iterations": 3}))


def test_the_length_with_the_best_mean_log_probability_wins():
    rows = [constant(a=p) for p in (0.9, 0.8, 0.95, 0.3)]
    model = FakeParallel(lambda _: torch.tensor(rows).log(), lengths=[4, 2, 3])
    best = run_search(model, ONE, config.Argmax(kind="argmax", length_beam=3))[0]
    assert [len(h.tokens) for h in best] == [3, 2, 4]
    assert [h.score for h in best] == sorted((h.score for h in best), reverse=True)
    (only,) = run_search(model, ONE, config.Argmax(kind="argmax", length_beam=1))[0]
    assert only.tokens == [6] * 4


@pytest.mark.parametrize(
    ("slots", "tokens"),
    [
        ([6, 6, 7, 7], [6, 7]),
        ([6, BLANK, 6, 6], [6, 6]),
        ([BLANK, 6, BLANK, 7], [6, 7]),
        ([8, 8, BLANK, 8], [8, 8]),
        ([BLANK] * 4, []),
        ([6, 7, 6, 7], [6, 7, 6, 7]),
    ],
)
def test_slots_collapse(slots, tokens):
    logits = torch.full((4, 10), -5.0)
    logits[range(4), slots] = 2.0
    # likelier, but nothing that a slot may hold
    logits[:, [PAD, BOS, EOS, MASK]] = 3.0
    logits[:, UNK] = 2.5
    (best,) = run_search(FakeParallel(lambda _: logits, upsampling=2), ONE, SEARCHES["ctc_collapse"][0])[0]
    assert best.tokens == tokens
    assert best.score == pytest.approx(4 * (2 - math.log(math.exp(2) + math.exp(2.5) + 4 * math.exp(-5))), rel=1e-3)


@pytest.mark.parametrize(("penalty", "tokens"), [(0.0, []), (0.9, []), (1.1, [6]), (-9.0, [])])
def test_a_penalty_on_blanks_makes_outputs_longer(penalty, tokens):
    logits = torch.full((2, 10), -5.0)
    logits[:, BLANK], logits[:, 6] = 3.0, 2.0
    options = config.CtcCollapse(kind="ctc_collapse", blank_penalty=penalty)
    (best,) = run_search(FakeParallel(lambda _: logits), ONE, options)[0]
    expected = 2 * max(3.0 - penalty, 2.0) - 2 * logits[0].logsumexp(0).item()
    assert best.tokens == tokens and best.score == pytest.approx(expected, abs=2e-2)


@pytest.mark.parametrize("kind", ["argmax", "mask_predict", "length_parallel"])
def test_lengths_compete_by_their_probability_too(kind):
    # the shorter, the surer the slots; of the lengths 4 is the most probable, and then 3, 2 and 5
    given, lengths = [0.9, 0.8, 0.5, 0.4, 0.3], [4, 3, 2, 5]
    length_log_probs = dict(zip(lengths, torch.tensor([0.0, -1, -2, -3]).log_softmax(0).tolist(), strict=True))
    # pad, bos, mask and blank are left out of the slots' distributions
    slots = [math.log(p / (1 - 4 * (1 - p) / 9)) for p in given]
    candidates, keys = {
        "argmax": ((4, 3, 2), {"length_beam": 3}),
        "mask_predict": ((4, 3, 2), {"length_beam": 3, "iterations": 1}),
        "length_parallel": ((3, 4, 5), {"candidates": 3, "rescore": False, "deduplicate": "none"}),
    }[kind]
    section = next(s for s in config.SEARCHES if s.only_value("kind") == kind)
    outputs = []
    for weight in (0.0, 0.1, 1.0):
        model = FakeParallel(lambda _: torch.tensor([constant(a=p) for p in given]).log(), lengths=lengths)
        best = run_search(model, ONE, section(kind=kind, length_weight=weight, **keys))[0][0]
        scores = {n: sum(slots[:n]) / n + weight * length_log_probs[n] for n in candidates}
        winner = max(scores, key=scores.__getitem__)
        assert len(best.tokens) == winner and best.score == pytest.approx(scores[winner], rel=1e-4)
        outputs.append(winner)
    assert outputs[0] < outputs[-1]


def test_slots_of_padding_do_not_count():
    logits = torch.full((8, 10), -5.0)
    logits[range(8), [6, 6, 7, 7, 8, 8, 9, 9]] = 2.0
    source = padded([[7], [7, 7, 7]])
    short, long = run_search(FakeParallel(lambda _: logits, upsampling=2), source, SEARCHES["ctc_collapse"][0])
    assert (short[0].tokens, long[0].tokens) == ([6, 7], [6, 7, 8, 9])
    assert short[0].score == pytest.approx(long[0].score / 2, rel=1e-3)


@pytest.mark.parametrize(("min_share", "tokens"), [(0.1, [6]), (0.5, [])])
def test_candidates_of_a_slot_are_compared_with_its_blank_and_it_is_none(min_share, tokens):
    logits = torch.full((2, 10), -5.0)
    logits[:, BLANK], logits[:, 6] = 3.0, 2.0
    options = config.CtcBeam(kind="ctc_beam", lm_weight=0, token_bonus=5, min_share=min_share)
    (best,) = run_search(FakeParallel(lambda _: logits), ONE, options)[0]
    assert best.tokens == tokens


def test_a_source_as_long_as_the_model_reads_is_not_cut():
    vocabulary = SimpleNamespace(encode_source=lambda texts: [[6] * len(text) for text in texts])
    found = decode_texts(
        vocabulary, ["a" * 7, "a" * 8], tiny_shape(max_length=8), lambda *_: [[Hypothesis([6], 0.0, False, 1)]] * 2
    )
    assert [best[0].truncated for best in found] == [False, True]
