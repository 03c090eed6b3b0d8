"""Exported systems beside torch, for every objective and search."""

import json
import math
import random
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import numpy as np
import onnx
import pytest
import torch

from retort import config
from retort.data.batches import Ragged
from retort.data.ngram_counts import NgramCounter
from retort.data.parquet import write_table
from retort.data.references import corpus_table
from retort.data.tables import CORPUS
from retort.data.vocabulary import EOS, MASK, PAD, UNK
from retort.engines import EXPORT_ENGINES
from retort.errors import RetortError
from retort.export import exporting, parity
from retort.export.base import Exporter, exporter_of
from retort.export.exporting import export_system
from retort.export.onnx import parallel
from retort.export.onnx.graph import quantised
from retort.export.onnx.writing import searches
from retort.export.parity import Lines, compare, lines_of_run
from retort.runtime import open_system
from retort.runtime.names import END, LOGITS, MEMORY, NORMALISER, TRANSITIONS
from retort.runtime.search import blocks, dag_beam, joint_viterbi, length_parallel, mask_predict, slots
from retort.runtime.search.vertices import Vertices
from retort.runtime.system import Output
from retort.search.base import run_search
from retort.search.ngram_scores import Scorer
from tests.unit.fakes_export import SHAPES, saved, text_vocabulary

VANILLA = {"name": "vanilla"}
ARGMAX, CTC = {"kind": "argmax"}, {"kind": "ctc_collapse"}
PASSES = {"kind": "mask_predict"}
PARALLEL = {"kind": "length_parallel", "rescore": False, "candidates": 5}
LOOKAHEAD, GREEDY_PATH = {"kind": "dag_path"}, {"kind": "dag_path", "method": "greedy"}
VITERBI, BLOCKS = {"kind": "joint_viterbi"}, {"kind": "blocks"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vanilla": (VANILLA, ARGMAX),
    "vanilla, lengths": (VANILLA, ARGMAX | {"length_beam": 4}),
    "vanilla, lengths weighed": (VANILLA, ARGMAX | {"length_beam": 5, "length_weight": 4.0}),
    "vanilla, slot, lengths around weighed": (VANILLA | {"length_from": "slot"}, PARALLEL | {"length_weight": 2.0}),
    "cmlm, lengths weighed": ({"name": "cmlm"}, PASSES | {"length_weight": 4.0}),
    "cmlm, confident": ({"name": "cmlm"}, PASSES | {"iterations": 10, "length_beam": 2, "confidence": 0.1}),
    "ctc, no blanks wanted": ({"name": "ctc"}, CTC | {"blank_penalty": 3.0}),
    "bang, bonus": ({"name": "bang"}, BLOCKS | {"token_bonus": 1.5}),
    "vanilla, repeats removed": (VANILLA, ARGMAX | {"deduplicate": "remove", "length_beam": 5}),
    "vanilla, ODD": (VANILLA, ARGMAX | {"deduplicate": "odd"}),
    "vanilla, ODD with a penalty": (VANILLA, ARGMAX | {"deduplicate": "odd", "repeat_penalty": 0.3, "length_beam": 3}),
    "vanilla, lengths around": (VANILLA, PARALLEL),
    "vanilla, slot and pad": (VANILLA | {"length_from": "slot", "decoder_input": "pad"}, ARGMAX | {"length_beam": 3}),
    "vanilla, slot, lengths around": (VANILLA | {"length_from": "slot"}, PARALLEL | {"deduplicate": "remove"}),
    "vanilla, deep supervision": (VANILLA | {"deep_supervision": True, "decoder_input": "pad"}, ARGMAX),
    "axe": ({"name": "axe"}, ARGMAX | {"length_beam": 2}),
    "axe, ODD": ({"name": "axe", "length_multiplier": 1.5}, ARGMAX | {"deduplicate": "odd"}),
    "axe, lengths around": ({"name": "axe"}, PARALLEL),
    "oaxe": ({"name": "oaxe"}, ARGMAX | {"length_beam": 5}),
    "oaxe, lengths around": ({"name": "oaxe"}, PARALLEL),
    "glat": ({"name": "glat"}, ARGMAX),
    "glat, deep supervision": ({"name": "glat", "deep_supervision": True}, PARALLEL),
    "cmlm": ({"name": "cmlm"}, PASSES),
    "cmlm, one pass": ({"name": "cmlm"}, PASSES | {"iterations": 1, "length_beam": 1}),
    "cmlm, slot, ten passes": ({"name": "cmlm", "length_from": "slot"}, PASSES | {"iterations": 10, "length_beam": 2}),
    "cmlm, argmax": ({"name": "cmlm"}, ARGMAX),
    "cmlm, lengths around": ({"name": "cmlm"}, PARALLEL),
    "janus": ({"name": "janus"}, PASSES),
    "janus, argmax": ({"name": "janus"}, ARGMAX),
    "janus, lengths around": ({"name": "janus"}, PARALLEL),
    "ctc": ({"name": "ctc"}, CTC),
    "ctc, one slot": ({"name": "ctc", "upsampling": 1}, CTC),
    "ctc, a fraction of slots": ({"name": "ctc", "upsampling": 1.3}, CTC),
    "ctc, fewer slots than tokens": ({"name": "ctc", "upsampling": 0.6}, CTC),
    "ctc, deep supervision": ({"name": "ctc", "upsampling": 3, "deep_supervision": True}, CTC),
    "glat_ctc": ({"name": "glat_ctc"}, CTC),
    "dag": ({"name": "dag"}, LOOKAHEAD),
    "dag, a fraction of vertices": ({"name": "dag", "upsampling": 2.75}, LOOKAHEAD),
    "dag, other weight": ({"name": "dag", "upsampling": 3}, LOOKAHEAD | {"beta": 0.4}),
    "dag, greedy": ({"name": "dag"}, GREEDY_PATH),
    "dag, viterbi": ({"name": "dag"}, VITERBI),
    "dag, viterbi, short": ({"name": "dag"}, VITERBI | {"beta": 0.5, "max_ratio": 0.01}),
    "ctc, beam": ({"name": "ctc"}, {"kind": "ctc_beam", "lm_weight": 0, "token_bonus": 0.5}),
    "dag, beam": ({"name": "dag"}, {"kind": "dag_beam", "lm_weight": 0, "beam_size": 4, "candidates": 3}),
    "bang": ({"name": "bang"}, BLOCKS),
    "bang, blocks": ({"name": "bang", "block": 4}, BLOCKS | {"block": 4, "max_ratio": 2.0}),
    "bang, repeats kept": ({"name": "bang"}, BLOCKS | {"block": 3, "collapse": False, "max_tokens": 7}),
    "bang_pretraining": ({"name": "bang_pretraining"}, BLOCKS | {"block": 5}),
}
LENGTHS = [3, 12, 1, 7, 9, 2, 5, 11]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return text_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def objective_of(options):
    return config.objective_named(options["name"])(**options)


def search_of(options):
    return next(s for s in config.SEARCHES if s.only_value("kind") == options["kind"])(**options)


def test_a_family_without_a_module_that_writes_graphs_has_no_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.Vanilla, "family", "wide")
    assert not searches(objective_of({"name": "vanilla"})) and searches(objective_of({"name": "ctc"}))


COVERED = {(objective["name"], search["kind"]) for objective, search in CASES.values()}
# Whatever else can be exported is exported with its defaults, unless these need a teacher, which a bundle lacks, or
# a table of n-grams.
CASES |= {
    f"{name}, {kind}, defaults": ({"name": name}, {"kind": kind})
    for name in (objective.only_value("name") for objective in config.OBJECTIVES)
    for kind in searches(objective_of({"name": name}))
    if (name, kind) not in COVERED
    and not search_of({"kind": kind}).needs_teacher
    and search_of({"kind": kind}).counted is None
}


def sources_for(vocabulary, seed=3):
    rng = random.Random(seed)
    return [[rng.randrange(6, vocabulary.source_size) for _ in range(n)] for n in LENGTHS]


def by_torch(model, sources, options):
    padded = Ragged.from_lists(sources).padded(np.arange(len(sources)))
    return [(best[0].tokens, best[0].truncated, best[0].passes) for best in run_search(model, padded, options)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_float32_graph_gives_the_outputs_of_torch_alone_and_in_a_batch(tmp_path, vocabulary, name):
    options, search = CASES[name]
    shape = SHAPES[list(SHAPES)[list(CASES).index(name) % len(SHAPES)]]
    model = saved(tmp_path / "checkpoint", vocabulary, objective_of(options), **shape)
    complete = search_of(search)
    export_system(tmp_path / "checkpoint", tmp_path / "bundle", search=search)
    system = open_system(tmp_path / "bundle")
    assert (system.engine, system.precision, system.search) == ("onnx", "float32", complete.model_dump())
    sources = sources_for(vocabulary)
    expected = by_torch(model, sources, complete)
    assert list(map(tuple, system.decode(sources))) == expected
    assert [tuple(system.decode([tokens])[0]) for tokens in sources] == expected
    assert len({tuple(tokens) for tokens, _, _ in expected}) > 3
    if complete.scores_tokens:
        check_scores(system, model, sources, complete)
    else:
        for engine in (system, open_system(tmp_path / "checkpoint", complete.model_dump())):
            with pytest.raises(RetortError, match="sums over all ways to a text"):
                engine.decode_scored(sources, 1)


def check_scores(system, model, sources, search):
    """All outputs that a search ranks have the scores of torch, and the first is the output."""
    padded = Ragged.from_lists(sources).padded(np.arange(len(sources)))
    if search.kind == "blocks":
        # these models were never taught not to predict what the graph leaves out
        logits = model.logits
        model.logits = lambda states: logits(states).index_fill(-1, torch.tensor(model.forbidden), -math.inf)
    by_torch = run_search(model, padded, search)
    found = system.decode_scored(sources, system.most_outputs)
    assert [ranked[0].decoded for ranked in found] == system.decode(sources)
    for ours, theirs in zip(found, by_torch, strict=True):
        assert len(ours) == len(theirs) <= system.most_outputs
        assert len({tuple(s.decoded.tokens) for s in ours}) == len(ours)
        assert [s.score for s in ours] == pytest.approx([h.score for h in theirs], abs=1e-4)
        # equal scores may come in any order
        for scored, h in zip(ours, theirs, strict=True):
            assert len(scored.log_probs) == len(scored.decoded.tokens)
            if scored.decoded.tokens == h.tokens:
                assert scored.log_probs == pytest.approx(h.log_probs, abs=1e-4)


@pytest.mark.parametrize("objective", ["ctc", "dag"])
def test_a_bundle_has_the_n_grams_of_its_search_and_takes_others(tmp_path, vocabulary, objective, monkeypatch):
    counter = NgramCounter(2, 1000)
    counter.add(Ragged.from_lists([[6, 9, 8], [9, 8, 11, 7], [7, 6]] * 3))
    table = tmp_path / "table"
    table.write_bytes(counter.model(vocabulary.target_size).to_bytes())
    model = saved(tmp_path / "checkpoint", vocabulary, objective_of({"name": objective}))
    search = {"kind": f"{objective}_beam", "lm_weight": 1.5, "token_bonus": 1.0}
    with pytest.raises(RetortError, match="needs a table of n-grams"):
        export_system(tmp_path / "checkpoint", tmp_path / "bundle", search=search)
    export_system(tmp_path / "checkpoint", tmp_path / "bundle", search=search | {"table": str(table)})
    sources = sources_for(vocabulary)
    expected = by_torch(model, sources, search_of(search | {"table": str(table)}))
    assert expected != by_torch(model, sources, search_of(search | {"lm_weight": 0.0}))
    named = search_of(search | {"table": "table"}).model_dump()
    monkeypatch.chdir(tmp_path)
    assert list(map(tuple, open_system("bundle", named).decode(sources))) == expected
    table.unlink()
    systems = [open_system("bundle", chosen) for chosen in (None, search_of(search).model_dump())]
    shutil.rmtree("bundle")
    for system in systems:
        # what is loaded needs its files no more
        assert list(map(tuple, system.decode(sources))) == expected


@pytest.mark.parametrize(
    "name", ["vanilla", "vanilla, ODD", "vanilla, lengths", "cmlm", "ctc", "dag", "dag, viterbi", "bang"]
)
def test_graphs_emit_the_unknown_piece_where_it_is_allowed_alone(tmp_path, vocabulary, name):
    options, search = CASES[name]
    model = saved(tmp_path / "checkpoint", vocabulary, objective_of(options), unknown=6)
    export_system(tmp_path / "checkpoint", tmp_path / "bundle", search=search)
    sources = sources_for(vocabulary)
    system = open_system(tmp_path / "bundle")
    decoded = list(map(tuple, system.decode(sources)))
    assert decoded == by_torch(model, sources, search_of(search))
    assert not any(UNK in tokens for tokens, _, _ in decoded)
    system.choose({**system.search, "allow_unknown": True})
    decoded = list(map(tuple, system.decode(sources)))
    assert decoded == by_torch(model, sources, search_of({**search, "allow_unknown": True}))
    assert any(UNK in tokens for tokens, _, _ in decoded)


@pytest.mark.parametrize("search", [{"kind": "greedy"}, {"kind": "beam"}], ids=lambda search: search["kind"])
def test_ctranslate2_emits_the_unknown_piece_where_it_is_allowed_alone(tmp_path, vocabulary, search):
    saved(tmp_path / "checkpoint", vocabulary, objective_of({"name": "autoregressive"}), unknown=6)
    export_system(tmp_path / "checkpoint", tmp_path / "bundle", search=search)
    system = open_system(tmp_path / "bundle")
    outputs = system.decode(sources_for(vocabulary))
    assert any(output.tokens for output in outputs) and not any(UNK in output.tokens for output in outputs)
    system.choose({**system.search, "allow_unknown": True})
    assert any(UNK in output.tokens for output in system.decode(sources_for(vocabulary)))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "options", [VANILLA, {"name": "ctc"}, {"name": "dag"}, {"name": "bang"}], ids=lambda o: o["name"]
)
def test_every_shape_of_a_model_is_exact(tmp_path, vocabulary, options, name):
    objective = objective_of(options)
    model = saved(tmp_path / "checkpoint", vocabulary, objective, seed=5, **SHAPES[name])
    export_system(tmp_path / "checkpoint", tmp_path / "bundle")
    system = open_system(tmp_path / "bundle")
    sources = [*sources_for(vocabulary, seed=8), [7] * 39]
    search = next(iter(objective.default_searches({}).values()))
    assert list(map(tuple, system.decode(sources))) == by_torch(model, sources, search)


@pytest.mark.parametrize("search", [ARGMAX, PASSES], ids=lambda search: search["kind"])
def test_no_more_lengths_are_tried_than_a_short_model_has(tmp_path, vocabulary, search):
    objective = objective_of({"name": "cmlm", "length_from": "slot"})
    model = saved(tmp_path / "checkpoint", vocabulary, objective, max_length=16)
    search = search | {"length_beam": 32}
    export_system(tmp_path / "checkpoint", tmp_path / "bundle", search=search)
    sources = sources_for(vocabulary)
    assert list(map(tuple, open_system(tmp_path / "bundle").decode(sources))) == by_torch(
        model, sources, search_of(search)
    )


def test_int8_has_a_scale_for_each_column_and_reads_a_quarter(tmp_path, vocabulary):
    weight = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32) * [1, 10, 0]
    values, scale = quantised(weight)
    assert values.dtype == np.int8 and scale.shape == (3,)
    assert np.abs(values * scale - weight).max(0) == pytest.approx(scale / 2, rel=1)
    assert (np.abs(values * scale - weight) <= scale / 2 + 1e-6).all()
    saved(tmp_path / "checkpoint", vocabulary, config.Ctc(name="ctc"), d_model=64, ffn=128)
    sizes = {}
    for precision in ("float32", "int8"):
        export_system(tmp_path / "checkpoint", tmp_path / precision, precision=precision)
        graph = onnx.load(tmp_path / precision / "model.onnx").graph
        weights = [c for c in graph.initializer if len(c.dims) == 2 and c.data_type in (1, 3) and c.dims[0] % 64 == 0]
        sizes[precision] = (tmp_path / precision / "model.onnx").stat().st_size
        assert {c.data_type for c in weights} == {onnx.TensorProto.INT8 if precision == "int8" else 1}
    assert sizes["int8"] < 0.5 * sizes["float32"]


@pytest.mark.parametrize(
    "options", [{"name": "cmlm"}, {"name": "ctc"}, {"name": "dag"}, {"name": "bang"}], ids=lambda o: o["name"]
)
def test_int8_gives_mostly_the_same_tokens_and_no_line_depends_on_its_batch(tmp_path, vocabulary, options):
    saved(tmp_path / "checkpoint", vocabulary, objective_of(options), d_model=64, ffn=128)
    sources = sources_for(vocabulary)
    texts = vocabulary.decode_target(sources)
    outputs = {}
    for precision in ("float32", "int8"):
        export_system(tmp_path / "checkpoint", tmp_path / precision, precision=precision)
        outputs[precision] = open_system(tmp_path / precision).translate(texts)
    same = [a.tokens == b.tokens for a, b in zip(outputs["float32"], outputs["int8"], strict=True)]
    assert sum(same) >= len(same) / 2
    system = open_system(tmp_path / "int8")
    assert [system.translate([text])[0] for text in texts] == outputs["int8"]


def test_the_bundle_says_what_it_is_and_what_was_measured(tmp_path, vocabulary):
    saved(tmp_path / "checkpoint", vocabulary, config.Ctc(name="ctc"))
    lines = Lines("some lines", ["abcd efgh", "", "hgfe dcba abcd"], [["abcd"], ["b"], ["dcba abcd"]])
    facts = export_system(tmp_path / "checkpoint", tmp_path / "bundle", precision="int8", lines=lines)
    assert facts == json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert (facts["engine"], facts["precision"], facts["family"]) == ("onnx", "int8", "parallel")
    assert facts["search"] == search_of({"kind": "ctc_collapse"}).model_dump()
    assert facts["searches"] == list(config.Ctc.searches())
    assert facts["parity"]["lines"] == 3 and facts["parity"]["changed_outputs"] in range(4)
    assert facts["parity"]["bleu"] >= 0 and isinstance(facts["parity"]["bleu_difference"], float)
    assert set(facts["versions"]) == {"retort", "torch", "onnx", "onnxruntime"}
    assert set(facts["files"]) == {"model.onnx", "source.model", "target.model"}
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "of 3 outputs differ" in card and "BLEU is" in card
    export_system(tmp_path / "checkpoint", tmp_path / "unchecked")
    assert "Unchecked" in (tmp_path / "unchecked" / "README.md").read_text()


def test_a_bundle_that_loses_quality_is_refused_unless_that_is_allowed(tmp_path, vocabulary, monkeypatch):
    saved(tmp_path / "checkpoint", vocabulary, config.Ctc(name="ctc"))
    lines = Lines("some lines", ["abcd efgh"], [["abcd efgh"]])
    fallen = {"lines": 1, "origin": "some lines", "changed_outputs": 1, "bleu": 30.0, "bleu_difference": -3.25}
    monkeypatch.setattr(exporting, "compare", lambda *given: (fallen, "abcd efgh"))
    options = {"precision": "int8", "lines": lines}
    with pytest.raises(RetortError, match=r"loses 3\.25 BLEU on some lines, more than 2; nothing was written"):
        export_system(tmp_path / "checkpoint", tmp_path / "bundle", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    export_system(tmp_path / "checkpoint", tmp_path / "bundle", **options, max_bleu_loss=3.5)
    assert "a difference of -3.25" in (tmp_path / "bundle" / "README.md").read_text()


def test_a_float32_graph_that_changes_an_output_is_refused(tmp_path, vocabulary, monkeypatch):
    saved(tmp_path / "checkpoint", vocabulary, config.Ctc(name="ctc"))
    states = parallel.upsampled_states

    def negated(g, *given, **named):
        x, count = states(g, *given, **named)
        return g.op("Neg", x), count

    monkeypatch.setattr(parallel, "upsampled_states", negated)
    with pytest.raises(RetortError, match=r"ONNX Runtime in float32 changes \d of 2 outputs, the first one for: abcd"):
        export_system(
            tmp_path / "checkpoint", tmp_path / "bundle", lines=Lines("x", ["abcd efgh", "fe dcba abcd"], None)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def any_of(kinds):
    return " or ".join(kinds)


REFUSED = {
    "left to right": (
        {"name": "autoregressive"},
        {},
        "onnx",
        None,
        f"decodes by {any_of(config.Autoregressive.searches())}, which --format onnx",
    ),
    "in parallel": (
        {"name": "ctc"},
        {},
        "ctranslate2",
        None,
        f"decodes by {any_of(config.Ctc.searches())}, which --format ctranslate2",
    ),
    "a mode that was not trained": (
        {"name": "bang", "nar_ratio": 0},
        {},
        None,
        None,
        "none of its usual searches can be exported; --format onnx can decode it by blocks: give --search",
    ),
    "both modes": ({"name": "janus"}, {}, "ctranslate2", None, "which --format ctranslate2 cannot"),
    "recurrent": ({"name": "autoregressive"}, {"family": "gru"}, "ctranslate2", None, "this is a recurrent model"),
    "another search": (
        {"name": "dag"},
        {},
        "onnx",
        {"kind": "beam"},
        f"can decode it by {any_of(searches(config.Dag(name='dag')))}",
    ),
    "a teacher's choice": (
        VANILLA,
        {},
        "onnx",
        {"kind": "length_parallel"},
        "has a teacher choose, which a bundle lacks",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_engine_cannot_run_is_refused_with_the_reason(tmp_path, vocabulary, name):
    options, shape, engine, search, message = REFUSED[name]
    saved(tmp_path / "checkpoint", vocabulary, objective_of(options), **shape)
    with pytest.raises(RetortError, match=message):
        export_system(tmp_path / "checkpoint", tmp_path / "bundle", engine, search=search)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("engine", EXPORT_ENGINES)
def test_every_engine_has_a_module_that_writes_and_one_that_runs(engine):
    declared = {name for name in [*Exporter.__annotations__, *vars(Exporter)] if not name.startswith("_")}
    assert {"IS_EXACT", "searches", "write"} <= declared <= set(dir(exporter_of(engine)))
    assert callable(import_module(f"retort.runtime.{engine}_engine").open_bundle)


def test_a_full_directory_is_not_overwritten(tmp_path, vocabulary):
    saved(tmp_path / "checkpoint", vocabulary, config.Ctc(name="ctc"))
    with pytest.raises(RetortError, match="exists already and is not an empty directory"):
        export_system(tmp_path / "checkpoint", tmp_path / "checkpoint")


def test_an_empty_directory_is_filled_even_through_a_link_or_from_inside(tmp_path, vocabulary, monkeypatch):
    saved(tmp_path / "checkpoint", vocabulary, config.Ctc(name="ctc"))
    for name in ("empty", "behind", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "behind")
    export_system(tmp_path / "checkpoint", tmp_path / "empty")
    export_system(tmp_path / "checkpoint", tmp_path / "link")
    monkeypatch.chdir(tmp_path / "here")
    export_system(tmp_path / "checkpoint", Path())
    assert Path("bundle.json").exists(), "the directory is still the same"
    assert all(open_system(tmp_path / name).engine == "onnx" for name in ("empty", "behind", "here"))
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "empty", "behind", "here", "link"}


def test_parity_is_measured_on_the_first_configured_test_set(tmp_path):
    for name in ("later", "newest"):
        write_table(tmp_path / f"corpus/test.{name}.parquet", CORPUS, corpus_table([1], [name], [["x"]]))
    checkpoint = tmp_path / "systems/ctc/seed1"
    assert lines_of_run(checkpoint).sources == ["later"]
    (tmp_path / "config.json").write_text('{"corpus": {"tests": {"gone": {}, "newest": {}, "later": {}}}}')
    assert lines_of_run(checkpoint).sources == ["newest"]


def test_the_first_lines_of_a_test_set_are_compared_and_all_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "CHECKED_LINES", 2)
    write_table(tmp_path / "corpus/test.a.parquet", CORPUS, corpus_table([1, 2, 3], ["a", "b", "c"], [["x"]] * 3))
    found = lines_of_run(tmp_path / "systems/ctc/seed1")
    assert found and found.sources == ["a", "b"]
    (tmp_path / "source").write_text("\ufeffa \n\n b\n")
    (tmp_path / "target").write_text("x\ny\nz")
    lines = parity.lines_of_file(tmp_path / "source", tmp_path / "target")
    assert (lines.sources, lines.references) == (["a", "", "b"], [["x"], ["y"], ["z"]])


def test_the_difference_in_bleu_is_what_the_export_gains() -> None:
    right, wrong = (
        Mock(translate=lambda _, text=text: [Output(text, [6], False, 1)]) for text in ("a b c d", "a b c e")
    )
    facts, _ = compare(right, wrong, Lines("file", ["source"], [["a b c d"]]))
    assert facts["bleu_difference"] == pytest.approx(facts["bleu"] - 100) and facts["bleu"] < 99
    assert "tok:13a" in facts["bleu_signature"]


def test_bleu_is_split_by_the_tokenizer_of_the_checkpoint_s_run_and_says_so(tmp_path: Path) -> None:
    write_table(tmp_path / "corpus/test.a.parquet", CORPUS, corpus_table([1], ["a"], [["a b c d"]]))
    (tmp_path / "source").write_text("a\n")
    checkpoint = tmp_path / "systems/ctc/seed1"
    system = Mock(translate=lambda _: [Output("a b c d", [6], False, 1)])
    for written, tokenizer in (("{}", "auto"), ('{"evaluation": {"tokenizer": "char"}}', "char")):
        (tmp_path / "config.json").write_text(written)
        lines = [lines_of_run(checkpoint), parity.lines_of_file(tmp_path / "source", tmp_path / "source", checkpoint)]
        assert [found.tokenizer for found in lines if found] == 2 * [tokenizer]
    assert lines[0]
    facts, _ = compare(system, system, lines[0])
    assert facts["bleu_signature"].startswith("nrefs:1|") and "|tok:char|" in facts["bleu_signature"]
    facts, _ = compare(system, system, Lines("file", ["source"], None))
    assert facts["bleu_signature"] is None


def test_a_beam_over_a_graph_is_no_longer_than_allowed() -> None:
    t = 14
    transitions = np.full((1, t, t), -np.inf, np.float32)
    for step, log_prob in ((1, -0.1), (3, -3.0)):
        transitions[0, np.arange(t - step), np.arange(step, t)] = log_prob
    outputs = {LOGITS: 9 * np.eye(t, dtype=np.float32)[None], TRANSITIONS: transitions}
    outputs |= {NORMALISER: np.full((1, t), 9, np.float32), END: np.zeros((1, t), np.float32)}
    graphs = Mock(
        max_length=40, tokens=np.arange(6, 6 + t), scorer=Scorer(None, 0.0, 0.0), slots=lambda _: np.array([t])
    )
    graphs.encoded.return_value = (outputs, None)
    for ratio, count in ((9.0, t - 2), (0.01, 10)):
        options = search_of({"kind": "dag_beam", "lm_weight": 0, "max_ratio": ratio}).model_dump()
        assert len(dag_beam.search(graphs, [[6]], options)[0].tokens) == count


def test_joint_viterbi_finds_a_path_of_as_many_tokens_as_are_allowed() -> None:
    chain = np.where(np.eye(4, k=1), 0, -np.inf).astype(np.float32)
    graph = Vertices(np.array([PAD, 7, 8, EOS]), np.zeros(4, np.float32), chain)
    assert joint_viterbi.best_path(graph, limit=2, beta=1.0) == ([1, 2, 3], 0)


def test_passes_of_a_source_end_when_its_own_tokens_are_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Mock(source_n=np.array([0, 1]), count_n=np.array([2, 2]), real_nt=np.ones((2, 2), bool))
    rows.masked_slots.return_value = np.full((2, 2), MASK)
    rows.best.return_value = np.full((2, 2), 7), np.log(np.array([[0.9, 0.9], [0.9, 0.1]], np.float32))
    monkeypatch.setattr(mask_predict.Rows, "most_probable", lambda *_: rows)
    options = {"iterations": 4, "length_beam": 1, "confidence": 0.5}
    assert mask_predict._refined(Mock(), [[6], [6]], options)[3].tolist() == [1, 4]


@pytest.mark.parametrize(
    ("length", "counts"), [(1, [1, 1, 1, 1]), (3, [3, 2, 2, 2, 1, 1, 1, 1, 1, 1]), (10, [10, 7, 5, 2])]
)
def test_each_pass_masks_again_as_many_tokens_as_in_torch(
    length: int, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Mock(source_n=np.array([0]), count_n=np.array([length]), real_nt=np.ones((1, length), bool))
    rows.masked_slots.return_value = np.full((1, length), MASK)
    rows.best.return_value = np.full((1, length), 7), np.log(np.linspace(0.1, 0.9, length, dtype=np.float32))[None]
    monkeypatch.setattr(mask_predict.Rows, "most_probable", lambda *_: rows)
    options = {"iterations": len(counts), "length_beam": 1}
    assert mask_predict._refined(Mock(), [[6]], options)[3].tolist() == [len(counts)]
    assert [int((call.args[0] == MASK).sum()) for call in rows.best.call_args_list] == counts


def test_lengths_are_tried_on_both_sides_of_the_predicted_one_and_within_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded = Mock(most_probable_lengths=lambda _: np.array([[5], [2], [8]]))
    monkeypatch.setattr(length_parallel, "Encoded", lambda *_: encoded)
    made = Mock()
    monkeypatch.setattr(length_parallel, "Rows", made)
    length_parallel._rows(Mock(max_length=8), [], {"candidates": 4})
    sources, lengths = (row.tolist() for row in made.call_args.args[1:])
    assert sources == [0] * 4 + [1] * 4 + [2] * 3 and lengths == [3, 4, 5, 6, 2, 3, 4, 5, 6, 7, 8]


def fake_graphs(source_length: int, length_scores: list[float], **facts: Any) -> Mock:
    """The encoder of one source; the classes of lengths begin 3 below the source's."""
    outputs = {MEMORY: np.zeros((1, 2, 1), np.float32), LOGITS: np.array([length_scores], np.float32)}
    facts = {"length_slot": False, "length_range": 3, "length_multiplier": 1.0, **facts}
    return Mock(max_length=12, facts=facts, encoded=lambda *_: (outputs, np.array([source_length], np.int32)))


def test_neither_a_length_nor_its_slots_are_more_than_the_model_has() -> None:
    graphs = fake_graphs(11, [0, 1, 2, 3, 4, 5, 6], length_multiplier=1.5)
    for count, lengths in ((1, [[12]]), (4, [[12, 12, 12, 11]])):
        assert slots.Encoded(graphs, [[6]]).most_probable_lengths(count).tolist() == lengths
    assert slots.Rows(slots.Encoded(graphs, [[6]]), np.zeros(2, int), np.array([5, 9])).count_n.tolist() == [8, 12]


def test_an_empty_output_is_a_length_alone_and_never_among_several() -> None:
    encoded = slots.Encoded(fake_graphs(2, [0, 1, 9, 5, 0, 0, 0]), [[6]])
    assert encoded.most_probable_lengths(1).tolist() == [[1]]
    assert encoded.most_probable_lengths(2).tolist() == [[2, 3]]


def test_lengths_beyond_all_classes_are_as_probable_as_the_nearest_one() -> None:
    encoded = slots.Encoded(fake_graphs(5, [0, 0, 0, 0, 0, 0, 1]), [[6]])
    expected = np.array([0, 0, 1, 1]) - np.log(6 + math.e)
    assert encoded.length_log_probs(np.zeros(4, int), np.array([1, 2, 8, 11])) == pytest.approx(expected, abs=1e-6)


def test_the_score_of_blocks_counts_eos(monkeypatch: pytest.MonkeyPatch) -> None:
    filled = np.array([[7, EOS]]), np.array([1]), np.log(np.array([[0.5, 0.25]], np.float32))
    monkeypatch.setattr(blocks, "fill", lambda *_, **__: filled)
    graphs = Mock(max_length=9, encoded=lambda *_: (MagicMock(), None))
    options = {"max_tokens": None, "max_ratio": 2.0, "block": None, "collapse": True}
    ((found,),) = blocks.scored(graphs, [[6]], options)
    assert found.score == pytest.approx(math.log(0.125)) and found.log_probs == pytest.approx([math.log(0.5)])
