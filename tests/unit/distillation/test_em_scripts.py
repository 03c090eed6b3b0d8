"""The scripts of the EM loop and of NCM by hand, with untrained models: what counts is which text they prefer."""

import json
import math
import random
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch

from retort import config
from retort.data.batches import Ragged
from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.provenance import file_digest
from retort.data.tables import CORPUS, ENCODED, GUARDS, MULTIMODALITY, SELECTION, TRANSLATIONS
from retort.data.vocabulary import Vocabulary
from retort.distillation.gathering import held_out_ids
from retort.errors import RetortError
from retort.models.build import build_model
from retort.models.checkpoint import load_checkpoint, read_description, read_weights, save_checkpoint
from retort.objectives import autoregressive, vanilla
from tests.unit.fakes_models import batch
from tests.unit.fakes_runs import DECODED, SHAPE, TRAIN_PAIRS, call, make_tables
from tests.unit.fakes_training import small_vocabulary
from workflow_scripts import (
    check_iteration,
    gather_distilled,
    gather_guards,
    gather_selected,
    hold_out_references,
    measure_multimodality,
    select_candidates,
)

CANDIDATES = 5
CPU = torch.device("cpu")
OBJECTIVES = {
    "autoregressive": (autoregressive, config.Autoregressive(name="autoregressive")),
    "vanilla": (vanilla, config.Vanilla(name="vanilla")),
}
LOOSE = {"length": 0, "distinct_words": 0, "quality": 0, "likelihood": 1e6}


def checkpoint(directory, name, vocabulary, seed, **changes):
    """An untrained model, sure enough of its random opinions that no two candidates are alike."""
    torch.manual_seed(seed)
    _, objective = OBJECTIVES[name]
    shape = {**SHAPE, **changes}
    model = build_model(objective, config.Model(**shape), vocabulary)
    weights = {key: 2 * value if value.ndim > 1 else value for key, value in model.named_parameters()}
    save_checkpoint(directory, weights, {"objective": objective.model_dump(), "model": shape}, vocabulary)
    return directory


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def vocabulary(tables):
    return Vocabulary.load(tables.vocabulary)


@pytest.fixture(scope="module")
def models(tables, vocabulary):
    kinds = {"student": "vanilla", "teacher": "autoregressive", "first": "autoregressive"}
    return {
        name: checkpoint(tables.root / name, kind, vocabulary, seed)
        for seed, (name, kind) in enumerate(kinds.items(), 1)
    }


@pytest.fixture(scope="module")
def foreign(tables, tmp_path_factory):
    """A teacher with another vocabulary."""
    root = tmp_path_factory.mktemp("foreign")
    texts = read_table(tables.corpus / "train.parquet", CORPUS)["target"].to_pylist()
    return checkpoint(root / "teacher", "autoregressive", small_vocabulary(root, texts, size=60), 1)


@pytest.fixture(scope="module")
def candidates(tables, vocabulary):
    """Random candidates: the third is cut, the last repeats the one before; of one source all are cut."""
    generator = random.Random(2)
    pairs = read_table(tables.encoded / "train.parquet", ENCODED).to_pylist()
    rows = []
    for place, pair in enumerate(pairs):
        for rank in range(CANDIDATES):
            target = list(pair["target"])
            for _ in range(rank + 1):
                target[generator.randrange(len(target))] = generator.randrange(6, vocabulary.target_size)
            tokens = rows[-1]["tokens"] if rank == 4 else target[: len(target) - rank % 3]
            facts = {
                **DECODED,
                "test_set": "train",
                "score": -1.0 - rank,
                "passes": 9,
                "truncated": rank == 2 or place == 7,
            }
            rows.append({"id": pair["id"], "rank": rank, "tokens": tokens, **facts, "empty": False})
    for row, text in zip(rows, vocabulary.decode_target([row["tokens"] for row in rows]), strict=True):
        row["text"] = text
    path = tables.root / "candidates.parquet"
    write_table(path, TRANSLATIONS, pa.Table.from_pylist(rows, schema=TRANSLATIONS.schema))
    return path


def run(script, *arguments):
    script.main(script.parser().parse_args([str(argument) for argument in arguments]))


def selecting(tables, models, candidates, output, **em):
    return (
        *("--em", json.dumps(em), "--candidates", candidates, "--train", tables.encoded / "train.parquet"),
        *("--student", models["student"], "--teacher", models["teacher"], "--first-teacher", models["first"]),
        *("--output", output),
    )


@torch.no_grad()
def log_p(loaded, source, tokens):
    """log p of a pair alone."""
    module, objective = OBJECTIVES[loaded.objective.name]
    return module.log_likelihood(loaded.model, batch([source], [tokens]), objective).item()


# ---- select_candidates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("em", "scorers"),
    [
        ({}, {"parallel": "student"}),
        ({"normalise": True, "choose_by": "difference"}, {"parallel": "student", "autoregressive": "teacher"}),
        ({"choose_by": "autoregressive"}, {"autoregressive": "teacher"}),
        ({"likelihood_floor": 0.1}, {"parallel": "student", "first": "first"}),
        ({"choose_by": "posterior", "posterior_weight": 2.0}, {"parallel": "student", "first": "first"}),
    ],
    ids=["parallel", "difference", "autoregressive", "floor", "posterior"],
)
def test_choices_are_those_of_scoring_one_by_one(tables, models, candidates, tmp_path, em, scorers):
    few = tmp_path / "few.parquet"
    rows = read_table(candidates, TRANSLATIONS).slice(0, 12 * CANDIDATES)
    write_table(few, TRANSLATIONS, rows)
    call(select_candidates, *selecting(tables, models, few, tmp_path / "out.parquet", **em))
    found = read_table(tmp_path / "out.parquet", SELECTION).to_pylist()
    facts = read_provenance(tmp_path / "out.parquet")
    digests = {column: file_digest(models[name] / "model.safetensors") for column, name in scorers.items()}
    assert facts["scorers"] == digests and facts["candidates"] == file_digest(few)
    loaded = {name: load_checkpoint(path, CPU) for name, path in models.items()}
    sources = {row["id"]: row["source"] for row in read_table(tables.encoded / "train.parquet", ENCODED).to_pylist()}
    assert len(found) == 12
    for place, row in enumerate(found):
        own = [r for r in rows.to_pylist() if r["id"] == row["id"]]
        texts = {}
        for r in own:
            if not r["truncated"]:
                texts.setdefault(r["text"], r)
        usable = list(texts.values()) or own[:1]

        def likelihood(name, r):
            return log_p(loaded[name], sources[r["id"]], r["tokens"])

        def score(r):
            by = em.get("choose_by", "parallel")
            if by == "posterior":
                return likelihood("student", r) + em["posterior_weight"] * likelihood("first", r)
            parallel = likelihood("student", r) if by != "autoregressive" else 0.0
            other = likelihood("teacher", r) if by != "parallel" else 0.0
            raw = other if by == "autoregressive" else parallel - other
            return raw / (len(r["tokens"]) + 1) if em.get("normalise") else raw

        def first(r):
            return likelihood("first", r) / (len(r["tokens"]) + 1)

        least = max(map(first, usable)) - em["likelihood_floor"] if "likelihood_floor" in em else -math.inf
        best = max((r for r in usable if first(r) >= least), key=score)
        assert (row["rank"], row["text"], row["tokens"]) == (best["rank"], best["text"], best["tokens"])
        assert (row["candidates"], row["truncated"]) == (len(usable), place == 7)
        assert row["score"] == pytest.approx(score(best), rel=1e-4)
        assert row["first_score"] == pytest.approx(score(usable[0]), rel=1e-4)
    assert len({row["rank"] for row in found}) > 1


def test_candidates_longer_than_the_student_allows_are_chosen_only_where_all_are(
    tables, models, vocabulary, candidates, tmp_path
):
    """The first one then, as of candidates that do not fit into the slots of CTC."""
    lengths = {}
    for row in read_table(candidates, TRANSLATIONS).to_pylist():
        if not row["truncated"]:
            lengths.setdefault(row["id"], []).append(len(row["tokens"]))
    longest = sorted(map(min, lengths.values()))[len(lengths) // 2]
    short = checkpoint(tmp_path / "short", "vanilla", vocabulary, 1, max_length=longest + 1)
    arguments = selecting(tables, {**models, "student": short}, candidates, tmp_path / "out.parquet")
    call(select_candidates, *arguments)
    found = {row["id"]: row for row in read_table(tmp_path / "out.parquet", SELECTION).to_pylist()}
    impossible = {id_ for id_, own in lengths.items() if min(own) > longest}
    assert 0 < len(impossible) < len(lengths)
    for id_ in lengths:
        row = found[id_]
        if id_ in impossible:
            assert (row["rank"], row["score"]) == (0, -math.inf)
        else:
            assert len(row["tokens"]) <= longest and math.isfinite(row["score"])


def test_models_with_different_vocabularies_do_not_score_each_other(tables, models, foreign, candidates, tmp_path):
    arguments = selecting(tables, {**models, "teacher": foreign}, candidates, tmp_path / "out.parquet")
    run(select_candidates, *arguments, "--em", '{"choose_by": "parallel"}')
    with pytest.raises(RetortError, match="trained with different vocabularies"):
        run(select_candidates, *arguments, "--em", '{"choose_by": "difference"}')


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_candidates_of_other_sources_are_refused(tables, models, candidates, tmp_path, wrong):
    rows = read_table(candidates, TRANSLATIONS).slice(0, 9).to_pylist()
    rows[-1]["id"] = wrong
    other = tmp_path / "other.parquet"
    write_table(other, TRANSLATIONS, pa.Table.from_pylist(rows, schema=TRANSLATIONS.schema))
    with pytest.raises(RetortError, match=r"train.parquet: lacks \d+ ids of .*other.parquet, \["):
        run(select_candidates, *selecting(tables, models, other, tmp_path / "out.parquet"))
    assert not (tmp_path / "out.parquet").exists()


# ---- gather_distilled -----------------------------------------------------------------------------------------------


def test_best_candidates_train_the_student_but_for_those_held_out(tables, candidates, tmp_path):
    """N-best lists serve as distilled text too: their first candidates."""

    def gathered(name, *options):
        paths = {part: tmp_path / f"{name}.{part}.parquet" for part in ("translations", "encoded")}
        call(
            gather_distilled,
            *("--shards", candidates, "--train", tables.encoded / "train.parquet", "--vocabulary", tables.vocabulary),
            *("--output-translations", paths["translations"], "--output-encoded", paths["encoded"], *options),
        )
        assert set(read_table(paths["translations"], TRANSLATIONS)["rank"].to_pylist()) == {0}
        return read_table(paths["encoded"], ENCODED).to_pylist()

    held_out = tmp_path / "held.parquet"
    every, kept = gathered("all"), gathered("some", "--held-out", 10, "--output-held-out", held_out)
    apart = read_table(held_out, ENCODED).to_pylist()
    first = [
        row for row in read_table(candidates, TRANSLATIONS).to_pylist() if not row["rank"] and not row["truncated"]
    ]
    assert [(row["id"], row["target"]) for row in every] == [(row["id"], row["tokens"]) for row in first]
    assert len(apart) in (9, 10) and sorted(kept + apart, key=lambda row: row["id"]) == every


# ---- check_iteration, gather_guards, gather_selected ----------------------------------------------------------------


@pytest.fixture(scope="module")
def selected(tables, models, candidates):
    """Selections in two shards, the later sources first."""
    rows = read_table(candidates, TRANSLATIONS)
    paths = []
    for shard in (1, 0):
        part = tables.root / f"candidates{shard}.parquet"
        write_table(part, TRANSLATIONS, rows.slice(shard * 30 * CANDIDATES, 30 * CANDIDATES))
        paths.append(tables.root / f"selected{shard}.parquet")
        run(select_candidates, *selecting(tables, models, part, paths[-1]))
    return paths


def checked(tables, models, selected, candidates, output, seed=1, **guards):
    run(
        check_iteration,
        *("--guards", json.dumps({**LOOSE, **guards}), "--iteration", 2, "--seed", seed, "--selected", *selected),
        *("--first", candidates, "--first-teacher", models["first"], "--corpus", tables.corpus / "train.parquet"),
        *("--train", tables.encoded / "train.parquet", "--output", output),
    )
    return output


@pytest.mark.parametrize("sentences", [1, 7, 2000])
def test_guards_compare_the_choice_with_the_first_teachers_text(
    tables, models, selected, candidates, tmp_path, sentences
):
    path = checked(tables, models, selected, candidates, tmp_path / "x.parquet", sentences=sentences)
    rows = {row["metric"]: row for row in read_table(path, GUARDS).to_pylist()}
    assert {(row["iteration"], row["seed"]) for row in rows.values()} == {(2, 1)}
    chosen = sorted((r for p in selected for r in read_table(p, SELECTION).to_pylist()), key=lambda r: r["id"])
    first = [r for r in read_table(candidates, TRANSLATIONS).to_pylist() if r["rank"] == 0]
    pairs = read_table(tables.encoded / "train.parquet", ENCODED).to_pylist()
    assert [r["id"] for r in first] == [r["id"] for r in chosen] == [r["id"] for r in pairs]
    # the first translation of one source is truncated
    chosen, first, pairs = (rows[:7] + rows[8:] for rows in (chosen, first, pairs))
    places = {1: [0], 7: [0, 9, 19, 29, 38, 48, 58], 2000: range(TRAIN_PAIRS - 1)}[sentences]
    loaded = load_checkpoint(models["first"], CPU)
    for column, texts in (("value", chosen), ("first", first)):
        tokens = sum(len(texts[i]["tokens"]) + 1 for i in places)
        nats = sum(log_p(loaded, pairs[i]["source"], texts[i]["tokens"]) for i in places)
        assert rows["log_likelihood"][column] == pytest.approx(nats / tokens, rel=1e-5)
        words = {word for text in texts for word in text["text"].split()}
        assert rows["distinct_words"][column] == len(words)
    assert rows["changed"]["value"] == sum(r["rank"] > 0 for r in chosen) / (TRAIN_PAIRS - 1)
    facts = read_provenance(path)
    assert facts["tokenizer"] == "13a" and facts["signature"].startswith("nrefs:1|") and "tok:13a" in facts["signature"]


@pytest.mark.parametrize(
    "flaw", [{"truncated": True}, {"empty": True, "text": "", "tokens": []}, {"rejected": "repeats"}]
)
def test_sources_whose_first_translation_trains_nothing_are_not_compared(
    tables, models, selected, candidates, tmp_path, flaw
):
    """The same guards, whatever the text of such translations is."""
    found = []
    for name, longer in (("short", 1), ("long", 3)):
        rows = read_table(candidates, TRANSLATIONS).to_pylist()
        for row in rows[: 20 * CANDIDATES]:
            row.update({"text": longer * f"{row['text']} ", "tokens": longer * row["tokens"], **flaw})
        write_table(tmp_path / name, TRANSLATIONS, pa.Table.from_pylist(rows, schema=TRANSLATIONS.schema))
        checked(tables, models, selected, tmp_path / name, tmp_path / f"{name}.guards")
        found.append(read_table(tmp_path / f"{name}.guards", GUARDS))
    assert found[0].equals(found[1])
    length = found[0].to_pylist()[0]
    chosen = sorted((r for p in selected for r in read_table(p, SELECTION).to_pylist()), key=lambda r: r["id"])[20:]
    first = [row for row in rows if row["rank"] == 0][20:]
    assert length["metric"] == "length"
    for column, texts in (("value", chosen), ("first", first)):
        assert length[column] == pytest.approx(sum(len(row["tokens"]) + 1 for row in texts) / len(texts))
    for row in rows:
        row.update(flaw)
    write_table(tmp_path / "none", TRANSLATIONS, pa.Table.from_pylist(rows, schema=TRANSLATIONS.schema))
    with pytest.raises(RetortError, match="none: all translations are empty, cut or rejected"):
        checked(tables, models, selected, tmp_path / "none", tmp_path / "none.guards")


def test_the_likelihood_is_that_of_sentences_the_first_teacher_can_produce(
    tables, models, vocabulary, selected, candidates, tmp_path
):
    rows = read_table(candidates, TRANSLATIONS).to_pylist()
    pairs = read_table(tables.encoded / "train.parquet", ENCODED).to_pylist()
    longest = max(len(tokens) for tokens in [row["tokens"] for row in rows] + [pair["source"] for pair in pairs])
    for row in rows[: 5 * CANDIDATES]:
        row["tokens"] = 99 * row["tokens"]
    path = tmp_path / "long.parquet"
    write_table(path, TRANSLATIONS, pa.Table.from_pylist(rows, schema=TRANSLATIONS.schema))
    short = checkpoint(tmp_path / "first", "autoregressive", vocabulary, 3, max_length=longest + 1)
    checked(tables, {**models, "first": short}, selected, path, tmp_path / "out.parquet")
    found = {row["metric"]: row for row in read_table(tmp_path / "out.parquet", GUARDS).to_pylist()}
    chosen = sorted((r for p in selected for r in read_table(p, SELECTION).to_pylist()), key=lambda r: r["id"])
    loaded = load_checkpoint(short, CPU)
    for column, texts in (("value", chosen), ("first", [row for row in rows if row["rank"] == 0])):
        # the first translation of source 7 is truncated
        compared = [place for place in range(5, TRAIN_PAIRS) if place != 7]
        tokens = sum(len(texts[i]["tokens"]) + 1 for i in compared)
        nats = sum(log_p(loaded, pairs[i]["source"], texts[i]["tokens"]) for i in compared)
        assert found["log_likelihood"][column] == pytest.approx(nats / tokens, rel=1e-5)
    nothing = check_iteration.log_likelihoods_per_token(
        loaded, *(Ragged.from_lists([tokens]) for tokens in ([7], [8], [9] * 999))
    )
    assert all(map(math.isnan, nothing))


def test_the_quality_of_the_choice_is_that_of_sources_with_a_reference(tables, models, selected, candidates, tmp_path):
    """The first teacher's own text is the reference of every other source."""
    corpus = read_table(tables.corpus / "train.parquet", CORPUS).sort_by("id")
    first = [row["text"] for row in read_table(candidates, TRANSLATIONS).to_pylist() if row["rank"] == 0]
    references = pa.array([text if i % 2 else "" for i, text in enumerate(first)])
    place = corpus.schema.get_field_index("target")
    write_table(tmp_path / "train.parquet", CORPUS, corpus.set_column(place, "target", references))
    own = SimpleNamespace(corpus=tmp_path, encoded=tables.encoded)
    path = checked(own, models, selected, candidates, tmp_path / "x.parquet")
    quality = next(row for row in read_table(path, GUARDS).to_pylist() if row["metric"] == "BLEU")
    assert quality["first"] == pytest.approx(100) and quality["value"] < 100


def test_words_of_a_language_without_spaces_are_counted_without_references(
    tables, models, selected, candidates, tmp_path
):
    corpus = read_table(tables.corpus / "train.parquet", CORPUS)
    place = corpus.schema.get_field_index("target")
    nothing = corpus.set_column(place, "target", pa.array([""] * TRAIN_PAIRS))
    write_table(tmp_path / "train.parquet", CORPUS, nothing)
    rows = read_table(candidates, TRANSLATIONS)
    place = rows.schema.get_field_index("text")
    chinese = rows.set_column(place, "text", pa.array(["\u732b\u5750\u5728\u57ab\u5b50\u4e0a"] * rows.num_rows))
    write_table(tmp_path / "chinese.parquet", TRANSLATIONS, chinese)
    own = SimpleNamespace(corpus=tmp_path, encoded=tables.encoded)
    path = checked(own, models, selected, tmp_path / "chinese.parquet", tmp_path / "x.parquet")
    distinct = next(row for row in read_table(path, GUARDS).to_pylist() if row["metric"] == "distinct_words")
    assert distinct["first"] == 6


def test_a_selection_of_other_sources_is_not_measured(tables, models, selected, candidates, tmp_path):
    with pytest.raises(RetortError, match=r"selected1.parquet: its ids are not the 60 of"):
        checked(tables, models, selected[:1], candidates, tmp_path / "x.parquet")
    part = tables.root / "candidates0.parquet"
    with pytest.raises(RetortError, match=r"candidates0.parquet: its ids are not the 60 of"):
        checked(tables, models, selected, part, tmp_path / "x.parquet")


def gathering(tables, selected, guards, output):
    return (
        *("--selected", *selected, "--guards", guards, "--train", tables.encoded / "train.parquet"),
        *("--vocabulary", tables.vocabulary, "--output", output),
    )


def test_the_chosen_become_training_text_unless_a_seed_misses_a_bound(
    tables, models, selected, candidates, tmp_path, capsys
):
    """Of two seeds the second one misses a bound: neither goes on."""
    guards = [
        checked(tables, models, selected, candidates, tmp_path / f"{seed}.parquet", seed, length=length)
        for seed, length in ((1, 0), (2, 9))
    ]
    call(gather_guards, "--guards", guards[0], "--output", tmp_path / "fine.parquet")
    call(gather_guards, "--guards", *guards, "--output", tmp_path / "both.parquet")
    both = read_table(tmp_path / "both.parquet", GUARDS).to_pylist()
    assert both == [row for path in guards for row in read_table(path, GUARDS).to_pylist()]
    assert [facts["guards"]["length"] for facts in read_provenance(tmp_path / "both.parquet")["guards"]] == [0, 9]

    output = tmp_path / "encoded.parquet"
    with pytest.raises(RetortError, match=r"EM iteration 2 \(seed 2\): the loop ends here.*mean length.*loosen"):
        run(gather_selected, *gathering(tables, selected, tmp_path / "both.parquet", output))
    assert not output.exists()
    call(gather_selected, *gathering(tables, selected, tmp_path / "fine.parquet", output))
    sources = {row["id"]: row["source"] for row in read_table(tables.encoded / "train.parquet", ENCODED).to_pylist()}
    chosen = sorted((r for p in selected for r in read_table(p, SELECTION).to_pylist()), key=lambda r: r["id"])
    assert read_table(output, ENCODED).to_pylist() == [
        {"id": r["id"], "source": sources[r["id"]], "target": r["tokens"]} for r in chosen if not r["truncated"]
    ]
    facts = read_provenance(output)
    assert (facts["kept"], facts["truncated"]) == (TRAIN_PAIRS - 1, 1)
    assert facts["selection"] == read_provenance(selected[0])
    flawed = tmp_path / "flawed.parquet"
    rows = [{**row, "truncated": row["truncated"] or row["id"] % 3 == 0} for row in chosen]
    write_table(flawed, SELECTION, SELECTION.of_rows(rows))
    capsys.readouterr()
    call(gather_selected, *gathering(tables, [flawed], tmp_path / "fine.parquet", output))
    cut = sum(row["truncated"] for row in rows)
    assert (
        f"{output}: {100 * cut / TRAIN_PAIRS:.3g} % of {TRAIN_PAIRS} outputs train nothing" in capsys.readouterr().err
    )


# ---- hold_out_references --------------------------------------------------------------------------------------------


def test_the_references_held_out_are_those_of_the_sources_that_the_loop_holds_out(tables, tmp_path):
    train, kept, held_out = (tables.encoded / "train.parquet", tmp_path / "kept.parquet", tmp_path / "held_out.parquet")
    arguments = ("--train", train, "--output", kept, "--output-held-out", held_out)
    call(hold_out_references, *arguments, "--held-out", 3)
    pairs = read_table(train, ENCODED).to_pylist()
    chosen = set(held_out_ids(train, 3).tolist())
    assert read_table(held_out, ENCODED).to_pylist() == [row for row in pairs if row["id"] in chosen]
    assert read_table(kept, ENCODED).to_pylist() == [row for row in pairs if row["id"] not in chosen]
    with pytest.raises(RetortError, match=r"train.parquet: .* cannot be held out; lower em.held_out"):
        run(hold_out_references, *arguments, "--held-out", len(pairs))


# ---- measure_multimodality ------------------------------------------------------------------------------------------


def measuring(tables, model, output):
    return (
        *("--checkpoint", model, "--held-out", tables.encoded / "valid.parquet", "--system", "em1", "--seed", 3),
        *("--data", "em", "--output", output),
    )


def test_ncm_is_written_with_what_it_is_made_of(tables, models, tmp_path):
    call(measure_multimodality, *measuring(tables, models["student"], tmp_path / "x.parquet"))
    (row,) = read_table(tmp_path / "x.parquet", MULTIMODALITY).to_pylist()
    loaded = load_checkpoint(models["student"], CPU)
    pairs = read_table(tables.encoded / "valid.parquet", ENCODED).to_pylist()
    nats = -sum(log_p(loaded, pair["source"], pair["target"]) for pair in pairs)
    tokens = sum(len(pair["target"]) + 1 for pair in pairs)
    expected = {"system": "em1", "seed": 3, "data": "em", "sentences": len(pairs), "infeasible": 0, "tokens": tokens}
    assert row == {**expected, "nats": pytest.approx(nats, rel=1e-5)}
    facts = read_provenance(tmp_path / "x.parquet")
    assert facts["held_out"] == file_digest(tables.encoded / "valid.parquet")


def test_sources_without_a_target_have_no_ncm(tables, models, tmp_path):
    source_only = pa.Table.from_pylist([{"id": 999, "source": [7], "target": []}], schema=ENCODED.schema)
    pairs = read_table(tables.encoded / "valid.parquet", ENCODED)
    write_table(tmp_path / "more.parquet", ENCODED, pa.concat_tables([source_only, pairs]))
    measured = []
    for held_out in (tables.encoded / "valid.parquet", tmp_path / "more.parquet"):
        arguments = measuring(tables, models["student"], tmp_path / "x.parquet")
        run(measure_multimodality, *arguments, "--held-out", held_out)
        measured.append(read_table(tmp_path / "x.parquet", MULTIMODALITY))
    assert measured[0].equals(measured[1])


def test_ncm_knows_neither_dropout_nor_label_smoothing(tables, models, tmp_path):
    other = tmp_path / "other"
    description = read_description(models["student"])
    description["model"]["dropout"] = 0.5
    description["objective"]["label_smoothing"] = 0.4
    save_checkpoint(other, read_weights(models["student"]), description, Vocabulary.load(models["student"]))
    for model in (models["student"], other):
        run(measure_multimodality, *measuring(tables, model, tmp_path / f"{model.name}.parquet"))
    one, two = (read_table(tmp_path / f"{name}.parquet", MULTIMODALITY).to_pylist() for name in ("student", "other"))
    assert one == two


@pytest.mark.parametrize(
    ("objective", "what"), [("autoregressive", "an autoregressive model"), ("bart_janus", "a pre-trained model")]
)
def test_ncm_needs_a_parallel_model(objective, what, tables, vocabulary, tmp_path):
    options = config.BartJanus(name=objective) if objective == "bart_janus" else OBJECTIVES[objective][1]
    model = build_model(options, config.Model(**SHAPE), vocabulary)
    save_checkpoint(
        tmp_path, dict(model.named_parameters()), {"objective": options.model_dump(), "model": SHAPE}, vocabulary
    )
    with pytest.raises(RetortError, match=f"{what}; NCM needs a non-autoregressive one"):
        run(measure_multimodality, *measuring(tables, tmp_path, tmp_path / "x.parquet"))
