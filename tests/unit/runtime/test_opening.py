"""What can be opened, by which engine, and what is wrong with what cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retort import config
from retort.errors import RetortError
from retort.runtime import open_system
from retort.runtime.bundle import SEAL, seal_of
from tests.unit.fakes_export import exported

ROOT = Path(__file__).resolve().parents[3]
TEXTS = ["abcd efgh", "", "hgfe dcba abcd gh", "   ", "abcd"]


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    """Checkpoints and bundles of several families, by name."""
    objectives = (config.Ctc(name="ctc"), config.Cmlm(name="cmlm"), config.Autoregressive(name="autoregressive"))
    return exported(tmp_path_factory.mktemp("systems"), **{objective.name: objective for objective in objectives})


@pytest.fixture
def bundle(systems, tmp_path):
    """A copy to break."""
    for path in (systems / "ctc").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("name", "engine", "kind"),
    [
        ("ctc-checkpoint", "torch", "ctc_collapse"),
        ("ctc", "onnx", "ctc_collapse"),
        ("cmlm-checkpoint", "torch", "mask_predict"),
        ("cmlm", "onnx", "mask_predict"),
        ("autoregressive-checkpoint", "torch", "beam"),
        ("autoregressive", "ctranslate2", "beam"),
    ],
)
def test_one_interface_opens_every_kind_of_directory(systems, name, engine, kind):
    system = open_system(systems / name)
    assert (system.engine, system.precision, system.search["kind"]) == (engine, "float32", kind)
    outputs = system.translate(TEXTS)
    assert [bool(output.text) for output in outputs] == [True, False, True, False, True]
    assert [output.passes > 0 for output in outputs] == [True, False, True, False, True]
    assert outputs == [system.translate([text])[0] for text in TEXTS] == system.translate(TEXTS, batch_size=2)


def test_no_variable_gives_ctranslate2_more_threads(systems, monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "2")  # as in a job of two cores
    open_system(systems / "autoregressive", threads=1)
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_bundle_translates_as_its_checkpoint_does(systems):
    for name in ("ctc", "cmlm"):
        bundle, checkpoint = (open_system(systems / place) for place in (name, f"{name}-checkpoint"))
        assert bundle.translate(TEXTS) == checkpoint.translate(TEXTS)


def test_another_search_of_a_bundle_can_be_chosen(systems):
    search = config.MaskPredict(kind="mask_predict", iterations=2).model_dump()
    assert open_system(systems / "cmlm", search).translate(["abcd"])[0].passes == 2


def test_a_source_longer_than_the_model_is_cut_and_counted(systems):
    long = "abcd " * 100
    for name in ("ctc-checkpoint", "ctc"):
        short, cut = open_system(systems / name).translate(["abcd", long])
        assert (short.truncated, cut.truncated) == (False, True)


MODEL = {"max_length": 40, "truncate_sources": False, "target_size": 40}
BROKEN = {
    "a missing graph": (lambda d: (d / "model.onnx").unlink(), r"model\.onnx: cannot be read \(no such file"),
    "another graph": (lambda d: (d / "model.onnx").write_bytes(b"x"), r"model\.onnx: not the file that was exported"),
    "another vocabulary": (
        lambda d: (d / "source.model").write_bytes(b"x"),
        r"source\.model: not the file that was exported",
    ),
    "no JSON": (lambda d: (d / "bundle.json").write_text("{"), r"bundle\.json: cannot be read"),
    "another format": (lambda d: changed(d, format=7), r"of format 7, and this version of Retort reads format 1"),
    "another digest": (lambda d: changed(d, vocabulary="0"), r"its vocabulary is not that of bundle\.json"),
    "a file elsewhere": (lambda d: changed(d, files={"../x": "0"}), r"bundle\.json: names the file '\.\./x'"),
    "a digest that is none": (lambda d: changed(d, files={"source.model": 7}), "not the file that was exported"),
    "a pipe for a graph": (lambda d: piped(d), r"p: cannot be read \(a pipe"),
    "no kind of search": (lambda d: changed(d, search={}), r"bundle\.json: does not describe its files \(KeyError"),
    "an unknown search": (lambda d: changed(d, search={"kind": "x"}, searches=["x"]), "does not describe its files"),
    "no graphs": (lambda d: changed(d, model={**MODEL, "max_length": 9}), "does not describe its files"),
    "no limit": (lambda d: changed(d, model={}), r"bundle\.json: model\.max_length is absent"),
    "another size": (lambda d: changed(d, model={**MODEL, "target_size": 9}), r"model\.target_size is 9"),
    "a text for a number": (lambda d: changed(d, model={**MODEL, "max_length": "x"}), r"model\.max_length is x"),
    "another value": (lambda d: edited(d, '"ctc_collapse"', '"ctc_collapsed"'), "was changed after the export"),
    "another number": (lambda d: edited(d, '"blank_penalty": 0.0', '"blank_penalty": 1.0'), "was changed after the"),
}


def piped(directory):
    os.mkfifo(directory / "p")
    changed(directory, files={"p": "0"})


def changed(directory, **facts):
    """Other facts under their own seal."""
    path = directory / "bundle.json"
    changed = json.loads(path.read_text()) | facts
    path.write_text(json.dumps(changed | {SEAL: seal_of(changed)}))


def edited(directory, old, new):
    path = directory / "bundle.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_bundle_from_before_there_were_seals_opens(bundle):
    facts = json.loads((bundle / "bundle.json").read_text())
    del facts[SEAL]
    (bundle / "bundle.json").write_text(json.dumps(facts))
    assert open_system(bundle).translate(["abcd"])


@pytest.mark.parametrize("name", BROKEN)
def test_a_bundle_that_was_changed_is_one_clear_error(bundle, name):
    spoil, message = BROKEN[name]
    spoil(bundle)
    with pytest.raises(RetortError, match=message):
        open_system(bundle)


def test_ctranslate2_decodes_several_calls_at_once(systems):
    one, three = (open_system(systems / "autoregressive", at_once=count) for count in (1, 3))
    assert (one._translator.num_translators, three._translator.num_translators) == (1, 3)
    assert one.translate(TEXTS) == three.translate(TEXTS)


def test_what_a_bundle_cannot_do_is_refused(systems):
    bundle = systems / "cmlm"
    with pytest.raises(RetortError, match="decodes by mask_predict or argmax or length_parallel, not by beam"):
        open_system(bundle, config.Beam(kind="beam").model_dump())
    with pytest.raises(RetortError, match="exported in float32, which bfloat16 cannot change"):
        open_system(bundle, precision="bfloat16")
    with pytest.raises(RetortError, match="an exported system asks no teacher"):
        open_system(bundle, teacher=systems / "autoregressive-checkpoint")
    with pytest.raises(RetortError, match="has no teacher to choose a length"):
        open_system(bundle, config.LengthParallel(kind="length_parallel").model_dump())
    for name in ("ctc-checkpoint", "ctc"):
        with pytest.raises(RetortError, match="search ctc_beam needs a table of n-grams"):
            open_system(systems / name, config.CtcBeam(kind="ctc_beam").model_dump())
    assert open_system(bundle, config.LengthParallel(kind="length_parallel", candidates=1).model_dump())


NOTHING = {
    "absent": (lambda path: None, "no such directory"),
    "a file": (Path.touch, "a file"),
    "empty": (Path.mkdir, "no system in it"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_no_system_is_named_without_torch(tmp_path, monkeypatch, name):
    make, message = NOTHING[name]
    make(tmp_path / "x")
    monkeypatch.setitem(sys.modules, "torch", None)  # its import fails
    monkeypatch.delitem(sys.modules, "retort.runtime.torch_engine", raising=False)
    with pytest.raises(RetortError, match=rf"x: {message}; expected a directory with model\.json or bundle\.json"):
        open_system(tmp_path / "x")


PROGRAM = """
import sys
from retort.cli import main
sys.argv = ["retort", "translate", "--model", sys.argv[1], "--threads", "1"]
main()
heavy = {"torch", "pandas", "pyarrow", "pydantic", "snakemake", "scipy", "sacrebleu", "yaml", "onnx"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("name", ["ctc", "cmlm", "autoregressive"])
def test_a_bundle_translates_without_importing_anything_heavy(systems, name):
    command = [sys.executable, "-c", PROGRAM, str(systems / name)]
    found = subprocess.run(command, input="abcd\n\n", capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.count("\n") == 2 and found.stdout.strip()
    assert found.stderr.strip() == "[]"
