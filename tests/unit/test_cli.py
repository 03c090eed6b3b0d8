"""``retort translate`` on files, pipes and bad input."""

import bz2
import gzip
import json
import lzma
import os
import random
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch

from retort import cli
from retort.config import Argmax, Autoregressive, Bang, Beam, Blocks, Janus, LengthParallel, MaskPredict, Model, Vanilla
from retort.corpus.sources import Text, TextReader
from retort.data.vocabulary import Vocabulary
from retort.export.exporting import export_system
from retort.models.build import build_model
from retort.models.checkpoint import load_checkpoint, save_checkpoint
from retort.runtime.onnx_engine import OnnxSystem
from retort.runtime.torch_engine import TorchSystem
from retort.search.decoding import translate_texts
from tests.unit.fakes_training import small_vocabulary

ROOT = Path(__file__).resolve().parents[2]
SHAPE = {"d_model": 8, "heads": 2, "ffn": 8, "encoder_layers": 1, "decoder_layers": 1, "max_length": 64}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained model, whose output depends on its input all the same."""
    directory = tmp_path_factory.mktemp("cli")
    return saved(directory / "model", Vanilla(name="vanilla"), 3, random_vocabulary(directory, 1))


@pytest.fixture(scope="module")
def teacher(checkpoint):
    """An untrained autoregressive model with the same vocabulary; "foreign", beside it, has another."""
    directory, objective = checkpoint.parent, Autoregressive(name="autoregressive")
    saved(directory / "foreign", objective, 4, random_vocabulary(directory / "other", 2))
    return saved(directory / "teacher", objective, 4, Vocabulary.load(checkpoint))


def random_vocabulary(directory, seed):
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefgü", k=4)) for _ in range(30)]
    return small_vocabulary(directory, [" ".join(rng.choices(words, k=5)) for _ in range(100)])


def saved(directory, objective, seed, vocabulary):
    shape = Model(**SHAPE)
    torch.manual_seed(seed)
    model = build_model(objective, shape, vocabulary)
    description = {"objective": objective.model_dump(), "model": shape.model_dump()}
    save_checkpoint(directory, dict(model.named_parameters()), description, vocabulary)
    return directory


@pytest.fixture(scope="module")
def expected(checkpoint):
    """What a text becomes when it is translated alone."""
    checkpoint = load_checkpoint(checkpoint, torch.device("cpu"))
    model, vocabulary = checkpoint.model, checkpoint.vocabulary

    def translate(text):
        found = translate_texts(model, vocabulary, [text], Argmax(kind="argmax"), 4096)
        return vocabulary.decode_target([found[0][0].tokens])[0]

    return translate


@pytest.fixture
def retort(monkeypatch, capfdbinary, checkpoint):
    """Run the command in this process; returns its exit status, output and errors."""

    def run(*arguments, stdin=None, model=checkpoint):
        line = ["retort", "translate", "--model", str(model), "--threads", "1", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", line)
        if stdin is not None:
            read, write = os.pipe()
            os.write(write, stdin)
            os.close(write)
            monkeypatch.setattr(sys, "stdin", os.fdopen(read))
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code
        out, errors = capfdbinary.readouterr()
        return status, out.decode(), errors.decode()

    return run


def zstd(content):
    return pa.Codec("zstd").compress(content, asbytes=True)


TEXTS = {
    "in order": (b"abc\nde f\nabc de\nfade\nbead\n", ["abc", "de f", "abc de", "fade", "bead"]),
    "empty lines": (b"\nabc\n\n \nde\n\n", ["", "abc", "", "", "de", ""]),
    "no final newline": (b"abc\nde", ["abc", "de"]),
    "CRLF": (b"abc\r\nde\r\n\r\n", ["abc", "de", ""]),
    "CR within a line": (b"abc\rde\n", ["abc\rde"]),
    "other separators are text": ("abc\u2028de\x0bf\x85a\n".encode(), ["abc\u2028de\x0bf\x85a"]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("piped", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_line_out_for_a_line_in(retort, expected, tmp_path, name, piped):
    content, lines = TEXTS[name]
    (tmp_path / "input.txt").write_bytes(content)
    given = {"stdin": content} if piped else {}
    options = [] if piped else ["--input", tmp_path / "input.txt"]
    status, out, errors = retort("--batch-size", 2, *options, **given)
    assert (status, errors) == (0, "")
    assert out == "".join(f"{expected(line)}\n" for line in lines)
    assert len({expected(line) for line in lines}) == len({"".join(line.split()) for line in lines})
    assert all(bool(expected(line)) == bool(line.strip()) for line in lines)


@pytest.mark.slow
def test_lines_longer_than_a_read_stay_whole(retort, expected, tmp_path):
    texts = [f"ü{'abcdefg'[i % 7]} " * (i % 5 * 2 + 2) for i in range(3000)]
    path = tmp_path / "input.txt"
    path.write_text("".join(f"{text}\n" for text in texts))
    assert path.stat().st_size > 65536
    status, out, _ = retort("--input", path, "--batch-size", 3000)
    found = out.split("\n")
    assert status == 0 and found.pop() == "" and len(found) == len(texts)
    assert found == list(map({text: expected(text) for text in set(texts)}.get, texts))


def test_a_line_longer_than_the_model_is_cut_and_named(retort, expected, checkpoint):
    length = len(Vocabulary.load(checkpoint).encode_source(["abc " * 500])[0])
    status, out, errors = retort("--batch-size", 2, stdin=b"abc\nde\n" + b"abc " * 500 + b"\nabc\n")
    assert status == 0 and [*out.splitlines()[:2], out.splitlines()[3]] == list(map(expected, ("abc", "de", "abc")))
    assert errors.splitlines() == [
        f"warning: retort: standard input: line 3: {length} tokens, and the model reads 63; the last {length - 63} are "
        "not translated: split the line, or use --text",
        "warning: retort: standard input: 1 of 4 lines were longer than the model reads",
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_input_is_read_as_the_corpus_stage_reads_it(retort, expected, tmp_path, pack):
    content = "\ufeff\u3000abc de \r\n\ufefffade\n".encode()
    path = tmp_path / "input.txt"
    path.write_bytes(pack(content))
    corpus = list(TextReader(Text(str(path), path, "file")))
    assert corpus == ["abc de", "\ufefffade"]
    lines = "".join(f"{expected(line)}\n" for line in corpus)
    assert retort("--input", path) == (0, lines, "")
    if pack is bytes:
        assert retort(stdin=content) == (0, lines, "")
    else:
        status, out, errors = retort(stdin=path.read_bytes())
        assert (status, out) == (2, "") and "standard input: begins as data compressed with " in errors
        path.write_bytes(path.read_bytes()[:-5])
        status, _, errors = retort("--input", path)
        assert status == 2 and f"{path}: cannot be read: " in errors


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"abc\rde\rfade", 0, "warning: retort: standard input: its lines end with \\r alone, as on old Macs"),
        (b"<?xml version='1.0'?>\n", 0, "warning: retort: standard input: it begins as XML"),
        ("abc\n".encode("utf-16"), 2, "error: retort: standard input: UTF-16 by its first two bytes"),
        (tarfile.TarInfo("a.txt").tobuf(), 2, "error: retort: standard input: begins as a tar archive"),
    ],
)
def test_input_that_is_not_what_its_lines_say_is_noticed(retort, content, status, message):
    found, _, errors = retort(stdin=content)
    assert found == status and errors.startswith(message)


def test_a_search_can_be_chosen(retort, tmp_path):
    status, out, _ = retort("--search", '{"kind": "argmax", "length_beam": 3}', stdin=b"abc\n")
    assert status == 0 and out.count("\n") == 1
    assert retort("--search", "argmax length_beam=3", stdin=b"abc\n") == (0, out, "")
    (tmp_path / "search.json").write_text('{"kind": "argmax", "length_beam": 3}\n')
    assert retort("--search", f"@{tmp_path}/search.json", stdin=b"abc\n") == (0, out, "")


MODES = {
    "default": ("janus", [], Beam(kind="beam")),
    "beam": ("janus", ["--beam", "2"], Beam(kind="beam", beam_size=2)),
    "ar": ("janus", ["--mode", "ar"], Beam(kind="beam")),
    "nar": ("janus", ["--mode", "nar"], MaskPredict(kind="mask_predict")),
    "passes": ("janus", ["--mode", "nar", "--passes", "2"], MaskPredict(kind="mask_predict", iterations=2)),
    "passes alone": ("janus", ["--passes", "1"], MaskPredict(kind="mask_predict", iterations=1)),
    "bang": ("bang", [], Blocks(kind="blocks", block=4)),
    "bang, ar": ("bang", ["--mode", "ar"], Beam(kind="beam")),
    "bang, nar": ("bang", ["--mode", "nar"], Blocks(kind="blocks", block=4)),
    "bang, block": ("bang", ["--mode", "nar", "--block", "2"], Blocks(kind="blocks", block=2)),
    "bang, left to right": ("bang-ar", [], Beam(kind="beam")),
    "bang, left to right, block": ("bang-ar", ["--block", "3"], Blocks(kind="blocks", block=3)),
    "bang, left to right, nar": ("bang-ar", ["--mode", "nar"], Blocks(kind="blocks")),
}


@pytest.fixture(scope="module")
def janus(checkpoint):
    """JANUS; beside it, two of BANG."""
    directory, vocabulary = checkpoint.parent, Vocabulary.load(checkpoint)
    saved(directory / "bang", Bang(name="bang", block=4), 6, vocabulary)
    saved(directory / "bang-ar", Bang(name="bang", nar_ratio=0), 6, vocabulary)
    return saved(directory / "janus", Janus(name="janus"), 5, vocabulary)


@pytest.mark.parametrize("name", MODES)
def test_one_checkpoint_translates_in_either_mode(retort, janus, name):
    which, options, search = MODES[name]
    directory = janus.parent / which
    status, out, errors = retort(*options, stdin=b"abc de\nfade bead\n", model=directory)
    assert (status, errors) == (0, "")
    checkpoint = load_checkpoint(directory, torch.device("cpu"))
    model, vocabulary = checkpoint.model, checkpoint.vocabulary
    found = translate_texts(model, vocabulary, ["abc de", "fade bead"], search, 4096)
    assert out.splitlines() == vocabulary.decode_target([best[0].tokens for best in found])


def test_a_model_with_two_modes_can_choose_for_another(retort, janus):
    status, _, errors = retort(*LENGTH_PARALLEL, "--teacher", janus, stdin=b"abc de\n")
    assert (status, errors) == (0, "")


NO_MODE = {
    "no autoregressive mode": ("model", ["--mode", "ar"], "length_parallel, and has no such mode"),
    "no parallel mode": ("teacher", ["--mode", "nar"], "beam, and has no such mode"),
    "no passes": ("model", ["--passes", "3"], "length_parallel, which has no choice of passes"),
    "passes from left to right": ("janus", ["--mode", "ar", "--passes", "3"], "only the parallel mode has passes"),
    "no blocks": ("janus", ["--block", "3"], "length_parallel, which has no choice of block"),
    "blocks from left to right": ("bang", ["--mode", "ar", "--block", "3"], "only the parallel mode has block"),
    "passes of blocks": ("bang", ["--passes", "2"], "which has no choice of passes"),
    "both": (
        "janus",
        ["--mode", "ar", "--search", '{"kind": "greedy"}'],
        "leave out --beam, --mode, --passes and --block",
    ),
    "no beam": ("model", ["--beam", "3"], "--beam 3: a model trained as vanilla decodes by"),
    "beams in parallel": ("janus", ["--beam", "3", "--mode", "nar"], "only the mode from left to right has beams"),
    "no pass": ("janus", ["--passes", "0"], "--passes: 0 is below 1"),
}


@pytest.mark.parametrize("name", NO_MODE)
def test_a_mode_that_a_model_lacks_is_an_error(retort, janus, teacher, name):
    model, options, message = NO_MODE[name]
    status, out, errors = retort(*options, stdin=b"abc\n", model=janus.parent / model)
    assert (status, out) == (2, "") and message in errors


LENGTH_PARALLEL = ["--search", '{"kind": "length_parallel", "candidates": 5}']


def test_a_teacher_chooses(retort, checkpoint, teacher):
    status, out, errors = retort(*LENGTH_PARALLEL, "--teacher", teacher, stdin=b"abc de\nfade\n\n")
    assert (status, errors) == (0, "")
    checkpoint = load_checkpoint(checkpoint, torch.device("cpu"))
    model, vocabulary = checkpoint.model, checkpoint.vocabulary
    chooser = load_checkpoint(teacher, torch.device("cpu")).model
    search = LengthParallel(kind="length_parallel", candidates=5)
    found = translate_texts(model, vocabulary, ["abc de", "fade", ""], search, 4096, chooser)
    assert out.split("\n") == [*vocabulary.decode_target([best[0].tokens for best in found]), ""]
    assert [len(best) > 1 for best in found] == [True, True, False]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "the search has a teacher score its candidates, and none is given"),
        ("model", "a parallel model cannot be a teacher"),
        ("foreign", "the teacher's vocabulary is not that of"),
    ],
)
def test_a_teacher_that_cannot_choose_is_refused(retort, checkpoint, teacher, given, message):
    options = ["--teacher", checkpoint.parent / given] if given else []
    status, out, errors = retort(*LENGTH_PARALLEL, *options, stdin=b"abc\n")
    assert (status, out) == (2, "") and message in errors and str(checkpoint) in errors


def test_a_teacher_that_nothing_asks_is_refused(retort, checkpoint):
    status, out, errors = retort("--teacher", "absent", stdin=b"abc\n")
    assert (status, out) == (2, "") and errors == (
        "error: retort: absent: the search argmax asks no teacher; leave it out, or choose one that does\n"
    )


def test_invalid_utf8_is_named_by_line_and_byte(retort, tmp_path):
    status, out, errors = retort(stdin=b"abc\n\nde\xff\nf\n")
    assert status == 2 and errors == "error: retort: standard input: line 3: byte 2 is not valid UTF-8\n"
    (tmp_path / "bad.txt").write_bytes("abc\nü".encode()[:-1])
    status, out, errors = retort("--input", tmp_path / "bad.txt")
    assert status == 2 and f"{tmp_path}/bad.txt: line 2: byte 0 is not valid UTF-8" in errors


BAD = {
    "a search of another family": (["--search", '{"kind": "beam"}'], "a model trained as vanilla decodes by argmax"),
    "an unknown search": (["--search", '{"kind": "guess"}'], "--search"),
    "no option": (["--search", "argmax 3"], "--search argmax 3: 3 is no option; expected a search and its options"),
    "an unknown option": (["--search", "argmax size=3"], "--search argmax size=3: "),
    "a missing input": (["--input", "absent.txt"], "absent.txt: cannot be read"),
    "a directory as input": (["--input", "."], "--input .: cannot be read"),
    "no batch": (["--batch-size", "0"], "--batch-size: 0 is below 1"),
    "no thread": (["--threads", "-1"], "--threads: -1 is below 1"),
    "too many threads": (["--threads", "2147483648"], "--threads: a number of 10 digits is above 1,000,000,000"),
    "many threads": (["--threads", "1025"], "--threads: 1025 is above 1024; use as many as there are processors"),
    "a long number": (["--batch-size", "9" * 5000], "--batch-size: '9999"),
    "no number": (["--batch-size", "1e3"], "--batch-size: '1e3' is no whole number"),
    "an empty search": (["--search", ""], "--search : kind: unknown value ''; valid: greedy, beam,"),
    "a search in no file": (["--search", "@absent.json"], "--search @absent.json: cannot be read (No such file or"),
    "a search in a directory": (["--search", "@."], "--search @.: cannot be read (Is a directory); expected a file of"),
    "a search in a file of text": (["--search", f"@{__file__}"], f"--search @{__file__}: Invalid JSON: "),
    "a search that is no UTF-8": (["--search", "\udcff"], "--search"),
    "a search nested deep": (["--search", "[" * 5000], "--search ["),
    "a search of no end": (["--search", '{"kind": "argmax", "length_beam": 1000000}'], "length_beam: must be"),
    "an endless penalty": (["--search", '{"kind": "beam", "length_penalty": 1e308}'], "found 1e+308"),
    "an infinite ratio": (["--search", '{"kind": "beam", "max_ratio": Infinity}'], "max_ratio: must be a f"),
    "a name that is too long": (["--input", "x" * 5000], "cannot be read (File name too long)"),
    "a part of a path that is no directory": (["--input", "/dev/null/x"], "cannot be read (Not a directory)"),
    "placeholders alone": (["--keep", "x"], "--keep is of --text; give both"),
    "a pattern that is none": (["--text", "--keep", "("], "placeholder '('"),
    "several texts": (["--text", "--n-best", "2"], "--n-best 2: a line of --text has one translation"),
    "scores of running text": (["--text", "--scores"], "which --json writes; add --json"),
    "more outputs than there are": (["--n-best", "9"], "9 outputs per line: the search argmax ranks 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_exit_with_2_and_say_what_was_wrong(retort, name):
    arguments, message = BAD[name]
    status, out, errors = retort(*arguments, stdin=b"abc\n")
    assert (status, out) == (2, "") and message in errors


def test_passes_that_no_search_has(retort, janus):
    status, out, errors = retort("--passes", "1000000000", stdin=b"abc\n", model=janus)
    assert (status, out) == (2, "") and "iterations: must be less than or equal to 10000" in errors


@pytest.mark.parametrize("name", ["x" * 5000, "/dev/null/x", "/proc/self/mem"])
def test_a_model_at_an_impossible_place(retort, name):
    status, out, errors = retort(stdin=b"abc\n", model=name)
    assert (status, out) == (2, "") and errors.startswith("error: retort: ") and errors.count("\n") == 1


def test_streams_that_cannot_be_read_or_written(retort, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", None)
    status, _, errors = retort()
    assert (status, errors) == (
        2, "error: retort: standard input is closed; give lines, or the name of a file by --input\n",
    )  # fmt: skip
    only_written = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=os.fdopen(only_written, "rb")))
    status, _, errors = retort()
    assert status == 2 and "standard input: cannot be read (Bad file descriptor); expected lines" in errors
    with monkeypatch.context() as within, open("/dev/full", "w") as full:
        within.setattr(sys, "stdout", full)
        status, _, errors = retort(stdin=b"abc\n")
        assert (status, errors.count("\n")) == (2, 1)
        assert "standard output cannot be written (No space left on device); make room, or send it elsewhere" in errors
    with monkeypatch.context() as within:
        within.setattr(sys, "stdout", None)
        status, _, errors = retort(stdin=b"abc\n")
        assert (status, errors) == (
            2, "error: retort: standard output is closed; send it to a file or to another program\n",
        )  # fmt: skip
    monkeypatch.setattr(sys, "stderr", None)
    status, out, _ = retort(stdin=b"abc " * 500)
    assert status == 0 and out.count("\n") == 1, "a warning is no output"


SHELL = {
    "nobody to read": ("check config.yaml | true", 1, ""),
    "a full output": ("check config.yaml > /dev/full", 2, "standard output cannot be written (No space left"),
    "a closed output": ("check config.yaml >&-", 2, "standard output is closed"),
    "a full output for the help": ("--help > /dev/full", 2, "standard output cannot be written (No space left"),
    "a full output for errors": ("check absent.yaml 2> /dev/full", 2, ""),
    "a closed output for errors": ("check absent.yaml 2>&-", 2, ""),
    "a closed input": ("check config.yaml <&-", 0, ""),
    "all closed": ("check config.yaml <&- >&- 2>&-", 2, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("name", SHELL)
def test_standard_streams_of_other_commands(name, unbuffered):
    line, status, message = SHELL[name]
    command = f"set -o pipefail; {sys.executable} -m retort {line}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == status
    assert message in done.stderr and done.stderr.count("\n") == bool(message) and "error" not in done.stdout


def test_a_missing_model_is_named(retort, tmp_path):
    status, out, errors = retort(stdin=b"abc\n", model=tmp_path / "absent")
    assert (status, out) == (2, "") and errors.startswith(f"error: retort: {tmp_path}/absent: no such directory;")
    assert errors.count("\n") == 1


def test_a_model_that_is_nearly_named_is_proposed(retort, checkpoint, tmp_path):
    seed = tmp_path / "systems/ctc/seed1"
    seed.parent.mkdir(parents=True)
    seed.symlink_to(checkpoint)
    misspelt = [tmp_path / "systems/ctd/seed1", tmp_path / "sytems/ctc/seed1"]
    for given in (seed.parent, seed.parent.parent, tmp_path, seed.parent / "seed", *misspelt):
        for options in ([], ["--beam", 3]):
            status, out, errors = retort(*options, stdin=b"abc\n", model=given)
            assert (status, out) == (2, "") and errors.endswith(f"no such file; did you mean {seed}?\n"), errors


def test_a_checkpoint_to_export_that_is_nearly_named_is_proposed(checkpoint, tmp_path, monkeypatch, capsys):
    seed = tmp_path / "ctc/seed1"
    seed.parent.mkdir()
    seed.symlink_to(checkpoint)
    # an exported system cannot be meant
    (tmp_path / "ctc/bundle").mkdir()
    (tmp_path / "ctc/bundle/bundle.json").write_text("{}")
    arguments = ["export", "--model", seed.parent, "--output", tmp_path / "out"]
    status, _, errors = run_command(monkeypatch, capsys, *arguments)
    assert status == 2 and errors.endswith(f"ctc/model.json: no such file; did you mean {seed}?\n")


@pytest.mark.slow
def test_answers_before_the_pipe_closes_and_ends_quietly_when_the_reader_goes(checkpoint, expected):
    command = [sys.executable, "-m", "retort", "translate", "--model", checkpoint, "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        for text in ("abc", "", "de f"):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline().decode() == f"{expected(text)}\n"
        assert process.poll() is None
        process.stdout.close()
        process.stdin.write(b"abc\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == b""


def run_command(monkeypatch, capsys, *arguments):
    """Exit status, output and errors of the command line in this process."""
    monkeypatch.setattr(sys, "argv", ["retort", *map(str, arguments)])
    status = 0
    try:
        cli.main()
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


def test_scores_and_several_outputs_are_columns(retort, teacher):
    status, out, errors = retort("--beam", 3, "--n-best", 3, "--scores", stdin=b"abc de\n\nfade\n", model=teacher)
    assert (status, errors) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[:2] for row in rows] == [
        ["1", "1"],
        ["1", "2"],
        ["1", "3"],
        ["2", "1"],
        ["3", "1"],
        ["3", "2"],
        ["3", "3"],
    ]
    plain = retort("--beam", 3, stdin=b"abc de\n\nfade\n", model=teacher)[1].splitlines()
    assert [row[2] for row in rows if row[1] == "1"] == plain
    for row in rows:
        score, confidence, tokens = row[3], row[4], row[5].split()
        assert float(score) <= 0 and (not tokens) == (not confidence) == (not row[2])
        assert all(0 <= float(p) <= 1 for p in tokens)
    status, out, _ = retort("--scores", stdin=b"abc de\n")
    assert status == 0 and out.count("\t") == 3


def test_json_has_an_object_per_line(retort, checkpoint, expected):
    status, out, _ = retort("--json", "--scores", stdin=b"abc\n\n")
    first, second = map(json.loads, out.splitlines())
    assert status == 0 and (first["line"], first["source"], first["text"]) == (1, "abc", expected("abc"))
    assert {"truncated", "source_cut", "score", "confidence", "tokens"} < first.keys()
    assert (second["text"], second["tokens"]) == ("", [])
    assert "hypotheses" not in first


def test_json_has_a_list_of_outputs_in_every_line_if_several_are_asked_for(retort):
    options = ("--json", "--n-best", "2", "--search", "argmax length_beam=2")
    status, out, _ = retort(*options, stdin=b"abc\n\n")
    counts = [len(json.loads(line)["hypotheses"]) for line in out.splitlines()]
    assert status == 0 and counts[1] == 1 and 1 <= counts[0] <= 2


def test_output_is_there_when_it_is_complete(retort, expected, tmp_path):
    path = tmp_path / "out.txt"
    assert retort("--output", path, stdin=b"abc\nde\n") == (0, "", "")
    assert path.read_text() == f"{expected('abc')}\n{expected('de')}\n"
    status, _, errors = retort("--output", path, stdin=b"abc\n\xff\n")
    assert status == 2 and "not valid UTF-8" in errors
    assert path.read_text().count("\n") == 2 and list(tmp_path.iterdir()) == [path]
    status, _, errors = retort("--output", tmp_path / "absent/out.txt", stdin=b"abc\n")
    assert status == 2 and "absent/out.txt: cannot be written (No such file" in errors


def test_a_directory_for_output_is_refused_before_anything_is_translated(retort, tmp_path, monkeypatch):
    monkeypatch.setattr(TorchSystem, "decode", None)
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "link"):
        status, _, errors = retort("--output", path, stdin=b"abc\n")
        assert (status, errors) == (2, f"error: retort: --output {path}: a directory; give the name of a file\n")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_closed_streams_are_replaced_in_programs_that_are_run_too():
    """As retort run does."""
    run = (
        "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import os; [os.fstat(n) for n in range(3)]'])"
    )
    first = f"from retort.data.streams import replace_closed_streams; replace_closed_streams(); {run}"
    command = f'{sys.executable} -c "{first}" <&- >&- 2>&-'
    assert subprocess.run(command, shell=True, cwd=ROOT, check=False).returncode == 0


def test_output_does_not_replace_what_is_no_file(retort, expected, tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert retort("--output", pipe, stdin=b"abc\n") == (0, "", "")
    assert pipe.is_fifo() and os.read(reader, 999).decode() == f"{expected('abc')}\n"
    os.close(reader)
    link.symlink_to("target")
    assert retort("--output", link, stdin=b"abc\n")[0] == 0
    assert link.is_symlink() and (tmp_path / "target").read_text() == f"{expected('abc')}\n"
    for name in ("", "/"):
        status, _, errors = retort("--output", name, stdin=b"abc\n")
        assert status == 2 and errors.count("error:") == 1


def test_output_to_an_open_file_goes_behind_what_is_in_it(retort, expected, tmp_path):
    path = tmp_path / "out"
    path.write_text("first\n")
    with open(path, "ab", buffering=0) as file:
        assert retort("--output", f"/dev/fd/{file.fileno()}", stdin=b"abc\n") == (0, "", "")
        file.write(b"last\n")
    assert path.read_text() == f"first\n{expected('abc')}\nlast\n"
    assert retort("--output", "/dev/stdout", stdin=b"abc\n") == (0, f"{expected('abc')}\n", "")
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_the_output_may_go(retort):
    reader, writer = os.pipe()
    os.close(reader)
    assert retort("--output", f"/dev/fd/{writer}", stdin=b"abc\n") == (1, "", "")
    os.close(writer)


def test_running_text_is_split_and_counted(retort, expected):
    text = b"  Abc de. Fade bead 12.\n\n" + b"abc " * 200 + b"\n"
    status, out, errors = retort("--text", stdin=text)
    first, empty, long = out.splitlines()
    assert status == 0 and first == f"  {expected('Abc de.')} {expected('Fade bead 12.')}" and empty == ""
    assert "longer than the model" not in errors and len(long) > len(expected("abc " * 200))
    assert errors.splitlines() == [
        "warning: retort: standard input: line 1: not in the translation: 12 (number)",
        "warning: retort: standard input: 1 of 1 things to keep are lost: 1 number",
    ]
    status, out, _ = retort("--text", "--json", "--keep", "Fa..", stdin=text)
    found = json.loads(out.splitlines()[0])
    assert [segment["source"] for segment in found["segments"]] == ["Abc de.", "Fade bead 12."]
    assert (found["kept"], found["lost"][0]) == (0, {"kind": "placeholder", "text": "Fade"})


def test_an_input_that_is_nearly_named_is_proposed(retort, tmp_path):
    (tmp_path / "valid.en").write_text("abc\n")
    status, _, errors = retort("--input", tmp_path / "valid.em")
    assert status == 2 and f"did you mean {tmp_path}/valid.en?" in errors


def test_progress_is_for_people(retort, monkeypatch, tmp_path):
    monkeypatch.setattr("retort.cli.progress.SECONDS", 0)
    monkeypatch.setattr("retort.cli.progress.is_terminal", lambda stream: stream is sys.stderr)
    (tmp_path / "in.txt").write_text("abc\n" * 4)
    status, out, errors = retort("--input", tmp_path / "in.txt", "--batch-size", 2)
    shown = re.sub(r"[\d,]+ per second|about \d+ s", "N", errors).split("\r\x1b[K")
    assert status == 0 and out.count("\n") == 4
    assert shown == ["", "2 lines, N, 50%, N left", "4 lines, N, 100%, N left", ""]


def test_an_exported_system_translates_as_its_checkpoint_does(retort, janus, tmp_path):
    export_system(janus, tmp_path / "bundle")
    for chosen in (["--mode", "nar"], ["--passes", "2"], ["--search", '{"kind": "argmax", "length_beam": 2}']):
        expected = retort(*chosen, stdin=b"abc de\n\nfade bead\n", model=janus)
        assert retort(*chosen, stdin=b"abc de\n\nfade bead\n", model=tmp_path / "bundle") == expected
    status, _, errors = retort("--mode", "ar", stdin=b"abc\n", model=tmp_path / "bundle")
    assert status == 2 and "this bundle decodes by mask_predict or argmax or length_parallel, not by beam" in errors


def test_a_batch_size_that_is_given_is_that_of_the_engine(retort, checkpoint, janus, tmp_path, monkeypatch):
    sizes = []
    for engine in (OnnxSystem, TorchSystem):

        def decode(self, sources, of_engine=engine.decode):
            sizes.append(len(sources))
            return of_engine(self, sources)

        monkeypatch.setattr(engine, "decode", decode)
    export_system(janus, tmp_path / "bundle")
    (tmp_path / "in.txt").write_text("Abc de. Fade bead.\n" * 40)
    for model, options, expected in (
        (tmp_path / "bundle", [], [1] * 40),
        (tmp_path / "bundle", ["--batch-size", 16], [16, 16, 8]),
        (tmp_path / "bundle", ["--batch-size", 16, "--text"], [16] * 5),
        (checkpoint, [], [32, 8]),
        (checkpoint, ["--batch-size", 16, "--text"], [16] * 5),
    ):
        sizes.clear()
        assert retort("--input", tmp_path / "in.txt", *options, model=model)[0] == 0
        assert sizes == expected


BAD_EXPORTS = {
    "a missing file": (["--check", "absent.txt"], "absent.txt: cannot be read"),
    "references alone": (["--references", "absent.txt"], "--references are of the lines of --check; give both"),
    "a search that is none": (["--search", '{"kind": "guess"}'], "--search"),
    "a search in no file": (["--search", "@absent.json"], "--search @absent.json: cannot be read (No such file or"),
    "another engine": (["--format", "ctranslate2"], "length_parallel, which --format ctranslate2 cannot"),
}


@pytest.mark.parametrize("name", BAD_EXPORTS)
def test_a_bad_export_exits_with_2_and_writes_nothing(checkpoint, tmp_path, monkeypatch, capsys, name):
    options, message = BAD_EXPORTS[name]
    arguments = ["export", "--model", checkpoint, "--output", tmp_path / "bundle", *options]
    status, out, errors = run_command(monkeypatch, capsys, *arguments)
    assert (status, out) == (2, "") and message in errors
    assert not list(tmp_path.iterdir())


def test_an_export_says_what_it_changed(checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / "lines").write_text("abc de\nfade bead\n")
    (tmp_path / "references").write_text("a\nb\n")
    options = ["--check", tmp_path / "lines", "--references", tmp_path / "references"]
    arguments = ["export", "--model", checkpoint, "--output", tmp_path / "bundle"]
    status, out, _ = run_command(monkeypatch, capsys, *arguments, *options)
    assert status == 0 and out.startswith(
        f"{tmp_path}/bundle: onnx, float32. 0 of 2 outputs differ from those of torch"
    )
    assert "BLEU is" in out
    (tmp_path / "references").write_text("a\n")
    arguments[-1] = tmp_path / "other"
    status, _, errors = run_command(monkeypatch, capsys, *arguments, *options)
    assert status == 2 and "references: 1 lines, and" in errors
    status, out, _ = run_command(monkeypatch, capsys, *arguments, "--precision", "int8")
    assert status == 0 and out.startswith(f"{tmp_path}/other: onnx, int8. Unchecked")
