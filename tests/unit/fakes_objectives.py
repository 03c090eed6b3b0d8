"""Every objective and every search with options that tiny models need; a new one belongs here.

``tests/unit/objectives/test_every_objective.py`` and ``tests/unit/search/test_every_search.py`` train and decode all of
them, and name what is missing.
"""

from __future__ import annotations

from retort import config
from retort.config import ObjectiveSection, SearchSection
from retort.objectives import autoregressive as next_token
from retort.objectives import axe, bang, ctc, dag, glat, glat_ctc, oaxe, vanilla
from tests.unit.fakes_models import autoregressive, bang_model, dag_model, parallel

OBJECTIVE_CASES: dict[str, ObjectiveSection] = {
    "autoregressive": config.Autoregressive(name="autoregressive"),
    "imitation": config.Imitation(name="imitation"),
    "vanilla": config.Vanilla(name="vanilla"),
    "cmlm": config.Cmlm(name="cmlm"),
    "janus": config.Janus(name="janus"),
    "bart_janus": config.BartJanus(name="bart_janus", least_encoder_gap=0),
    "bang": config.Bang(name="bang"),
    "bang_pretraining": config.BangPretraining(
        name="bang_pretraining", span_block=4, mask_ratio=0.5, least_encoder_gap=0
    ),
    "axe": config.Axe(name="axe"),
    "oaxe": config.Oaxe(name="oaxe"),
    "glat": config.Glat(name="glat"),
    "ctc": config.Ctc(name="ctc"),
    "glat_ctc": config.GlatCtc(name="glat_ctc"),
    "nmla": config.Nmla(name="nmla"),
    "fuzzy_dag": config.FuzzyDag(name="fuzzy_dag"),
    "ctc, fraction": config.Ctc(name="ctc", upsampling=1.5),
    "glat_ctc, fraction": config.GlatCtc(name="glat_ctc", upsampling=1.75),
    "dag, fraction": config.Dag(name="dag", upsampling=2.5),
    "dag": config.Dag(name="dag"),
}
"""Options with which an objective learns a batch by heart in a few updates, by its name."""

COMMON_CASES = {
    "autoregressive": (next_token, config.Autoregressive(name="autoregressive"), autoregressive),
    "vanilla": (vanilla, config.Vanilla(name="vanilla"), parallel),
    "bang": (bang, config.Bang(name="bang"), bang_model),
    "bang, left to right": (bang, config.Bang(name="bang", nar_ratio=0), bang_model),
    "bang, blocks": (bang, config.Bang(name="bang", block=3), bang_model),
    "vanilla, deep": (
        vanilla,
        config.Vanilla(name="vanilla", deep_supervision=True),
        lambda: parallel(deep_supervision=True),
    ),
    "ctc, deep": (ctc, config.Ctc(name="ctc", deep_supervision=True), lambda: parallel(2, deep_supervision=True)),
}
"""Modules whose losses and likelihoods are both compared with plain sums, with options and a model for them."""

LOSS_CASES = {
    "axe": (axe, config.Axe(name="axe", length_multiplier=1.2), lambda: parallel(blank=True, length_multiplier=1.2)),
    "oaxe": (oaxe, config.Oaxe(name="oaxe", truncation=0.05), parallel),
    "glat": (glat, config.Glat(name="glat", start=0, end=0), parallel),
    "ctc": (ctc, config.Ctc(name="ctc", upsampling=3), lambda: parallel(3)),
    "glat_ctc": (glat_ctc, config.GlatCtc(name="glat_ctc", upsampling=3, start=0, end=0), lambda: parallel(3)),
    "dag": (dag, config.Dag(name="dag", start=0, end=0), dag_model),
}
"""The same of which the losses are compared; nothing is revealed in training either."""

SEARCH_CASES: dict[str, SearchSection] = {
    "greedy": config.Greedy(kind="greedy"),
    "beam": config.Beam(kind="beam", beam_size=3),
    "argmax": config.Argmax(kind="argmax", length_beam=2),
    "length_parallel": config.LengthParallel(kind="length_parallel", candidates=3),
    "mask_predict": config.MaskPredict(kind="mask_predict"),
    "blocks": config.Blocks(kind="blocks", block=2),
    "ctc_collapse": config.CtcCollapse(kind="ctc_collapse"),
    "dag_path": config.DagPath(kind="dag_path"),
    "ctc_beam": config.CtcBeam(kind="ctc_beam", lm_weight=0),
    "dag_beam": config.DagBeam(kind="dag_beam", lm_weight=0),
    "joint_viterbi": config.JointViterbi(kind="joint_viterbi"),
}
"""Options of a search, by its kind."""
