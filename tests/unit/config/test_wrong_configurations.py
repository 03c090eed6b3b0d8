"""Wrong configurations: each gives the whole list of its problems at once, with path, line and what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from retort.config import CorpusSection, TextSource
from retort.config.checks.files import file_checks
from retort.config.checks.idle import idle_keys
from retort.config.checks.sections import valid_sections
from retort.config.load import load_config, load_files
from retort.errors import RetortError

TEACHER = "teacher: {objective: autoregressive}\n"
TEXT = "name: my\ncorpus:\n  train: {source: my.en, target: my.de}\n"
SPLIT = TEXT + "  carve: {valid_pairs: 5%, test_pairs: 5%}\n" + TEACHER
MADE_UP = "name: my\ncorpus: {kind: generated}\n" + TEACHER

WRONG: dict[str, tuple[str, list[tuple[str, int | None, str]]]] = {
    "nothing but a name": (
        "name: my\n",
        [("corpus", None, "missing"), ("teacher", None, "missing")],
    ),
    "no splits, and a misspelled file": (
        "name: my\ncorpus:\n  train: {source: my.eng, target: my.de}\n" + TEACHER,
        [("corpus", 2, "give valid and at least one test set, or carve")],
    ),
    "a misspelled file": (
        SPLIT.replace("my.en", "my.eng"),
        [("corpus.train.source[0]", 3, "no such file.*did you mean my.en?")],
    ),
    "shards for more than a command": (
        SPLIT.replace("my.en", "[" + "my.en, " * 1500 + "]").replace("my.de", "[" + "my.de, " * 1500 + "]"),
        [("corpus", 2, "its texts take 12.,... bytes of a command that may have 120,000; concatenate shards")],
    ),
    "a text of commas, and one of tabs that is called so": (
        SPLIT.replace("my.en", "out.csv").replace("my.de", "{location: out.csv, column: 1}"),
        [("corpus.train.source[0]", 3, "out.csv: CSV is not read: write it as tab-separated text and give column")],
    ),
    "nothing to tune, and none of the options": (
        MADE_UP + "students:\n  a: {objective: ctc, tune: null}\n  b:\n    objective: ctc\n"
        "    searches: {c: {kind: ctc_beam}}\n    tune: {c: null}\n",
        [
            ("students.a.tune", 5, "found nothing; leave it out, or drop an entry of an earlier file by {NAME: null}"),
            ("students.b.tune.c", 9, "must be a mapping of names, found nothing$"),
        ],
    ),
    "the name of a test set": (
        TEXT + "  valid: {source: my.en, target: my.de}\n  tests: {a/b: {source: my.en, target: short.de}}\n" + TEACHER,
        [("corpus.tests.a/b", 5, "'a/b' is not allowed here; use letters")],
    ),
    "two kinds of targets and no splits": (
        "name: my\ncorpus:\n  train: {source: my.en, target: my.de, references: my.de}\n" + TEACHER,
        [("corpus.train", 3, "give target"), ("corpus", 2, "give valid")],
    ),
    "more to carve than there is": (
        TEXT + "  carve: {}\n" + TEACHER,
        [("corpus.carve", 4, r"5,000 .* of 40 lines.*valid_pairs: 2%")],
    ),
    "texts that a mirror cannot tell apart": (
        SPLIT.replace("my.en, target: my.de", "'https://x.org/en/a.txt.gz', target: 'https://x.org/de/a.txt'").replace(
            "corpus:\n", "corpus:\n  mirror: .\n"
        ),
        [
            (
                "corpus.train.target[0]",
                4,
                "x.org/de/a.txt and https://x.org/en/a.txt.gz are both a.txt in a mirror.*give each a mirror_name",
            )
        ],
    ),
    "a mirror that is not there": (
        SPLIT.replace("my.en", "'https://x.org/my.en'").replace("corpus:\n", "corpus:\n  mirror: odl\n"),
        [
            (
                "corpus.mirror",
                3,
                "there is no directory /.*/odl; expected one .*RETORT_MIRROR; did you mean old",
            )
        ],
    ),
    "one text for both sides": (
        SPLIT.replace("my.de", "my.en"),
        [("corpus.train", 3, "my.en is the text of both sides")],
    ),
    "one text to validate with and to test": (
        TEXT + "  valid: {source: short.de}\n  tests: {a: {source: my.de}, b: {source: [my.en, short.de]}}\n" + TEACHER,
        [("corpus", 2, r"valid and tests.b are the same text .short.de., so .*; give valid another one")],
    ),
    "two texts of other lengths": (
        SPLIT.replace("my.de", "short.de"),
        [("corpus.train.source[0]", 3, "my.en has 40 lines and short.de has 39")],
    ),
    "a share that is none": (
        SPLIT.replace("valid_pairs: 5%", "valid_pairs: 5 percent"),
        [("corpus.carve.valid_pairs", 4, "a share, such as 2%, found '5 percent'")],
    ),
    "a share above everything, and no count": (
        SPLIT.replace("valid_pairs: 5%", "valid_pairs: 120%").replace("test_pairs: 5%", "test_pairs: 0"),
        [("corpus.carve.valid_pairs", 4, "found '120%'"), ("corpus.carve.test_pairs", 4, "found 0")],
    ),
    "a kind and keys misspelled": (
        "name: my\ncorpus: {kind: txt, trane: {sorce: my.en, target: my.de}}\n" + TEACHER,
        [
            ("corpus.kind", 2, "did you mean text?"),
            ("corpus.trane", 2, "did you mean train?"),
            ("corpus.train.sorce", 2, "did you mean source?"),
            ("corpus.train", None, "missing"),
            ("corpus.train.source", None, "missing"),
            ("corpus", 2, "give valid"),
        ],
    ),
    "an objective misspelled": (
        MADE_UP + "students:\n  a: {objective: ctcc, data: distiled}\n",
        [
            ("students.a.objective.name", 5, "'ctcc'; did you mean ctc?"),
            ("students.a.data", 5, "'distiled'; did you mean distilled?"),
        ],
    ),
    "behind a misspelled objective": (
        MADE_UP + "students:\n  a: {objective: ctcc, searches: {b: beam}}\n",
        [
            ("students.a.objective.name", 5, "did you mean ctc?"),
            ("students.a", 5, "search 'b' is beam, which objective ctc cannot use"),
        ],
    ),
    "behind a misspelled section": (
        MADE_UP + "trainig: {max_updates: 10, warmup: 20}\n",
        [("trainig", 4, "did you mean training?"), ("training", None, "warmup .20. must be below max_updates .10.")],
    ),
    "text for numbers": (
        MADE_UP + 'model: {d_model: "256", heads: many}\n',
        [("model.d_model", 4, "found '256'"), ("model.heads", 4, "found 'many'")],
    ),
    "a shared key and a student's own": (
        MADE_UP + "training: {learnin_rate: 1}\nstudents:\n  a: {objective: ctc, training: {warm_up: 3}}\n",
        [
            ("training.learnin_rate", 4, "did you mean learning_rate?"),
            ("students.a.training.warm_up", 6, "did you mean warmup?"),
        ],
    ),
    "a teacher that cannot teach": (
        "name: my\ncorpus: {kind: generated}\nteacher: {objective: ctc, data: distilled}\n",
        [("teacher.objective.name", 3, "must be autoregressive"), ("teacher.data", 3, "the teacher makes the")],
    ),
    "names that nobody has": (
        MADE_UP + "students:\n  a: ctc\nevaluation: {baseline: tacher, metrics: [BLUE]}\n",
        [
            ("students.a", 5, "must be a section of keys, found 'ctc'"),
            ("evaluation.metrics[0]", 6, "did you mean BLEU?"),
            ("evaluation.baseline", 6, "did you mean teacher?"),
        ],
    ),
    "checkpoints that are not there": (
        MADE_UP.replace("autoregressive}", "autoregressive, checkpoint: olds}")
        + "students:\n  a: {objective: ctc, checkpoint: nowhere}\nvocabulary: {path: nowhere, size: 1}\n",
        [
            ("vocabulary.size", 6, "greater than or equal to 8"),
            ("teacher.checkpoint", 3, "there is no directory /.*olds; .*did you mean old?"),
            ("students.a.checkpoint", 5, "there is no directory /.*nowhere; expected one with model.safetensors"),
        ],
    ),
    "a distilled corpus that is not there, beside a type": (
        MADE_UP + "distillation: {corpus: nowhere.parquet}\nseeds: 3\n",
        [("seeds", 5, "must be a list, such as .3., found 3"), ("distillation.corpus", 4, "no file nowhere")],
    ),
    "every second of two seeds": (
        MADE_UP + "seeds: [1, 1]\nreport: {titel: x}\n",
        [("seeds", 4, "repeats a seed"), ("report.titel", 5, "did you mean title?")],
    ),
    "a metric that is no list": (
        MADE_UP + "evaluation: {metrics: BLEU, length_buckets: 8}\n",
        [
            ("evaluation.metrics", 4, r"must be a list, such as \['BLEU'\], found 'BLEU'"),
            ("evaluation.length_buckets", 4, r"must be a list, such as \[8\], found 8"),
        ],
    ),
    "a misspelled metric that is in no list": (
        MADE_UP + "evaluation: {metrics: 'BLEU, crhF'}\n",
        [
            ("evaluation.metrics", 4, r"must be a list, such as \['BLEU', 'crhF'\], found"),
            ("evaluation.metrics[1]", 4, r"did you mean chrF\?"),
        ],
    ),
    "a command that is no list": (
        MADE_UP + "external_teacher: {kind: command, arguments: python3 a.py}\n",
        [("external_teacher.arguments", 4, r"must be a list, such as \['python3', 'a.py'\], found 'python3 a.py'")],
    ),
    "an address without http": (
        MADE_UP + "external_teacher: {kind: openai, base_url: 'h:80', model: m, prompt: '{source}'}\n",
        [("external_teacher.base_url", 4, "'h:80' is not allowed here; use an address that begins with http://")],
    ),
    "a search of another family in a list": (
        MADE_UP + "students:\n  a: {objective: glat, searches: [argmax]}\n",
        [("students.a.searches", 5, "must be a mapping of names")],
    ),
    "an option of another objective": (
        MADE_UP + "students:\n  a: {objective: {name: ctc, upsample: 2}}\n  b: {objective: {gamma: 2}}\n",
        [
            ("students.a.objective.upsample", 5, "did you mean upsampling?"),
            ("students.b.objective.name", 6, "missing"),
        ],
    ),
    "values to tune that no search can have": (
        MADE_UP
        + "students:\n  a:\n    objective: ctc\n    searches: {ngrams: ctc_beam}\n    tune:\n      ngrams:\n"
        + "        beam_size: [2, 0]\n        table: [3]\n        candidates: [1.5]\n      other: {x: [1]}\n",
        [
            ("students.a.tune.ngrams.beam_size[1]", 10, "greater than or equal to 1, found 0"),
            ("students.a.tune.ngrams.table", 11, "has no number of this name; it has beam_size or candidates or"),
            ("students.a.tune.ngrams.candidates[0]", 12, "must be a valid integer, found 1.5"),
            ("students.a.tune.other", 13, "names no search of the system; it can be ngrams"),
        ],
    ),
    "values to tune of searches that are wrong": (
        MADE_UP
        + "students:\n  a:\n    objective: ctc\n    searches:\n"
        + "      b: {kind: ctc_beam, lm_weight: '0.4'}\n      c: {kind: ctc_beam, ngrams: {data: raw, texts: my.de}}\n"
        + "    tune: {b: {token_bonus: [0.5, 1]}, c: {lm_weight: [1]}}\n",
        [
            ("students.a.searches.b.lm_weight", 8, "must be a valid number, found '0.4'"),
            ("students.a.searches.c.ngrams", 9, "texts are counted instead of data"),
        ],
    ),
    "no values to tune, and no numbers": (
        MADE_UP
        + "students:\n  a:\n    objective: ctc\n    searches: {ngrams: ctc_beam}\n    tune:\n      ngrams:\n"
        + "        lm_weight: []\n        token_bonus: [1, true, .inf]\n",
        [
            ("students.a.tune.ngrams.lm_weight", 10, "must have at least 1, found \\[\\]"),
            ("students.a.tune.ngrams.token_bonus[1]", 11, "must be a finite number, found True"),
            ("students.a.tune.ngrams.token_bonus[2]", 11, "must be a finite number, found inf"),
        ],
    ),
    "a start that does not fit": (
        MADE_UP
        + "model: {encoder_layers: 2}\nstudents:\n  a:\n    objective: ctc\n    data: mixd\n"
        + "    model: {encoder_layers: 1}\n    training: {warm_start: teacher_encoder}\n",
        [
            ("students.a.data", 8, "did you mean mixed?"),
            ("students.a.model.encoder_layers", 9, "at least the teacher's 2, found 1"),
        ],
    ),
    "two vocabularies, tied": (
        MADE_UP + "vocabulary: {joint: false, sise: 100}\nmodel: {tied: al}\n",
        [
            ("vocabulary.sise", 4, "did you mean size?"),
            ("model.tied", 5, "did you mean all?"),
            ("model.tied", 5, '"all" needs vocabulary.joint: true'),
        ],
    ),
    "an EM loop of nothing it can use": (
        MADE_UP + "em: {iterations: 1, student: {data: raw, checkpoint: x}, teacher: {seeds: [1]}}\n",
        [("em.student.checkpoint", 4, "the loop trains its systems"), ("em.teacher.seeds", 4, "remove it")],
    ),
    "more to hold out than half of what is made up": (
        "name: my\ncorpus: {kind: generated, train_pairs: 1999}\n" + TEACHER + "em: {iterations: 1}\n",
        [("em.held_out", None, "holds out 1,000 training pairs of 1,999 at most, .*; set 999 or less")],
    ),
    "more to hold out than half of what is drawn": (
        SPLIT.replace("corpus:\n", "corpus:\n  train_pairs: 11\n") + "em: {iterations: 1, held_out: 6}\n",
        [("em.held_out", 7, "6 training pairs of 11 at most, .*; set 5 or less")],
    ),
    "more to hold out than half of the lines": (
        SPLIT + "em: {iterations: 1, held_out: 21}\n",
        [("em.held_out", 6, "21 training pairs of 40 at most, .*; set 20 or less")],
    ),
    "n-grams of targets and of other texts": (
        MADE_UP + "students:\n  a: {objective: ctc, searches: {b: ctc_collapse, c: {kind: ctc_beam, ngrams: "
        "{data: raw, texts: my.de}}}}\n",
        [("students.a.searches.c.ngrams", 5, "texts are counted instead of data, which is raw; give one of the two")],
    ),
    "a run's name": (
        MADE_UP.replace("name: my", "name: my run") + "pretraining: {texts: missing.en}\nvocabulary: {joint: false}\n",
        [
            ("name", 1, "use letters"),
            ("model.tied", None, '"all" needs vocabulary.joint: true'),
            ("vocabulary.joint", 5, "needs a joint vocabulary"),
            ("pretraining.texts[0]", 4, "no such file"),
        ],
    ),
}


IDLE: dict[str, tuple[str, list[str]]] = {
    "sizes of a vocabulary that is given": (
        MADE_UP + "vocabulary:\n  path: old\n  size: 300\n  symbols: [<br>]\n  type: unigram\n",
        [
            "vocabulary.size: nothing is made of it, as vocabulary.path gives",
            "vocabulary.symbols: nothing is made of it",
        ],
    ),
    "a loop of no iterations": (
        MADE_UP + "em: {candidates: 5, student: {objective: cmlm}}\n",
        [
            "em.candidates: no EM loop runs; set em.iterations",
            "em.student: no EM loop runs; set em.iterations",
        ],
    ),
    "a loop that is switched off": (MADE_UP + "em: {candidates: 5, iterations: 0}\n", []),
    "text for nobody": (
        SPLIT.replace("corpus:\n", "corpus:\n  monolingual: my.en\n") + "students: {a: {objective: ctc}}\n",
        ["corpus.monolingual: no system learns from translations of it; use data: distilled"],
    ),
    "text for a student": (
        SPLIT.replace("corpus:\n", "corpus:\n  monolingual: my.en\n")
        + "students: {a: {objective: ctc, data: mixed}}\n",
        [],
    ),
    "a share of no scripts": (
        MADE_UP + "external_teacher: {kind: command, arguments: [cat], filters: {script_share: 0.9}}\n",
        ["external_teacher.filters.script_share: it is a share of the letters of scripts, and none"],
    ),
    "a window beside a batch": (
        MADE_UP + "students: {a: {objective: ctc, self_paced: {window: 5}}}\n",
        ["students.a.self_paced.window: it is of among: window, found among: batch"],
    ),
    "tokens to draw from that nobody draws": (
        MADE_UP + "students: {a: {objective: {name: imitation, rollout: {top_k: 9}}}}\n",
        ["students.a.objective.rollout.top_k: it is of kind: sample, found kind: greedy"],
    ),
    "options of a mode or a teacher that an objective does without": (
        MADE_UP
        + "students:\n"
        + "  v: {objective: {name: vanilla, teacher_top_k: 4}}\n"
        + "  b: {objective: {name: bang, nar_ratio: 0, block: 4, teacher_weight: 1}}\n"
        + "  used: {objective: {name: bang, nar_ratio: 0.5, block: 4, teacher_weight: 1, teacher_top_k: 4}}\n",
        [
            "students.v.objective.teacher_top_k: it is of the teacher's distribution, and teacher_weight is 0",
            "students.b.objective.block: it is of the parallel mode, which nar_ratio: 0 does not train",
            "students.b.objective.teacher_weight: it is of the parallel mode",
        ],
    ),
    "options of other labels and prefixes": (
        MADE_UP
        + "students:\n"
        + "  full: {objective: {name: imitation, label_smoothing: 0.3,\n"
        + "    beta: {schedule: reverse_sigmoid, share: 0.4}}}\n"
        + "  hard: {objective: {name: imitation, labels: hard, top_k: 4, label_smoothing: 0, rollout: {updates: 4},\n"
        + "    beta: {schedule: constant, share: 1}}}\n",
        [
            "students.full.objective.label_smoothing: it is of labels: hard, found labels: full",
            "students.full.objective.beta.share: reverse_sigmoid goes from 1 to 0",
            "students.hard.objective.rollout: nothing is decoded, as beta keeps the data's prefixes throughout",
            "students.hard.objective.top_k: it is of the teacher's distribution, and labels: hard have none",
        ],
    ),
    "options of other ways to search": (
        MADE_UP
        + "students:\n"
        + "  v: {objective: vanilla, searches: {a: {kind: argmax, repeat_penalty: 0.3, length_weight: 2},\n"
        + "    own: {kind: length_parallel, rescore: false, length_penalty: 0.3, length_weight: 2},\n"
        + "    taught: {kind: length_parallel, repeat_penalty: 1, length_penalty: 0.3, length_weight: 2}}}\n"
        + "  c: {objective: cmlm, searches: {a: {kind: mask_predict, length_beam: 1, length_weight: 2},\n"
        + "    used: {kind: mask_predict, length_weight: 2}}}\n"
        + "  d: {objective: dag, searches: {a: {kind: dag_path, method: greedy, beta: 2},\n"
        + "    used: {kind: dag_path, beta: 2}}}\n",
        [
            "students.v.searches.a.repeat_penalty: it is of deduplicate: odd, found deduplicate: none",
            "students.v.searches.a.length_weight: lengths compete where length_beam is above 1, and it is 1",
            "students.v.searches.own.length_penalty: the model itself chooses, as rescore is false",
            "students.v.searches.taught.length_weight: the teacher chooses, as rescore is true",
            "students.c.searches.a.length_weight: lengths compete",
            "students.d.searches.a.beta: it is of method: lookahead, found greedy",
        ],
    ),
    "what a tuned form of a search uses": (
        MADE_UP + "students: {v: {objective: vanilla, searches: {a: {kind: argmax, length_weight: 2}},\n"
        "  tune: {a: {length_beam: [1, 3]}}}}\n",
        [],
    ),
    "nothing": (MADE_UP + "students: {a: {objective: imitation, data: distilled, self_paced: null}}\n", []),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RETORT_MIRROR", raising=False)
    Path("old").mkdir()
    for name, lines in (("my.en", 40), ("my.de", 40), ("out.csv", 40), ("short.de", 39)):
        Path(name).write_text("".join(f"line {number}\n" for number in range(lines)))
    return tmp_path


@pytest.mark.parametrize("mirrored", [False, True])
def test_local_paths_are_checked_with_a_mirror_too(
    folder: Path, mirrored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mirrored:
        monkeypatch.setenv("RETORT_MIRROR", str(folder))
    pair = "{source: my.en, target: my.ed}"
    Path("c.yaml").write_text(
        f"name: x\ncorpus: {{train: {pair}, valid: {pair}, tests: {{t: {{source: my.de, target: my.ed}}}}}}\n"
        "teacher: {objective: autoregressive}\n"
    )
    with pytest.raises(RetortError, match="my.ed: no such file"):
        load_files(["c.yaml"], {})


def test_a_mirror_replaces_the_splits_that_are_ready_and_no_other_text(folder: Path) -> None:
    """Only carved splits, where they are named, can be read from the mirror; other local texts must be there."""
    ready = "".join(
        f"      {split}: {{source: {split}.en, target: {split}.de}}\n" for split in ("train", "valid", "test")
    )
    carved = TEXT.replace("my.en", "no.en") + "  mirror: .\n  monolingual: no.mono\n  carve:\n    valid_pairs: 1\n"
    searches = "{a: ctc_collapse, b: {kind: ctc_beam, ngrams: {texts: no.ngrams}}}"
    rest = TEACHER + f"pretraining: {{texts: no.pre}}\nstudents: {{s: {{objective: ctc, searches: {searches}}}}}\n"
    missing = {}
    for name, splits in (("ready", f"    ready:\n{ready}"), ("none", "")):
        Path("c.yaml").write_text(carved + splits + rest)
        with pytest.raises(RetortError) as caught:
            load_files(["c.yaml"], {})
        missing[name] = set(re.findall(r"no\.\w+(?=: no such file)", str(caught.value)))
    assert missing["ready"] == {"no.mono", "no.ngrams", "no.pre"}
    assert missing["none"] == {"no.en", *missing["ready"]}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("source: {location: 'https://x.org/en/a', mirror_name: en}, target: 'https://x.org/de/a'", True),
        ("source: {location: 'https://x.org/z', column: 0}, target: {location: 'https://x.org/z', column: 1}", True),
        ("source: 'https://x.org/en/a', target: 'https://x.org/de/a'", False),
        ("source: {location: 'https://x.org/b', mirror_name: a}, target: 'https://x.org/de/a'", False),
    ],
)
def test_a_mirror_of_the_environment_tells_texts_apart(
    folder: Path, text: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("c.yaml").write_text(SPLIT.replace("source: my.en, target: my.de", text))
    assert load_files(["c.yaml"], {}), "downloads have addresses of their own"
    monkeypatch.setenv("RETORT_MIRROR", ".")
    with nullcontext() if fits else pytest.raises(RetortError, match="both a in a mirror"):
        load_files(["c.yaml"], {})


def test_a_mirror_tells_the_ready_splits_apart(folder: Path) -> None:
    ready = "".join(f"      {name}: {{source: {name}/s, target: {name}/t}}\n" for name in ("train", "valid", "test"))
    Path("c.yaml").write_text(TEXT + f"  mirror: .\n  carve:\n    valid_pairs: 1\n    ready:\n{ready}" + TEACHER)
    with pytest.raises(RetortError, match="carve.ready.valid.source.0. .*: valid/s and train/s are both s in a mirror"):
        load_files(["c.yaml"], {})


def test_there_are_enough() -> None:
    assert len(WRONG) >= 25


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", WRONG)
def test_the_whole_list_at_once(folder: Path, name: str) -> None:
    text, expected = WRONG[name]
    Path("c.yaml").write_text(text)
    with pytest.raises(RetortError) as caught:
        load_files(["c.yaml"], {})
    first, *lines, _ = str(caught.value).splitlines()
    left = [re.fullmatch(r"  (\S+)(?: \(c\.yaml, line (\d+)\))?: (.*)", line) for line in lines]
    for path, place, message in expected:
        fits = [
            match
            for match in left
            if match and match[1] == path and (place is None or match[2] == str(place)) and re.search(message, match[3])
        ]
        assert fits, (path, place, message, lines)
        left.remove(fits[0])
    assert not left, lines
    assert f"{len(expected)} problem" in first


@pytest.mark.parametrize("name", IDLE)
def test_keys_without_effect_are_noted(folder: Path, name: str) -> None:
    text, expected = IDLE[name]
    Path("c.yaml").write_text(text)
    notes = [f"{path}: {message}" for path, message in idle_keys(load_config("c.yaml"))]
    assert len(notes) == len(expected), notes
    assert all(note.startswith(start) for note, start in zip(notes, expected, strict=True)), notes


@pytest.mark.parametrize("text", [SPLIT, MADE_UP, SPLIT + "training: {max_updates: 200, warmup: 5%}\n"])
def test_what_the_wrong_ones_start_from_is_right(folder: Path, text: str) -> None:
    Path("c.yaml").write_text(text)
    config = load_files(["c.yaml"], {})
    assert config.teacher is not None and config.teacher.objective.name == "autoregressive"
    assert config.training.warmup in (10, 1000)


class Paragraphs(CorpusSection):
    """A new kind, which reads files."""

    kind: Literal["paragraphs"] = "paragraphs"
    files: list[TextSource]

    def named_texts(self) -> Iterator[tuple[str, TextSource]]:
        yield from ((f"files[{number}]", text) for number, text in enumerate(self.files))


def test_the_files_of_a_new_kind_of_corpus_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").touch()
    Path("a{b}").touch()
    corpus = Paragraphs(files=[TextSource(location=name) for name in ("there", "absent", "a{b}", "https://x.org/y")])
    assert [text.location for text in corpus.texts] == ["there", "absent", "a{b}", "https://x.org/y"]
    problems = {
        problem.path: problem.message for problem in file_checks(replace(valid_sections({}, True), corpus=corpus))
    }
    assert list(problems) == ["corpus.files[1]", "corpus.files[2]"]
    assert "absent: no such file; expected a text" in problems["corpus.files[1]"]
    assert "'a{b}' holds a brace" in problems["corpus.files[2]"]
