"""The directed acyclic graph: its model, loss, glancing and searches, against enumeration."""

import itertools
import math

import pytest
import torch

from retort import config
from retort.data.vocabulary import BLANK, BOS, EOS, MASK, PAD, UNK
from retort.losses.dag_paths import sum_of_paths
from retort.objectives import dag
from retort.objectives.base import Step
from retort.objectives.fuzzy_dag import bigram_precision
from retort.objectives.shared import graphs
from retort.objectives.shared.graphs import TargetGraph
from retort.search.base import run_search
from retort.search.dag_path import on_the_way, without_repeats
from tests.unit.fakes_losses import graph_paths, path_probability
from tests.unit.fakes_models import assert_left_out, batch, dag_model, padded, sentences

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
OPTIONS = config.Dag(name="dag", start=0.0, end=0.0)


def test_transitions_are_distributions_over_later_vertices_that_are_no_padding():
    model, source = dag_model(3), padded(sentences([2, 4]))
    states, vertices = model.decode_upsampled(source, *model.encode(source))
    found = model.transitions(states, vertices)
    assert vertices.tolist() == [9, 15] and found.dtype == torch.float32
    for i, t in enumerate([9, 15]):
        assert (found[i].tril() == 0).all() and (found[i, :, t:] == 0).all() and (found[i, t - 1 :] == 0).all()
        assert (found[i, : t - 1, :t].triu(1) + torch.ones(t - 1, t).tril() > 0).all()
        torch.testing.assert_close(found[i, : t - 1].sum(1), torch.ones(t - 1))


def test_transitions_are_gated_mixtures_of_heads_over_states_and_positions():
    """One head at a time, from the definition."""
    model, source = dag_model(2), padded([[7, 8]])
    states, vertices = model.decode_upsampled(source, *model.encode(source))
    weight = torch.cat([model.from_state.weight, model.from_position.weight], 1)
    features = torch.cat([states[0], model.slot_positions.table[:6]], 1)
    query, key, gate = (features @ weight.t() + model.from_state.bias).split([16, 16, 2], 1)
    expected = torch.zeros(6, 6)
    for i in range(5):
        for h in range(2):
            scores = key[i + 1 :, 8 * h : 8 * h + 8] @ query[i, 8 * h : 8 * h + 8] / 8**0.5
            expected[i, i + 1 :] += gate[i].softmax(0)[h] * scores.softmax(0)
    torch.testing.assert_close(model.transitions(states, vertices)[0], expected)


@torch.no_grad()
def all_paths(model, source, target):
    """log P(target, eos) of one pair from its graph, by enumeration."""
    source_bs = padded([source])
    states, vertices = model.decode_upsampled(source_bs, *model.encode(source_bs))
    log_probs = model.logits(states)[0].log_softmax(1)
    transitions = model.transitions(states, vertices)[0]
    tokens = torch.tensor([*target, EOS])
    emissions = torch.cat([torch.zeros(1, len(log_probs)), log_probs[:, tokens].t()])
    total = sum(path_probability(path, emissions, transitions) for path in graph_paths(len(log_probs), len(tokens) + 1))
    return math.log(total) if total else -math.inf


def test_the_log_likelihood_sums_over_paths_and_may_be_minus_infinity():
    sources, targets = [[7], [7], [8], [8], [9, 6], [9]], [[6], [7, 8], [8, 8], [6, 7, 8, 9], [6, 6, 7], []]
    model = dag_model(2)
    found = dag.log_likelihood(model, batch(sources, targets), OPTIONS)
    expected = [all_paths(model, source, target) for source, target in zip(sources, targets, strict=True)]
    assert expected[3] == -math.inf and math.isfinite(expected[1])
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert not found.requires_grad


def test_all_targets_together_have_probability_one():
    model, source = dag_model(2, tied="none"), [7]
    model.embeddings.output.data = model.embeddings.output.data[:3]
    # three kinds of tokens, eos (2) among them, in all sequences of up to three
    states, vertices = model.decode_upsampled(padded([source]), *model.encode(padded([source])))
    log_probs = torch.log_softmax(states @ model.embeddings.output.t(), -1)[0]
    total = 0.0
    for n in (1, 2, 3):
        for tokens in itertools.product(range(3), repeat=n):
            emissions = torch.cat([torch.zeros(1, 4), log_probs[:, list(tokens)].t()])[:, None]
            length = torch.tensor([n + 1])
            total += sum_of_paths(emissions, model.transitions(states, vertices), vertices, length).exp().item()
    assert total == pytest.approx(1.0, rel=1e-5)


def test_sentences_that_do_not_fit_are_counted_and_left_out():
    model = dag_model(2)
    # vertices are 2 x (length + eos), one of them bos's: the first needs 6 of 4, the others fit
    sources, targets = [[7], [8], [9, 6]], [[6, 7, 7, 8], [6, 7], [7, 7, 7]]
    assert_left_out(dag.compute, model, sources, targets, OPTIONS)


def test_a_value_that_is_no_number_is_no_lack_of_a_path():
    model, pairs = dag_model(4), batch(SOURCES, TARGETS)
    with torch.no_grad():
        model.embeddings.output[:] = float("nan")
    loss = dag.compute(model, pairs, OPTIONS, Step(torch.Generator()))
    assert loss.total.isnan() and loss.parts["infeasible"] == 0


def test_a_batch_without_any_sentence_that_fits_has_a_loss_of_zero():
    model = dag_model(1).train()
    options = config.Dag(name="dag", upsampling=1, start=0.999, end=0.999)
    loss = dag.compute(model, batch([[7]], [[6, 7, 8]]), options, Step(torch.Generator()))
    loss.total.backward()
    assert (loss.total, loss.parts["infeasible"], loss.parts["revealed"]) == (0, 1, 0)
    assert all((p.grad == 0).all() for p in model.parameters() if p.grad is not None)


# ---- glancing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "revealed"), [(0.0, 0), (0.5, 2), (1.0, 3)])
def test_a_share_of_the_wrong_tokens_is_revealed_on_the_best_path(monkeypatch, share, revealed):
    """Three of the target's six tokens are wrong; half of them is rounded to an even number."""
    model, pairs = dag_model(3), batch([[7, 8, 9], [6]], [[6, 7, 8, 9, 10], [6] * 8])
    asked = []
    guess = torch.tensor([6, 6, 8, 9, 9, 9])
    monkeypatch.setattr(graphs, "most_probable", lambda states, weight: asked.append(states) or guess)
    given = graphs.reveal(model, pairs, model.encode(pairs.source_bs), share, torch.Generator().manual_seed(1))
    assert ((given != PAD).sum(1)).tolist() == [revealed, 0]
    assert given[0, 0] == PAD and given.shape == (2, 12)
    states, vertices = model.decode_upsampled(pairs.source_bs, *model.encode(pairs.source_bs))
    log_probs = model.logits(states)[0].log_softmax(1)
    transitions = model.transitions(states, vertices)[0]
    tokens = [6, 7, 8, 9, 10, EOS]
    emissions = torch.cat([torch.zeros(1, 12), log_probs[:, tokens].t()])
    best = max(graph_paths(12, 7), key=lambda path: path_probability(path, emissions, transitions))
    torch.testing.assert_close(asked[0], states[0, list(best[1:])])
    shown = {(t, token) for t, token in enumerate(given[0].tolist()) if token != PAD}
    assert shown <= set(zip(best[1:], tokens, strict=True))


def test_every_token_of_the_path_is_revealed_equally_often():
    model, pairs = dag_model(2), batch([[7, 8, 9]] * 600, [[6, 7, 8]] * 600)
    memory = model.encode(pairs.source_bs)
    given = graphs.reveal(model, pairs, memory, 0.5, torch.Generator().manual_seed(1))
    counts = (given != PAD).sum(0)
    places = counts.nonzero()[:, 0]
    assert len(places) == 4 and (given != PAD).sum(1).unique().numel() == 1
    expected = counts.sum() / 4
    assert (counts[places] - expected).abs().max() < 5 * (expected * (1 - expected / 600)) ** 0.5


def test_revealed_tokens_start_from_their_embeddings_and_others_do_not_move():
    model, source = dag_model(2), padded([[7, 8]])
    memory = model.encode(source)
    plain, _ = model.decode_upsampled(source, *memory)
    none, _ = model.decode_upsampled(source, *memory, torch.full((1, 6), PAD))
    assert torch.equal(plain, none)
    seen = []
    model.decoder.forward = lambda x, *rest: seen.append(x) or x  # type: ignore[method-assign]
    given = torch.tensor([[PAD, 9, PAD, PAD, 6, PAD]])
    model.decode_upsampled(source, *memory)
    model.decode_upsampled(source, *memory, given)
    expected = seen[0].clone()
    table = model.slot_positions.table
    for t, token in ((1, 9), (4, 6)):
        expected[0, t] = 4 * model.embeddings.target[token] + table[t]
    torch.testing.assert_close(seen[1], expected)


def test_glancing_is_for_training_and_follows_the_progress(monkeypatch):
    options, shares, shown = config.Dag(name="dag", start=0.5, end=0.1), [], []
    reveal = graphs.reveal

    def watched(*given, ratio, **others):
        shares.append(ratio)
        shown.append(reveal(*given, ratio=ratio, **others))
        return shown[-1]

    monkeypatch.setattr(graphs, "reveal", watched)
    model, pairs = dag_model(4), batch(SOURCES, TARGETS)
    assert "revealed" not in dag.compute(model, pairs, options, Step(torch.Generator())).parts
    model.train()
    for progress in (0.0, 0.5, 1.0):
        loss = dag.compute(model, pairs, options, Step(torch.Generator(), progress))
    assert shares == pytest.approx([0.5, 0.3, 0.1])
    assert loss.parts["revealed"] == pytest.approx((shown[-1] != PAD).sum().item() / pairs.target_tokens)
    found = [dag.compute(model, pairs, options, Step(torch.Generator().manual_seed(s))) for s in (1, 1, 2)]
    assert found[0].total == found[1].total != found[2].total


def test_the_guess_has_the_dropout_of_the_training_pass(monkeypatch):
    """Both passes are equal if nothing is revealed."""
    model, graphs_seen = dag_model(4, dropout=0.3).train(), []
    target_graph = graphs.target_graph

    def watched(*given, **named):
        graphs_seen.append(target_graph(*given, **named))
        return graphs_seen[-1]

    monkeypatch.setattr(graphs, "target_graph", watched)
    options = config.Dag(name="dag", start=1e-9, end=1e-9)
    dag.compute(model, batch(SOURCES, TARGETS), options, Step(torch.Generator().manual_seed(1)))
    guess, trained = (graph.states_btd for graph in graphs_seen)
    torch.testing.assert_close(guess, trained.detach())


# ---- searches -------------------------------------------------------------------------------------------------------


def graph_of(model, source):
    """Log-probabilities of text tokens [t, v], of eos at the last vertex, and of transitions, of one source."""
    source_bs = padded([source])
    with torch.no_grad():
        states, vertices = model.decode_upsampled(source_bs, *model.encode(source_bs))
        log_probs = model.logits(states)[0].log_softmax(1)
        transitions = model.transitions(states, vertices)[0].log()
    eos = log_probs[-1, EOS].item()
    log_probs[:, [PAD, BOS, EOS, UNK, MASK, BLANK]] = -math.inf
    return log_probs, eos, transitions


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0, None])
@pytest.mark.parametrize("seed", range(4))
def test_a_path_is_followed_step_by_step(seed, beta):
    model, source = dag_model(4, seed), [7, 9, 6]
    log_probs, eos, transitions = graph_of(model, source)
    last, vertex, score, tokens = 15, 0, 0.0, []
    best = [max(row) for row in log_probs.tolist()]
    best[last] = eos
    while vertex != last:
        look = [transitions[vertex, j].item() + (beta or 0.0) * best[j] for j in range(16)]
        following = max(range(vertex + 1, 16), key=look.__getitem__)
        score += transitions[vertex, following].item() + best[following]
        vertex = following
        if vertex != last:
            tokens.append(log_probs[vertex].argmax().item())
    options = {"method": "greedy"} if beta is None else {"beta": beta}
    (found,) = run_search(model, padded([source]), config.DagPath(kind="dag_path", **options))[0]
    assert found.tokens == [token for token, _ in itertools.groupby(tokens)]
    assert found.score == pytest.approx(score, rel=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_joint_viterbi_is_the_best_of_all_paths(seed, beta):
    model, source = dag_model(3, seed), [7, 9]
    log_probs, eos, transitions = graph_of(model, source)
    best = [max(row) for row in log_probs.tolist()]
    best[0], best[8] = 0.0, eos

    def score(path):
        total = sum(best[v] for v in path) + sum(transitions[i, j].item() for i, j in itertools.pairwise(path))
        return total / (len(path) - 1) ** beta

    expected = max((path for n in range(2, 10) for path in graph_paths(9, n)), key=score)
    (found,) = run_search(model, padded([source]), config.JointViterbi(kind="joint_viterbi", beta=beta))[0]
    assert found.score == pytest.approx(score(expected), rel=1e-4)
    assert found.tokens == [log_probs[v].argmax().item() for v in expected[1:-1]]


def test_joint_viterbi_keeps_to_its_longest_output():
    model, source = dag_model(8), padded(sentences([2, 12], seed=4))
    options = config.JointViterbi(kind="joint_viterbi", beta=10.0, max_ratio=0.1)
    short, long = run_search(model, source, options)
    assert (len(short[0].tokens), len(long[0].tokens)) == (10, 11)


def test_no_exponent_of_joint_viterbi_is_too_large_for_the_lengths():
    """The longest graph that is decoded has 4,096 vertices."""
    (bound,) = [each.le for each in config.JointViterbi.model_fields["beta"].metadata if hasattr(each, "le")]
    assert torch.isfinite(torch.tensor(4096.0) ** bound)


def test_pointers_are_followed_and_repeats_dropped():
    pointers = [[3, 2, 4, 4, 6, 6, 6], [1, 2, 3, 4, 5, 6, 6], [6, 6, 6, 6, 6, 6, 6], [2, 2, 2, 3, 4, 5, 6]]
    found = [row.nonzero()[:, 0].tolist() for row in on_the_way(torch.tensor(pointers))]
    assert found == [[0, 3, 4, 6], list(range(7)), [0, 6], [0, 2]]
    tokens = torch.tensor([[PAD, 7, PAD, 7, 7, 8, 7], [PAD, PAD, 6, UNK, UNK, PAD, 6]])
    chosen = tokens != PAD
    expected = [[PAD, 7, PAD, PAD, PAD, 8, 7], [PAD, PAD, 6, UNK, PAD, PAD, 6]]
    assert without_repeats(tokens, chosen).tolist() == expected


def test_fuzzy_alignment_is_precision_times_brevity():
    probs = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.3, 0.1, 0.0], [0.0, 1.0, 0.0]])
    steps = torch.stack([torch.eye(4).roll(1, 1).triu(1), torch.zeros(4, 4)])
    steps[1, 0, 3] = 1
    targets = torch.tensor([[6, EOS, PAD], [6, EOS, PAD]])
    graph = TargetGraph(
        probs.log().expand(2, -1, -1), steps, torch.tensor([4, 4]), torch.tensor([3, 3]), torch.zeros(2, 4, 1)
    )
    precision, brevity = bigram_precision(graph, targets)
    torch.testing.assert_close(precision, torch.tensor([(0.5 + 0.5 * 0.1 + 0.3) / 3, 0.0]))
    torch.testing.assert_close(brevity, torch.tensor([1.0, math.exp(1 - 3 / 2)]))
