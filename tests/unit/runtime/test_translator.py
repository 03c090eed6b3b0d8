"""``retort.load``: typed results, scores, threads, times; and the examples of its page."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import retort
from retort import config
from retort.data.ngrams import NgramModel
from retort.data.vocabulary import Vocabulary
from retort.export.exporting import export_system
from retort.models.checkpoint import load_checkpoint
from retort.runtime import open_system
from retort.search.decoding import translate_texts
from tests.unit.fakes_export import exported

ROOT = Path(__file__).resolve().parents[3]
TEXTS = ["abcd efgh", "", "hgfe dcba abcd gh", "   ", "abcd"]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    """A CTC and a CMLM student and a teacher, as checkpoints and as bundles."""
    teacher = config.Autoregressive(name="autoregressive")
    students = {"ctc": config.Ctc(name="ctc"), "cmlm": config.Cmlm(name="cmlm")}
    return exported(tmp_path_factory.mktemp("systems"), **students, teacher=teacher)


SYSTEMS = ["ctc", "ctc-checkpoint", "cmlm", "cmlm-checkpoint", "teacher", "teacher-checkpoint"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_text_and_several(systems, name):
    translator = retort.load(systems / name)
    translations = translator.translate(TEXTS)
    assert [t.text for t in translations] == [output.text for output in open_system(systems / name).translate(TEXTS)]
    assert [t.source for t in translations] == TEXTS and translations[0].score is translations[0].tokens is None
    assert translator.translate(TEXTS[2]) == translations[2] == translator.translate(TEXTS, batch_size=2)[2]
    assert translator.translate([]) == []
    cut = translator.translate("abcd " * 100)
    assert cut.truncated and cut.source_cut == translator.source_tokens(["abcd " * 100])[0] - translator.longest_source


def test_n_grams_of_a_bundle_are_found_wherever_the_process_goes(systems, tmp_path, monkeypatch):
    vocabulary = Vocabulary.load(systems / "ctc-checkpoint").digest
    (tmp_path / "some.ngrams").write_bytes(replace(NgramModel.empty(), vocabulary=vocabulary).to_bytes())
    search = config.CtcBeam(kind="ctc_beam", table=str(tmp_path / "some.ngrams")).model_dump()
    export_system(systems / "ctc-checkpoint", tmp_path / "bundle", search=search)
    monkeypatch.chdir(tmp_path)
    translator = retort.load("bundle")
    before = translator.translate(TEXTS)
    monkeypatch.chdir("/")
    assert translator.translate(TEXTS) == before


def test_a_teacher_that_nothing_asks_is_refused(systems):
    with pytest.raises(retort.RetortError, match="teacher-checkpoint: the search ctc_collapse asks no teacher"):
        retort.load(systems / "ctc-checkpoint", teacher=systems / "teacher-checkpoint")


def test_n_grams_of_another_vocabulary_are_refused(systems, tmp_path):
    """Wherever a model meets them: where it is opened, exported, and asked by a script of the workflow."""
    (tmp_path / "other.ngrams").write_bytes(replace(NgramModel.empty(), vocabulary="another").to_bytes())
    search = {"kind": "ctc_beam", "table": str(tmp_path / "other.ngrams")}
    checkpoint = systems / "ctc-checkpoint"
    loaded = load_checkpoint(checkpoint, torch.device("cpu"))
    for refused in (
        lambda: retort.load(checkpoint, search=search),
        lambda: retort.load(systems / "ctc", search=search),
        lambda: export_system(checkpoint, tmp_path / "bundle", search=config.CtcBeam(**search).model_dump()),
        lambda: translate_texts(
            loaded.model, loaded.vocabulary, TEXTS, search=config.CtcBeam(**search), batch_tokens=64
        ),
    ):
        with pytest.raises(retort.RetortError, match="counted with another vocabulary than the model's"):
            refused()


@pytest.mark.parametrize("name", SYSTEMS)
def test_scores_are_of_the_same_outputs(systems, name):
    translator = retort.load(systems / name)
    plain, scored = translator.translate(TEXTS), translator.translate(TEXTS, scores=True)
    assert [t.text for t in plain] == [t.text for t in scored]
    assert [t.truncated for t in plain] == [t.truncated for t in scored]
    for t in scored:
        if not t.text:
            assert (t.score, t.tokens, t.confidence) == (0.0, (), None)
            continue
        assert "".join(token.text for token in t.tokens).replace("\u2581", " ").strip() == t.text
        assert all(0 < token.probability <= 1 for token in t.tokens)
        assert min(p := [token.probability for token in t.tokens]) <= t.confidence <= max(p)


@pytest.mark.parametrize("name", ["cmlm", "teacher"])
def test_engines_agree_on_scores(systems, name):
    ours, theirs = (retort.load(systems / n).translate(TEXTS, scores=True) for n in (name, f"{name}-checkpoint"))
    assert [t.score for t in ours] == pytest.approx([t.score for t in theirs], abs=1e-4)
    for a, b in zip(ours, theirs, strict=True):
        assert [t.probability for t in a.tokens] == pytest.approx([t.probability for t in b.tokens], abs=1e-4)


@pytest.mark.parametrize(("name", "most"), [("ctc", 1), ("cmlm", 3), ("teacher", 5), ("teacher-checkpoint", 5)])
def test_several_outputs(systems, name, most):
    translator = retort.load(systems / name)
    assert translator.most_outputs == most
    translations = translator.translate(TEXTS, n_best=most)
    assert [t.text for t in translations] == [t.text for t in translator.translate(TEXTS)]
    counts = [len(t.hypotheses) for t in translations]
    assert min(counts) == 1 and (most > 1) < max(counts) <= most and translations[0].score is None
    with pytest.raises(retort.RetortError, match=f"{most + 1} outputs per line: .* ranks {most}; "):
        translator.translate("abcd", n_best=most + 1)


def test_a_search_is_a_section_or_text(systems, tmp_path):
    (tmp_path / "a.json").write_text('{"kind": "beam", "beam_size": 7}')
    text = ("beam beam_size=7", '{"kind": "beam", "beam_size": 7}', f"@{tmp_path}/a.json")
    for search in (*text, {"kind": "beam", "beam_size": 7}):
        assert retort.load(systems / "teacher", search=search).most_outputs == 7
    wrong = {
        "beam 7": "7 is no option; expected",
        "argmax": "autoregressive decodes by",
        "beam beam_size=x": "beam_size",
        "beam beam_size=3 beam_size=4": "beam_size is given twice",
        "beam kind=greedy": "kind is given twice",
    }
    for search, message in wrong.items():
        with pytest.raises(retort.RetortError, match=f"^search {search}: .*{message}"):
            retort.load(systems / "teacher", search=search)


def test_what_is_no_text_or_number_is_refused(systems):
    translator = retort.load(systems / "ctc")
    with pytest.raises(retort.RetortError, match="text 2: NoneType, expected a string"):
        translator.translate(["a", None])
    with pytest.raises(retort.RetortError, match="n_best: 0 is below 1"):
        translator.translate("a", n_best=0)
    with pytest.raises(retort.RetortError, match="runs on the CPU, not on cuda"):
        retort.load(systems / "ctc", device="cuda")


def opened(path: Any, **options: Any) -> Any:
    return retort.load(path, **options)


CALLS: dict[str, tuple[Any, str]] = {
    "no path": (lambda path: opened(""), "'': expected the path of a directory"),
    "a number for a teacher": (lambda path: opened(path, teacher=5), "teacher: 5: expected the path of a directory"),
    "no teacher": (lambda path: opened(path, teacher=""), "teacher: '': expected the path of a directory"),
    "a long path": (lambda _: opened("x" * 5000), "^x{200}: File name too long; use a shorter name$"),
    "a long path, and a search": (lambda _: opened("x" * 5000, search="argmax"), "File name too long"),
    "no placeholders": (
        lambda path: opened(path).translate_text("a", placeholders=None),
        "placeholders: None, expected a list of regular expressions",
    ),
    "one placeholder": (
        lambda path: opened(path).translate_text("a", placeholders="abc"),
        "placeholders: 'abc', expected a list",
    ),
    "a number for a placeholder": (
        lambda path: opened(path).translate_text("a", placeholders=[3]),
        "placeholder 3: .*; expected a regular expression",
    ),
    "bytes for a placeholder": (
        lambda path: opened(path).translate_text("a", placeholders=[b"a"]),
        "placeholder b'a': .*; expected a regular expression",
    ),
    "no threads": (lambda path: opened(path, threads=0), "threads: 0 is below 1"),
    "many threads": (lambda path: opened(path, threads=10**9), "threads: 1000000000 is above 1024"),
    "none at once": (lambda path: opened(path, at_once=0), "at_once: 0 is below 1"),
    "many at once": (lambda path: opened(path, at_once=10**9), "at_once: 1000000000 is above 1024"),
    "half a thread": (lambda path: opened(path, threads=0.5), "threads: 0.5, expected a whole number"),
    "another precision": (lambda path: opened(path, precision="x"), "precision: 'x', expected float32 or"),
    "another device": (lambda path: opened(path, device="tpu"), "device: 'tpu', expected cpu or cuda"),
    "a list for a search": (lambda path: opened(path, search=[1]), "search: .1., expected text, or a section"),
    "nothing": (lambda path: opened(path).translate(None), "texts: NoneType, expected a string, or several"),
    "bytes": (lambda path: opened(path).translate(b"a"), "texts: bytes, expected a string"),
    "half a pair": (
        lambda path: opened(path).translate(["a", "b\ud800"]),
        "text 2: half of a surrogate pair at 1",
    ),
    "half in text": (lambda path: opened(path).translate_text("\ud800"), "text 1: half of a surrogate pair at 0"),
    "half to count": (lambda path: opened(path).source_tokens(["\ud800"]), "text 1: half of a surrogate pair"),
    "a text for a number": (lambda path: opened(path).translate("a", n_best="2"), "n_best: '2', expected a whole"),
    "no rounds": (lambda path: opened(path).latency(["a"], rounds=0), "rounds: 0 is below 1"),
    "no batch": (lambda path: opened(path).latency(["a"], batch_size=0), "batch_size: 0 is below 1"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_one_clear_error(systems, name):
    call, message = CALLS[name]
    for system in ("ctc", "cmlm-checkpoint"):
        with pytest.raises(retort.RetortError, match=message):
            call(systems / system)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ctc", "cmlm-checkpoint", "teacher"])
def test_threads_share_a_translator(systems, name):
    translator = retort.load(systems / name, at_once=3)
    texts = [f"{'abcdefgh'[i % 8] * (i % 5 + 1)} {'hgfedcba'[i % 7]}" for i in range(40)]
    expected = [translator.translate(text, scores=True) for text in texts]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda text: translator.translate(text, scores=True), texts * 3))
    assert [t.text for t in found] == [t.text for t in expected] * 3
    assert [t.score for t in found] == pytest.approx([t.score for t in expected] * 3, abs=1e-5)


def test_latency_of_calls_and_of_texts(systems):
    translator = retort.load(systems / "ctc")
    with pytest.raises(retort.RetortError, match="nothing to time"):
        translator.latency()
    translator.translate(TEXTS)
    translator.translate("abcd")
    served = translator.latency()
    assert (served.calls, served.sentences) == (2, 6)
    measured = translator.latency(TEXTS, batch_size=2, rounds=4)
    assert (measured.calls, measured.sentences) == (8, 12)
    assert 0 < measured.milliseconds_p50 <= measured.milliseconds_p90 <= measured.milliseconds_p99
    assert translator.latency() == served


def test_importing_the_package_is_light():
    program = (
        "import sys, retort; print(retort.__version__, sorted({'numpy', 'torch', 'retort.errors'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split(maxsplit=1)[1] == "[]\n"
    assert not hasattr(retort, "absent") and all(hasattr(retort, name) for name in retort.__all__)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_page_run(systems, monkeypatch, capsys, example):
    monkeypatch.chdir(systems)
    exec(compile(example, "docs/python.md", "exec"), {})
    assert capsys.readouterr().out or "pool" in example
