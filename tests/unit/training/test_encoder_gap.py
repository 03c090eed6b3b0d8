"""A pre-training that does not use its encoder is seen in the log, and stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from retort.config import BangPretraining, BartJanus
from retort.data.batches import Batch, EncodedCorpus, Ragged
from retort.errors import RetortError
from retort.models.base import EncoderDecoder
from retort.objectives.base import Step, load_objective
from retort.training.validation import Validator, unused_encoder
from tests.unit.fakes_models import batch, sentences
from tests.unit.fakes_runs import TEACHER, call, changed, make_tables
from tests.unit.fakes_training import OBJECTIVES, sequences, small_model, trainer
from workflow_scripts import train_system

PRETRAINING = [BartJanus(name="bart_janus"), BangPretraining(name="bang_pretraining", span_block=4, mask_ratio=0.5)]
TEXTS = sentences([5, 7, 6, 7], seed=2)


def gap(model: EncoderDecoder, options: Any) -> float:
    pairs = batch(TEXTS, TEXTS)
    return float(
        load_objective(options.name).encoder_gap(model, pairs, options, Step(torch.Generator().manual_seed(1)))
    )


@pytest.mark.parametrize("options", PRETRAINING, ids=lambda o: o.name)
def test_the_gap_is_none_where_the_decoder_cannot_see_the_encoder(options: Any) -> None:
    model = small_model(options).eval()
    assert abs(gap(model, options)) > 1e-4
    with torch.no_grad():
        for layer in cast("Any", model.decoder).layers:
            layer.cross_attention.memory.weight.zero_()
    assert gap(model, options) == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", PRETRAINING, ids=lambda o: o.name)
def test_the_gap_grows_where_the_model_learns_what_only_the_encoder_knows(options: Any) -> None:
    model = small_model(options).train()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    before = gap(model.eval(), options)
    for update in range(120):
        optimiser.zero_grad()
        step = Step(torch.Generator().manual_seed(update))
        load_objective(options.name).compute(model.train(), batch(TEXTS, TEXTS), options, step).total.backward()
        optimiser.step()
    assert gap(model.eval(), options) > before + 0.2


def rows(*gaps: float, every: int = 10) -> list[list[Any]]:
    return [[every * (i + 1), "valid", "encoder_gap", gap, 0.0] for i, gap in enumerate(gaps)]


def test_a_training_stops_in_its_second_half_if_the_gap_stayed_below_the_least() -> None:
    options = BartJanus(name="bart_janus")
    assert unused_encoder(options, rows(0.0, 0.1), 50) == "", "the middle is not reached"
    assert "update 30 of 50" in unused_encoder(options, rows(0.0, 0.1, 0.1), 50)
    assert unused_encoder(options, rows(0.0, 0.3, 0.1), 50) == "", "it was above once"
    assert unused_encoder(options, [], 50) == ""
    assert unused_encoder(BartJanus(name="bart_janus", least_encoder_gap=0), rows(-0.1, -0.1, -0.1), 50) == ""


def test_the_gap_is_a_mean_over_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = Ragged.from_lists(sentences([4] * 40 + [36] * 8, seed=3))
    options = BartJanus(name="bart_janus")
    validator = Validator(EncodedCorpus(np.arange(48), texts, texts), cast("Any", None), options, None, 0, tokens=512)
    gaps: list[tuple[float, int]] = []

    def gap_of(model: Any, batch: Batch, *_: Any) -> torch.Tensor:
        gaps.append((0.05 if batch.target_bt.shape[1] < 20 else 0.4, batch.target_tokens))
        return torch.tensor(gaps[-1][0])

    monkeypatch.setattr(load_objective("bart_janus"), "encoder_gap", gap_of)
    expected = 0.05 * 40 * 5 + 0.4 * 8 * 37
    assert validator.encoder_gap(small_model(options)) == pytest.approx(expected / (40 * 5 + 8 * 37))
    assert len({gap for gap, _ in gaps}) == 2


@pytest.mark.parametrize(("blocks", "measured"), [(6, True), (1, False)])
def test_the_gap_is_measured_where_a_batch_holds_one_text(blocks: int, measured: bool) -> None:
    texts = Ragged.from_lists(sentences([40] * blocks, seed=3))
    options = BartJanus(name="bart_janus")
    corpus = EncodedCorpus(np.arange(blocks), texts, texts)
    validator = Validator(corpus, cast("Any", None), options, None, 0, tokens=44)
    gap = validator.encoder_gap(small_model(options))
    assert (gap is not None) == measured and gap != 0.0
    assert ("encoder_gap" in validator(small_model(options))) == measured


def test_the_loop_logs_the_gap_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {**OBJECTIVES, "bart_janus": BartJanus(name="bart_janus", least_encoder_gap=50)}
    monkeypatch.setattr("tests.unit.fakes_training.OBJECTIVES", own)
    search = next(iter(own["bart_janus"].usual_searches.values()))
    stopped = trainer(
        tmp_path, "bart_janus", sequences(40, 1), sequences(8, 2), search, max_updates=8, warmup=1, validate_every=2,
        decode_sentences=0, select_by="loss",
    )  # fmt: skip
    with pytest.raises(RetortError, match=r"update 4 of 8: .* does not use its encoder"):
        stopped.run(None)
    logged = [row for row in stopped.progress.rows if row[2] == "encoder_gap"]
    assert [row[0] for row in logged] == [2, 4]


def test_a_training_that_stopped_goes_on_without_the_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = make_tables(tmp_path)
    often = changed(TEACHER, "training", max_updates=8, validate_every=2, decode_sentences=0, checkpoint_minutes=1e-9)
    bounded = {**often, "objective": {"name": "bart_janus", "least_encoder_gap": 50}, "data": "monolingual"}
    with pytest.raises(SystemExit):
        call(train_system, *tables.training(bounded, tmp_path / "output", tmp_path / "state"))
    assert "least_encoder_gap: 0 goes on" in capsys.readouterr().err
    tables.train(changed(bounded, "objective", least_encoder_gap=0), tmp_path / "output")
    assert "going on from update 3" in capsys.readouterr().err
    description = json.loads((tmp_path / "output/model.json").read_text())
    assert (description["updates"], description["objective"]["least_encoder_gap"]) == (8, 0)
