"""Training of a sentencepiece vocabulary from a corpus table."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import sentencepiece

from retort import config
from retort.data.files import write_json
from retort.data.parquet import Table, iterate_table, open_table
from retort.data.tables import CORPUS, TRANSLATIONS
from retort.data.vocabulary import (
    BLANK_PIECE,
    BOS,
    EOS,
    IDS,
    MASK_PIECE,
    PAD,
    UNK,
    Vocabulary,
)
from retort.errors import RetortError
from retort.filenames import VOCABULARY_DESCRIPTION

# Constant: the pieces depend on the number of threads, through the order in which partial sums are added.
_TRAINING_THREADS = 4
_LONGEST_SENTENCE_BYTES = 65_536
_RESERVED = "\u2585"
"""sentencepiece's sign for what is unknown; it leaves out sentences that hold it."""
_ROWS_AT_ONCE = 8192
_ALWAYS: dict[str, Any] = {
    "pad_id": PAD,
    "bos_id": BOS,
    "eos_id": EOS,
    "unk_id": UNK,
    "control_symbols": [MASK_PIECE, BLANK_PIECE],
    "max_sentence_length": _LONGEST_SENTENCE_BYTES,
    "num_threads": _TRAINING_THREADS,
}
"""What sentencepiece is told of every vocabulary."""
_TOO_HIGH = re.compile(r"too high \((\d+)\).*<= (\d+)")


def train_vocabulary(
    corpus: Path | str,
    settings: config.Vocabulary,
    seed: int,
    output: Path | str,
    provenance: dict[str, Any] | None = None,
    outputs: Path | str | None = None,
) -> Vocabulary:
    """Train the vocabulary of a CORPUS table, or copy the one at ``settings.path``, and write it to ``output``.

    The same table, settings and seed give the same bytes on any machine. The corpus is streamed; sentencepiece holds at
    most ``sample_sentences`` of it, drawn at random. ``outputs``: TRANSLATIONS table whose text is the target side
    instead of the corpus's. The description is written last. Raises RetortError if the size
    does not suit the text.
    """
    facts: dict[str, Any] = {
        "type": settings.type,
        "normalisation": settings.normalisation,
        "byte_fallback": settings.byte_fallback,
        "symbols": settings.symbols,
    }
    if settings.path is not None:
        vocabulary = Vocabulary.load(settings.path)
        facts = {"type": "given", "path": settings.path}
    elif settings.joint:
        sample = _Sample(corpus, ("source", "target"), sentences=settings.sample_sentences, seed=seed, outputs=outputs)
        model, facts["sentences"] = _train(sample, settings)
        vocabulary = Vocabulary(model, model, str(output))
    else:
        models, problems = {}, []
        facts["sentences"] = 0
        for side in ("source", "target"):
            sample = _Sample(corpus, (side,), sentences=settings.sample_sentences, seed=seed, outputs=outputs)
            try:
                models[side], read = _train(sample, settings)
                facts["sentences"] += read
            except RetortError as error:
                problems.append(str(error))
        if problems:
            raise RetortError("; ".join(dict.fromkeys(problems)))
        vocabulary = Vocabulary(models["source"], models["target"], str(output))
    vocabulary.copy_to(output)
    facts |= {
        "joint": vocabulary.joint,
        "source_size": vocabulary.source_size,
        "target_size": vocabulary.target_size,
        "digest": vocabulary.digest,
        "ids": IDS,
        "provenance": provenance or {},
    }
    write_json(Path(output) / VOCABULARY_DESCRIPTION, facts)
    return vocabulary


@dataclass(frozen=True)
class _Sample:
    """Sentences of the given sides of a random share of a corpus table, in the table's order."""

    corpus: Path | str
    sides: tuple[str, ...]
    sentences: int
    seed: int
    outputs: Path | str | None = None
    """Table of the target side, if that is not the corpus."""

    def __iter__(self) -> Iterator[str]:
        if self.outputs is None:
            yield from self._drawn(self.corpus, CORPUS, self.sides)
            return
        if "source" in self.sides:
            yield from self._drawn(self.corpus, CORPUS, ("source",))
        if "target" in self.sides:
            yield from self._drawn(self.outputs, TRANSLATIONS, ("text",))

    def _drawn(self, path: Path | str, table: Table, columns: Sequence[str]) -> Iterator[str]:
        """Texts of these columns of a random share of a table; without rejected outputs."""
        rows = open_table(path, table).metadata.num_rows
        pairs = max(1, self.sentences // len(self.sides))
        wanted = np.ones(rows, dtype=bool)
        if pairs < rows:
            wanted[:] = False
            wanted[np.random.default_rng(self.seed).choice(rows, size=pairs, replace=False, shuffle=False)] = True
        first = 0
        for part in iterate_table(path, table, rows=_ROWS_AT_ONCE):
            sampled = part.filter(wanted[first : first + part.num_rows])
            first += part.num_rows
            if table is TRANSLATIONS:
                sampled = sampled.filter(pc.is_null(sampled.column("rejected")))
            for column in columns:
                for text in sampled.column(column).to_pylist():
                    yield from _sentences(text)


def _sentences(text: str) -> Iterator[str]:
    """The text as sentences that sentencepiece leaves out none of: without its reserved sign, and a long one cut, at
    white space where there is some. Runs of white space are single spaces."""
    line = " ".join(text.replace(_RESERVED, " ").split())
    # a character has four bytes at most
    longest, start = _LONGEST_SENTENCE_BYTES // 4, 0
    if len(line.encode()) <= _LONGEST_SENTENCE_BYTES:
        longest = len(line)
    while len(line) - start > longest:
        end = line.rfind(" ", start + 1, start + longest + 1)
        end = end if end > 0 else start + longest
        yield line[start:end]
        start = end + (line[end] == " ")
    if start < len(line):
        yield line[start:]


def _train(sample: _Sample, settings: config.Vocabulary) -> tuple[bytes, int]:
    """Serialised model and the number of sentences it was trained on."""
    failures: list[BaseException] = []
    read = 0

    def sentences() -> Iterator[str]:
        nonlocal read
        try:
            for sentence in sample:
                read += 1
                yield sentence
        except BaseException as error:  # noqa: BLE001 - sentencepiece swallows what its iterator raises
            failures.append(error)

    # what is left out, instead of given as empty, changes no byte of a model
    options: dict[str, Any] = {"byte_fallback": True} if settings.byte_fallback else {}
    if settings.symbols:
        options["user_defined_symbols"] = settings.symbols
    model = io.BytesIO()
    trouble: RuntimeError | None = None
    sentencepiece.set_random_generator_seed(sample.seed % 2**32)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences(),
            model_writer=model,
            vocab_size=settings.size,
            model_type=settings.type,
            character_coverage=settings.character_coverage,
            normalization_rule_name=settings.normalisation,
            minloglevel=2,
            **_ALWAYS,
            **options,
        )
    except RuntimeError as error:
        trouble = error
    if failures:
        raise failures[0]
    if trouble is not None:
        raise RetortError(_explain(str(trouble), sample, settings)) from trouble
    return model.getvalue(), read


def possible_vocabulary(text: Iterable[str], size: int) -> tuple[int, bytes]:
    """A size of a vocabulary that can be made of this text: ``size``, or else nearly the largest; and its model, which
    is empty where none can be made.

    Words in one context alone, numbers, and letters written apart have few pieces. How few only sentencepiece knows,
    and what it says of one size does not hold for all smaller ones.
    """
    lines = [sentence for line in text for sentence in _sentences(line)]
    # every character, the sign for a space, and the special pieces
    least = len(set().union(*lines) - {" "}) + 1 + len(IDS)
    size, model = max(size, least), io.BytesIO()
    while lines:
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                vocab_size=size,
                character_coverage=1.0,
                normalization_rule_name="identity",
                minloglevel=3,
                **_ALWAYS,
            )
        except RuntimeError as error:
            sizes = _TOO_HIGH.search(str(error))
            if sizes is None or size == least:
                break
            size = max(least, int(sizes[2]) * 9 // 10)
        else:
            break
    return size, model.getvalue()


def _explain(message: str, sample: _Sample, settings: config.Vocabulary) -> str:
    """Error message for a vocabulary that cannot be trained: the cause and the remedy."""
    text = f"{sample.corpus} ({' and '.join(sample.sides)} side)"
    joint = "" if settings.joint else ", or vocabulary.joint to true"
    if sizes := _TOO_HIGH.search(message):
        return (
            f"{text}: the text is too small for a vocabulary of {sizes[1]} pieces; the largest possible is {sizes[2]}: "
            f"set vocabulary.size to {sizes[2]} or less{joint}"
        )
    if sizes := re.search(r"required_chars\. (\d+) vs (\d+)", message):
        bytes_off = ", or turn vocabulary.byte_fallback off" if settings.byte_fallback else ""
        return (
            f"{text}: a vocabulary of {sizes[1]} pieces cannot hold the special tokens and every character, which "
            f"are {sizes[2]}: set vocabulary.size to {sizes[2]} or more, or lower vocabulary.character_coverage "
            f"({settings.character_coverage}){bytes_off}"
        )
    if "sentences_.empty()" in message:
        return f"{text}: there is no text to train a vocabulary on; expected at least one non-empty sentence"
    return f"{text}: sentencepiece could not train a vocabulary: {message}"
