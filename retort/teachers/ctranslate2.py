"""A model converted for CTranslate2 as a teacher."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import sentencepiece

from retort.config.external import SOURCE, CTranslate2Teacher
from retort.config.problems import near_name
from retort.data.files import read_text
from retort.errors import RetortError
from retort.teachers.base import LENGTH, STOP, Answer, Output, Question, Teacher, one_line
from retort.teachers.batching import batches, no_room

SOURCE_NAMES = (
    "source.spm", "source.model", "sentencepiece.bpe.model", "spm.model", "sentencepiece.model", "tokenizer.model",
)  # fmt: skip
TARGET_NAMES = ("target.spm", "target.model")
NO_ROOM = "No position encodings are defined"
"""CTranslate2's error for a source, or an output, that is longer than the model's positions; it does not name them."""
CONVERTED_VOCABULARIES = {
    "source": ("source_vocabulary", "shared_vocabulary", "vocabulary"),
    "target": ("target_vocabulary", "shared_vocabulary", "vocabulary"),
}
"""Files of a converted model that hold the tokens of a side, without their suffix: .json, or .txt in older ones."""


class CTranslate2(Teacher):
    """A model that is loaded, with the sentencepiece models of its two sides."""

    def __init__(self, section: CTranslate2Teacher, threads: int) -> None:
        self.section = section
        source = _vocabulary_path(section, section.source_vocabulary, SOURCE_NAMES)
        assert source is not None
        target = _vocabulary_path(section, section.target_vocabulary, TARGET_NAMES, needed=False) or source
        self._source, self._target = _processor(source), _processor(target)
        engine = ctranslate2.Translator if section.task == "translate" else ctranslate2.Generator
        try:
            self._model = engine(
                section.path,
                device=section.device,
                compute_type=section.precision,
                inter_threads=1,
                intra_threads=threads,
            )
        except (RuntimeError, ValueError) as error:
            raise RetortError(
                f"{section.path}: CTranslate2 cannot load it ({error}); expected the directory that its converter wrote"
            ) from None
        _check_tokens(section)

    def answer(self, questions: Sequence[Question]) -> Iterator[Answer]:
        section = self.section
        tokens = [self._tokens(question.source) for question in questions]
        for group, sources in batches(questions, tokens, section.batch_tokens):
            yield from self._answers(group, sources)

    def close(self) -> None:
        self._model.unload_model()

    def _tokens(self, source: str) -> list[str]:
        section = self.section
        text = section.prompt.replace(SOURCE, source) if section.prompt else source
        return [*section.source_prefix, *self._source.encode(text, out_type=str), *section.source_suffix]

    def _answers(self, questions: Sequence[Question], sources: list[Any]) -> Iterator[Answer]:
        """Answers of a batch; in halves, where a source or an output of it has no room in the model."""
        decode = self._translated if self.section.task == "translate" else self._generated
        try:
            outputs = list(decode(sources))
        except RuntimeError as error:
            if NO_ROOM not in str(error):
                raise
            if len(sources) == 1:
                yield no_room(questions[0], sources[0], self.section.outputs, limit=str(error))
                return
            half = len(sources) // 2
            yield from self._answers(questions[:half], sources[:half])
            yield from self._answers(questions[half:], sources[half:])
        else:
            yield from itertools.starmap(Answer, zip(questions, outputs, strict=True))

    def _options(self) -> dict[str, Any]:
        section = self.section
        sampling: dict[str, Any] = {"beam_size": section.beam_size, "length_penalty": section.length_penalty}
        if section.temperature:
            sampling = {"beam_size": 1, "sampling_topk": 0, "sampling_temperature": section.temperature}
        suppressed = [[token] for token in section.suppress]
        return {
            **sampling,
            "patience": section.patience,
            "num_hypotheses": section.outputs,
            "return_scores": True,
            "suppress_sequences": suppressed or None,
        }

    def _translated(self, sources: list[Any]) -> Iterator[list[Output]]:
        prefix, limit = self.section.target_prefix, self.section.max_length
        results = self._model.translate_batch(
            sources,
            target_prefix=[prefix] * len(sources) if prefix else None,
            max_input_length=0,
            min_decoding_length=0,
            # one token more, so that an output that ends exactly at the limit is whole; the prefix counts as well
            max_decoding_length=len(prefix) + limit + 1,
            **self._options(),
        )
        for result in results:
            hypotheses = [tokens[len(prefix) :] if prefix else tokens for tokens in result.hypotheses]
            yield self._outputs(hypotheses, result.scores)

    def _generated(self, sources: list[Any]) -> Iterator[list[Output]]:
        results = self._model.generate_batch(
            sources,
            include_prompt_in_result=False,
            min_length=0,
            max_length=self.section.max_length + 1,
            **self._options(),
        )
        for result in results:
            yield self._outputs(result.sequences, result.scores)

    def _outputs(self, hypotheses: list[list[str]], scores: list[float]) -> list[Output]:
        limit = self.section.max_length
        return [
            Output(one_line(self._target.decode(tokens[:limit])), LENGTH if len(tokens) > limit else STOP, score)
            for tokens, score in zip(hypotheses, scores, strict=True)
        ]


def open_teacher(section: CTranslate2Teacher, split: str, threads: int, spent: tuple[int, int]) -> CTranslate2:
    """The model, loaded; raises RetortError, naming the file, for what cannot be."""
    return CTranslate2(section, threads)


def _vocabulary_path(
    section: CTranslate2Teacher, given: str | None, names: Sequence[str], needed: bool = True
) -> Path | None:
    if given:
        return Path(given)
    found = next((Path(section.path, name) for name in names if Path(section.path, name).is_file()), None)
    if found is None and needed:
        raise RetortError(
            f"{section.path}: no sentencepiece model (looked for {', '.join(names)}); copy it there, or name it as "
            f"external_teacher.source_vocabulary"
        )
    return found


def _check_tokens(section: CTranslate2Teacher) -> None:
    """CTranslate2 takes tokens that it does not know for <unk>, without a word."""
    given = {"source": ("source_prefix", "source_suffix"), "target": ("target_prefix", "suppress")}
    for side, keys in given.items():
        known = _converted_vocabulary(Path(section.path), side)
        for key in keys:
            unknown = next((token for token in getattr(section, key) if known and token not in known), None)
            if unknown is not None:
                near = near_name(unknown, known)
                hint = f"; did you mean {near!r}?" if near is not None else ""
                raise RetortError(
                    f"external_teacher.{key}: the {side} vocabulary of {section.path} has no token {unknown!r}; write "
                    f"it as this vocabulary does{hint}"
                )


def _converted_vocabulary(directory: Path, side: str) -> dict[str, None]:
    """The tokens of a side, in their order; empty where the directory has none that can be read."""
    paths = [directory / f"{name}{suffix}" for name in CONVERTED_VOCABULARIES[side] for suffix in (".json", ".txt")]
    path = next((path for path in paths if path.is_file()), None)
    try:
        if path is None:
            return {}
        text = read_text(path)
        return dict.fromkeys(map(str, json.loads(text) if path.suffix == ".json" else text.split("\n")))
    except (OSError, ValueError, TypeError):
        return {}


def _processor(path: Path) -> sentencepiece.SentencePieceProcessor:
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(path.read_bytes())
    except (OSError, RuntimeError) as error:
        raise RetortError(
            f"{path}: not a sentencepiece model ({error}); name the one of this CTranslate2 model"
        ) from None
    return processor
