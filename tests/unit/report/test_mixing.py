"""The report's section on training with references and translations together."""

import argparse
import csv
import json

import pyarrow as pa
import pytest

from retort.config import System, Vanilla
from retort.data.parquet import read_table, write_table
from retort.data.tables import TRAINING_LOG
from retort.report import mixing
from retort.report.inputs import Paths, read_inputs
from retort.report.results import results_csv
from tests.unit.fakes_report import run_on_disk
from workflow_scripts import build_report

SECTIONS = {
    "ctc": {"data": "mixed", "self_paced": {"criterion": "loss", "weights": "hard", "random": False}},
    "vanilla": {"data": "mixed", "mixture": {"kind": "selective", "evaluator": "cmlm"}},
}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Of ctc the shares are the seed's number of tenths; vanilla has losses alone."""
    root = tmp_path_factory.mktemp("run")
    arguments = run_on_disk(root, ["teacher", "ctc", "vanilla", "cmlm"], seeds=(1, 2), sentences=6)
    config = json.loads((root / "config.json").read_text())
    for name, section in SECTIONS.items():
        config["students"][name] |= section
    (root / "config.json").write_text(json.dumps(config))
    for name in SECTIONS:
        for seed in (1, 2):
            path = root / "systems" / name / f"seed{seed}" / "training.parquet"
            rows = read_table(path, TRAINING_LOG).to_pylist()
            for update in (100, 200):
                if name == "ctc":
                    rows += [row(update, "train", m, seed / 10) for m in mixing.KEPT]
                rows += [row(update, "valid", m, 9.0) for m in mixing.LOSSES]
            rows += [row(200, "average", "loss_raw", 2.0 * seed), row(200, "average", "loss_distilled", 1.0)]
            write_table(path, TRAINING_LOG, pa.Table.from_pylist(rows, schema=TRAINING_LOG.schema))
    return arguments


def row(update, split, metric, value):
    return {"update": update, "split": split, "metric": metric, "value": value, "seconds": 1.0}


@pytest.mark.slow
def test_shares_and_losses_are_means_over_seeds(arguments):
    inputs = read_inputs(Paths(**{**arguments, "checkpoints": []}))
    ctc, vanilla = sorted(mixing.mixed_systems(inputs), key=lambda found: found.system)
    assert (ctc.system, ctc.recipe) == ("ctc", "union, self-paced by loss, hard")
    assert (vanilla.system, vanilla.recipe) == ("vanilla", "selective by cmlm")
    assert {name: value.mean for name, value in ctc.shares.items()} == pytest.approx(dict.fromkeys(mixing.KEPT, 0.15))
    assert {name: value.mean for name, value in ctc.losses.items()} == {"loss_raw": 3.0, "loss_distilled": 1.0}
    assert vanilla.shares == {}


def test_the_numbers_are_in_the_table(arguments):
    checkpoints = [build_report.named_directory(text) for text in arguments["checkpoints"]]
    inputs = read_inputs(Paths(**{**arguments, "checkpoints": checkpoints}))
    rows = list(csv.DictReader(results_csv(inputs).splitlines()))
    found = {(r["system"], r["seed"], r["metric"]): float(r["value"]) for r in rows}
    assert found["ctc", "2", "kept_raw"] == pytest.approx(0.2)
    assert (found["ctc", "2", "loss_raw"], found["vanilla", "1", "loss_distilled"]) == (4.0, 1.0)
    assert ("vanilla", "1", "kept") not in found and ("cmlm", "1", "loss_raw") not in found


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"data": "raw", "self_paced": {"criterion": "agreement", "weights": "linear"}},
         "raw, self-paced by agreement, linear"),
        ({"data": "mixed", "mixture": {"kind": "weighted", "weight": 0.3}}, "weighted 0.3"),
        ({"data": "mixed", "mixture": None, "self_paced": {"criterion": "loss", "weights": "hard", "random": True}},
         "union, random control of loss, hard"),
        ({"data": "mixed", "self_paced": {"criterion": "similarity", "weights": "hard", "end": 0.5}},
         "union, self-paced by similarity, hard, at the end 50%"),
    ],
)  # fmt: skip
def test_a_recipe_in_words(section, words):
    assert mixing.recipe(System(objective=Vanilla(name="vanilla"), **section)) == words


@pytest.mark.slow
def test_the_page_has_a_table_and_a_figure_where_there_is_something(arguments, tmp_path):
    build_report.main(argparse.Namespace(**arguments, output=tmp_path / "with"))
    html = (tmp_path / "with/report.html").read_text()
    part = html[html.index('<section id="mixing">') :]
    part = part[: part.index("</section>")]
    assert part.count("<tr><th scope") == 2 and "<td>15.0</td>" in part and "data:image/png" in part
    assert "selective by cmlm" in part and "3.000 <span" in part
    logs = [path for path in arguments["logs"] if path.parent.parent.name not in SECTIONS]
    build_report.main(argparse.Namespace(**{**arguments, "logs": logs}, output=tmp_path / "without"))
    assert '<section id="mixing">' not in (tmp_path / "without/report.html").read_text()
    sizes = [(tmp_path / name / "mixed_training.png").stat().st_size for name in ("without", "with")]
    assert sizes[0] < sizes[1]
