"""Checks of the files that a configuration names: they are there, they fit, and they can be inputs of the workflow."""

from __future__ import annotations

import codecs
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path

from retort.config.base import count_of
from retort.config.checks.given import as_trained, vocabulary_in
from retort.config.checks.sections import Sections
from retort.config.corpus import Carve, CorpusSection, TextCorpus, TextSource
from retort.config.external import CommandTeacher
from retort.config.files import MIRROR_VARIABLE, mirror_directory
from retort.config.mirrors import clashes
from retort.config.problems import Problem, bounded, near_name
from retort.config.search import NgramSearch
from retort.config.systems import PRETRAINED, System
from retort.filenames import CHECKPOINT_FILES, MODEL_DESCRIPTION, VOCABULARY_MODELS

LARGEST_COUNTED = 64 << 20
"""Bytes of a text whose lines are counted here; the corpus stage counts those of every text."""
LONGEST_TEXTS = 120_000
"""Bytes of the texts' sections, as JSON, that fit into a command: Linux has 131,072 for all of it."""
_BLOCK = 1 << 20
PARQUET, NGRAMS = b"PAR1", b"\x93NUMPY"
"""What these files begin with; n-grams are arrays of numpy."""
_CSV = re.compile(r".*\.csv(\.(gz|bz2|xz|zst))?", re.IGNORECASE | re.DOTALL)


def file_checks(sections: Sections) -> Iterator[Problem]:
    """Problems of what the valid sections name by a path."""
    yield from _missing_directories(sections)
    corpus = sections.distillation.corpus if sections.distillation else None
    if corpus and not os.path.isfile(corpus):
        yield Problem(
            "distillation.corpus", f"no file {bounded(str(corpus))}; expected a translations table{_near(corpus)}"
        )
    elif corpus and not _begins_with(corpus, PARQUET):
        message = f"{corpus} is no Parquet file; expected a translations table, such as a run's"
        yield Problem("distillation.corpus", f"{message} distilled/translations.parquet")
    for key, path in sections.external.files.items() if sections.external else ():
        if not os.path.exists(path):
            yield Problem(
                f"external_teacher.{key}", f"no file or directory {bounded(str(path))}; correct the path{_near(path)}"
            )
    yield from _missing_programs(sections)
    yield from _other_objectives(sections)
    yield from _other_vocabularies(sections)
    yield from _wrong_ngrams(sections)
    yield from _missing_texts(sections)
    yield from _too_many_texts(sections)
    yield from _comma_separated(sections)
    yield from _wrong_mirror(sections)
    yield from _unequal_texts(sections)
    yield from _too_few_to_hold_out(sections)
    yield from _paths_with_braces(sections)


def _missing_directories(sections: Sections) -> Iterator[Problem]:
    directories: list[tuple[str, str, Collection[str]]] = []
    directories += [(key, path, CHECKPOINT_FILES.values()) for key, path, _ in _checkpoints(sections)]
    if sections.vocabulary and sections.vocabulary.path:
        directories.append(("vocabulary.path", sections.vocabulary.path, VOCABULARY_MODELS.values()))
    for key, path, files in directories:
        missing = [name for name in files if not os.path.isfile(Path(path) / name)]
        if missing:
            there = os.path.isdir(path)
            found = f"{path} lacks {', '.join(missing)}" if there else f"there is no directory {os.path.abspath(path)}"
            yield Problem(key, f"{found}; expected one with {', '.join(files)}{_near(path)}")


def _missing_programs(sections: Sections) -> Iterator[Problem]:
    programs: dict[str, str] = {}
    if isinstance(sections.external, CommandTeacher):
        programs["external_teacher.arguments[0]"] = sections.external.arguments[0]
    for name, metric in sections.evaluation.learned.items() if sections.evaluation else ():
        programs[f"evaluation.learned.{name}.command[0]"] = metric.command[0]
    # jobs with an environment of their own find the programs that are beside this Python, too
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable)])
    for key, program in programs.items():
        if shutil.which(program, path=path) is not None:
            continue
        if os.path.isfile(program):
            remedy = "make the file executable, and write ./ before one of this directory; or name its interpreter"
        else:
            near = near_name(program, ("python3", "python", "bash", "sh", "perl"))
            remedy = f"did you mean {near}?" if near is not None else "name one that this machine has"
        yield Problem(key, f"no program {bounded(repr(program))} can be started here; {remedy}")


def _other_objectives(sections: Sections) -> Iterator[Problem]:
    """Checkpoints that were trained with another objective than the configuration has."""
    for key, path, system in _checkpoints(sections):
        description = Path(path) / MODEL_DESCRIPTION
        if not os.path.isfile(description):
            continue
        try:
            trained, named = as_trained(system).objective.name, system.objective.name
        except ValueError as error:
            found = f"{description} is no description of a model ({bounded(str(error))})"
            yield Problem(key, f"{found}; expected that of a trained checkpoint: copy the checkpoint again")
            continue
        if trained != named:
            yield Problem(key, f"{path} was trained as {trained}; the configuration has objective {named}")


def _other_vocabularies(sections: Sections) -> Iterator[Problem]:
    """Checkpoints that are used with the tokens of another vocabulary than theirs, where both are given."""
    own = sections.vocabulary.path if sections.vocabulary else None
    named = {name: ("teacher" if name == "teacher" else f"students.{name}", s) for name, s in sections.named.items()}
    if sections.pretraining:
        named[PRETRAINED] = ("pretraining.system", sections.pretraining.system)
    for path, system in sections.systems.items():
        uses: list[tuple[str, str, str | None]] = []
        for key, used in (named[name] for name in _used_by(path, system, sections) if name in named):
            if used.checkpoint:
                uses.append((key, used.checkpoint, system.checkpoint or own))
            elif system.checkpoint:
                uses.append((path, system.checkpoint, own))
        if system.checkpoint and any(map(system.counted_by, system.searches)):
            uses.append((path, system.checkpoint, own))  # n-grams are counted in tokens of the run
        for key, given, other in dict.fromkeys(uses):
            models = [vocabulary_in(directory) for directory in (given, other) if directory]
            if len(models) == 2 and None not in models and models[0] != models[1]:
                remedy = f", or set vocabulary.path to {given}" if other == own else ""
                found = f"{given} has another vocabulary than {other}, with whose tokens it is used"
                yield Problem(f"{key}.checkpoint", f"{found}; give one with that vocabulary{remedy}")


def _used_by(path: str, system: System, sections: Sections) -> Iterator[str]:
    """Names of the systems whose weights or outputs a training or a search of the system at ``path`` uses."""
    if any(system.asks_teacher(name) for name in system.searches):
        yield "teacher"
    if system.checkpoint:
        return
    start, objective, distillation = system.training.warm_start, system.objective, sections.distillation
    yield "teacher" if start == "teacher_encoder" else start
    makes_text = not (sections.has_external or (distillation and distillation.corpus))
    learns = (makes_text and system.data in ("distilled", "mixed")) or system.data == "interpolated"
    loops = path in sections.loop and (makes_text or (sections.em and sections.em.iterations > 1))
    if objective.needs_teacher or objective.needs_labels or learns or loops:
        yield "teacher"
    if system.mixture and system.mixture.kind == "selective":
        yield system.mixture.evaluator


def _wrong_ngrams(sections: Sections) -> Iterator[Problem]:
    for key, table in _ngram_tables(sections):
        if not os.path.isfile(table):
            yield Problem(key, f"no file {table}; expected a table of n-grams{_near(table)}")
        elif not _begins_with(table, NGRAMS):
            found = f"{table} is no table of n-grams; expected one that a run has counted, such as ngrams/*.ngrams"
            yield Problem(key, f"{found}; name that, or leave out the key to have n-grams counted")


def _ngram_tables(sections: Sections) -> Iterator[tuple[str, str]]:
    """The tables of n-grams that are given: the key and the path."""
    for key, search in _ngram_searches(sections):
        if search.table:
            yield f"{key}.table", search.table


def _ngram_searches(sections: Sections) -> Iterator[tuple[str, NgramSearch]]:
    for path, system in sections.systems.items():
        for name, search in system.searches.items():
            if isinstance(search, NgramSearch):
                yield f"{path}.searches.{name}", search


def _missing_texts(sections: Sections) -> Iterator[Problem]:
    for key, text in _texts(sections, without_replaceable=True):
        if _is_local(text) and not os.path.isfile(text.location):
            where = "relative paths start where Retort runs"
            found = "is a directory" if os.path.isdir(text.location) else "no such file"
            yield Problem(key, f"{text.location}: {found}; expected a text ({where}){_near(text.location)}")


def _too_many_texts(sections: Sections) -> Iterator[Problem]:
    """Texts whose names are too long, together, for the command that reads them."""
    sizes: Counter[str] = Counter()
    for key, text in _texts(sections):
        owner = "corpus" if key.startswith("corpus.") else key.partition("[")[0]
        # as retort/workflow/options.py writes them
        section = text.model_dump(mode="json", exclude_none="ngrams" not in owner)
        sizes[owner] += len(json.dumps(section, ensure_ascii=False).encode()) + len(", ")
    for owner, size in sizes.items():
        if size > LONGEST_TEXTS:
            found = f"the names of its texts take {size:,} bytes of a command that may have {LONGEST_TEXTS:,}"
            yield Problem(owner, f"{found}; concatenate shards, plain or compressed, such as by cat")


def _comma_separated(sections: Sections) -> Iterator[Problem]:
    """Texts of which a whole row, with both sides, would be taken for a sentence."""
    for key, text in _texts(sections, without_replaceable=True):
        name = text.member or text.location
        if text.layout == "lines" and text.column is None and _CSV.fullmatch(name):
            remedy = "write it as tab-separated text and give column, or as JSON lines with layout: json"
            yield Problem(key, f"{name}: CSV is not read: {remedy}; where each line is a text, rename it")


def _wrong_mirror(sections: Sections) -> Iterator[Problem]:
    """A mirror that is not there, or cannot tell texts apart."""
    corpus = [(f"corpus.{key}", text) for key, text in sections.corpus.mirrored_texts()] if sections.corpus else []
    others = [(key, text) for key, text in _texts(sections) if not key.startswith("corpus.") and not _is_local(text)]
    mirror = mirror_directory(sections.corpus.mirror_directory if sections.corpus else None)
    if mirror is None or not corpus + others:
        return
    if not mirror.is_dir():
        found = f"there is no directory {os.path.abspath(mirror)}"
        remedy = f"it is corpus.mirror, or else the environment variable {MIRROR_VARIABLE}"
        yield Problem("corpus.mirror", f"{found}; expected one that holds the texts: {remedy}{_near(str(mirror))}")
    yield from (Problem(key, problem) for key, problem in clashes(corpus + others))


def _unequal_texts(sections: Sections) -> Iterator[Problem]:
    """Sides of a pair with another number of lines, and splits that are larger than the text."""
    if not isinstance(sections.corpus, TextCorpus) or _is_replaceable(sections.corpus):
        return
    for path, pair in sections.corpus.pairs.items():
        for number, (source, other) in enumerate(zip(pair.source, pair.others, strict=False)):
            lines = [_lines(text) for text in (source, other)]
            if None not in lines and lines[0] != lines[1]:
                sides = f"{source.location} has {lines[0]} lines and {other.location} has {lines[1]}"
                yield Problem(
                    f"corpus.{path}.source[{number}]", f"{sides}; line i of one must be the translation of line i"
                )
    carve, whole = sections.corpus.carve, _lines_of_all(sections.corpus.train.source)
    if carve is not None and whole is not None:
        yield from _too_few_to_carve(carve, whole)


def _too_few_to_carve(carve: Carve, lines: int) -> Iterator[Problem]:
    wanted = count_of(carve.valid_pairs, lines) + count_of(carve.test_pairs, lines)
    if wanted >= lines:
        asked = f"{wanted:,} validation and test pairs of a text of {lines:,} lines leave nothing to train on"
        yield Problem("corpus.carve", f"{asked}; ask for fewer, or for shares, such as valid_pairs: 2%")


def _too_few_to_hold_out(sections: Sections) -> Iterator[Problem]:
    """An EM loop that holds out more than half of the training pairs, of which only the most are known here."""
    corpus, bounds = sections.corpus, [sections.corpus.most_pairs if sections.corpus else None]
    if isinstance(corpus, TextCorpus) and not _is_replaceable(corpus):
        bounds.append(_lines_of_all(corpus.train.source + ([] if corpus.train.others else corpus.monolingual)))
    known = [bound for bound in bounds if bound is not None]
    if sections.em and known and 2 * sections.em.held_out > (most := min(known)):
        held_out = (
            f"the loop holds out {sections.em.held_out:,} training pairs of {most:,} at most, which is above half"
        )
        remedy = f"set {most // 2:,} or less, or give it more pairs" if most > 1 else "give it more pairs"
        yield Problem("em.held_out", f"{held_out}; {remedy}")


def _paths_with_braces(sections: Sections) -> Iterator[Problem]:
    paths = [(key, text.location) for key, text in _texts(sections) if _is_local(text)]
    paths += [(key, path) for key, path, _ in _checkpoints(sections)]
    paths += (
        [(f"external_teacher.{key}", path) for key, path in sections.external.files.items()]
        if sections.external
        else []
    )
    if sections.vocabulary and sections.vocabulary.path:
        paths.append(("vocabulary.path", sections.vocabulary.path))
    if sections.distillation and sections.distillation.corpus:
        paths.append(("distillation.corpus", sections.distillation.corpus))
    paths += [(key, table) for key, table in _ngram_tables(sections)]
    for key, path in paths:
        if set(path) & set("{}"):
            yield Problem(key, f"{path!r} holds a brace, which a workflow takes for a wildcard; rename it")


def _checkpoints(sections: Sections) -> list[tuple[str, str, System]]:
    """The checkpoints that are given: the key, the directory and the system."""
    systems = {path: system for path, system in sections.systems.items() if path not in sections.loop}
    if sections.pretraining:
        systems["pretraining.system"] = sections.pretraining.system
    return [(f"{path}.checkpoint", system.checkpoint, system) for path, system in systems.items() if system.checkpoint]


def _texts(sections: Sections, without_replaceable: bool = False) -> Iterator[tuple[str, TextSource]]:
    """Every text that is read, with its key; perhaps without those that a mirror may replace."""
    left_out = "train." if without_replaceable and _is_replaceable(sections.corpus) else None
    for key, text in sections.corpus.named_texts() if sections.corpus else ():
        if left_out is None or not key.startswith(left_out):
            yield f"corpus.{key}", text
    for number, text in enumerate(sections.pretraining.texts if sections.pretraining else []):
        yield f"pretraining.texts[{number}]", text
    for key, search in _ngram_searches(sections):
        for number, text in enumerate(search.ngrams.texts):
            yield f"{key}.ngrams.texts[{number}]", text


def _is_replaceable(corpus: CorpusSection | None) -> bool:
    """Whether the splits of a mirror may replace the training text, which is carved otherwise."""
    if not isinstance(corpus, TextCorpus):
        return False
    return corpus.carve is not None and bool(corpus.carve.ready) and mirror_directory(corpus.mirror) is not None


def _is_local(text: TextSource) -> bool:
    return "://" not in text.location


def _lines(text: TextSource) -> int | None:
    """Number of lines of a local plain text; None where counting takes more than a glance."""
    if not _is_local(text) or text.member is not None or text.layout != "lines":
        return None
    try:
        status = os.stat(text.location)
        return _counted(text.location, status.st_mtime_ns) if status.st_size <= LARGEST_COUNTED else None
    except (OSError, ValueError):
        return None


def _lines_of_all(texts: Sequence[TextSource]) -> int | None:
    """Number of lines of all of these texts; None where that of one is not known."""
    counts = [_lines(text) for text in texts]
    return None if None in counts else sum(count or 0 for count in counts)


@cache
def _counted(path: str, modified: int) -> int | None:
    with open(path, "rb") as handle:
        block = handle.read(_BLOCK)
        try:
            codecs.getincrementaldecoder("utf-8")().decode(block)
        except UnicodeDecodeError:
            return None  # what is compressed, or in another encoding, is the corpus stage's to read
        lines, last = 0, b"\n"
        while block:
            lines, last = lines + block.count(b"\n"), block[-1:]
            block = handle.read(_BLOCK)
    return lines + (last != b"\n")


def _begins_with(path: str, start: bytes) -> bool:
    """Whether a file begins so; True where it cannot be read, which is for its reader to say."""
    try:
        with open(path, "rb") as handle:
            return handle.read(len(start)) == start
    except OSError:
        return True


def _near(path: str) -> str:
    """A hint: the file of the same directory whose name is nearest."""
    try:
        names = [entry.name for entry in os.scandir(Path(path).parent)][:10_000]
    except (OSError, ValueError):
        return ""
    near = near_name(Path(path).name, [name for name in names if name != Path(path).name])
    return f"; did you mean {Path(path).parent / near}?" if near is not None else ""
