"""A model of the package transformers as a teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import compress
from operator import not_
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from retort.config.external import SOURCE, TransformersTeacher
from retort.errors import RetortError, refusal
from retort.teachers.base import LENGTH, STOP, Answer, Output, Question, Teacher, one_line
from retort.teachers.batching import batches, no_room

POSITION_TABLES = ("embed_positions", "position_embeddings", "position_embedding", "wpe")
"""Names of the modules that hold an embedding of each position, in models that cannot go beyond the last one."""
SHOWN_CODES = 8
"""Language codes that an error names."""


class Transformers(Teacher):
    """A model and its tokenizer, loaded."""

    def __init__(self, section: TransformersTeacher, threads: int) -> None:
        self.section = section
        torch.set_num_threads(threads)
        self.device = _device(section.device)
        self.translates = section.task == "translate"
        self.tokenizer, self.model = _loaded(section)
        if section.chat and not self.tokenizer.chat_template:
            raise RetortError(f"{section.model} has no chat template; set external_teacher.chat: false")
        self._room = _room(section, self.model)
        self.model.to(self.device).eval()
        if section.source_language:
            _known_language(section, self.tokenizer, key="source_language", language=section.source_language)
            self.tokenizer.src_lang = section.source_language
        self._forced = None
        if section.target_language:
            self._forced = _known_language(
                section, self.tokenizer, key="target_language", language=section.target_language
            )
        if not self.translates:
            self.tokenizer.padding_side = "left"
            if self.tokenizer.pad_token_id is None:
                self.tokenizer.pad_token = self.tokenizer.eos_token

    @torch.inference_mode()
    def answer(self, questions: Sequence[Question]) -> Iterator[Answer]:
        tokens = [self._tokens(question.source) for question in questions]
        fits = [self._room is None or len(source) <= self._room for source in tokens]
        for question, source in compress(zip(questions, tokens, strict=True), map(not_, fits)):
            yield no_room(question, source, self.section.outputs, limit=f"at most {self._room}")
        questions, tokens = list(compress(questions, fits)), list(compress(tokens, fits))
        for group, sources in batches(questions, tokens, self.section.batch_tokens):
            for question, outputs in zip(group, self._decoded(sources), strict=True):
                yield Answer(question, outputs)

    def close(self) -> None:
        del self.model

    def _tokens(self, source: str) -> list[int]:
        section = self.section
        text = section.prompt.replace(SOURCE, source) if section.prompt else source
        if section.chat:
            system = [] if section.system is None else [{"role": "system", "content": section.system}]
            messages = [*system, {"role": "user", "content": text}]
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            # the template has the special tokens
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return list(self.tokenizer(text)["input_ids"])

    def _decoded(self, sources: Sequence[Any]) -> list[list[Output]]:
        section, count = self.section, self.section.outputs
        batch = self.tokenizer.pad({"input_ids": list(sources)}, return_tensors="pt").to(self.device)
        given = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        search: dict[str, Any] = {"num_beams": section.beam_size, "do_sample": False}
        if section.beam_size > 1:
            search["length_penalty"] = section.length_penalty
        if section.temperature:
            search = {"num_beams": 1, "do_sample": True, "temperature": section.temperature, "top_k": 0}
        if self._forced is not None:
            search["forced_bos_token_id"] = self._forced
        # one token more, so that an output that ends exactly at the limit is whole
        limit: dict[str, Any] = {"max_new_tokens": section.max_length + 1, "max_length": None}
        # many models would force their end as the last token, and no output would be seen to be cut
        limit["forced_eos_token_id"] = None
        tokens = self.model.generate(**given, **search, **limit, num_return_sequences=count)
        if not self.translates:
            tokens = tokens[:, batch["input_ids"].shape[1] :]
        outputs = [self._output(row) for row in tokens.tolist()]
        return [outputs[i * count : (i + 1) * count] for i in range(len(sources))]

    def _output(self, tokens: list[int]) -> Output:
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        start = 1 if self.translates else 0
        place = next((i for i, token in enumerate(tokens) if i >= start and token in ends), None)
        text = self.tokenizer.decode(tokens[:place], skip_special_tokens=True)
        return Output(one_line(text), LENGTH if place is None else STOP)


def open_teacher(section: TransformersTeacher, split: str, threads: int, spent: tuple[int, int]) -> Transformers:
    """The model, loaded; raises RetortError if the package, the model or a language is not there."""
    return Transformers(section, threads)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise RetortError(f"external_teacher.device: {name} cannot be used here ({error}); use cpu or auto") from None


def _loaded(section: TransformersTeacher) -> tuple[Any, Any]:
    """Tokenizer and model. Nothing of the model's own code runs, and weights are read as safetensors alone."""
    try:
        package = import_module("transformers")
    except ImportError as error:
        raise RetortError(
            f"external_teacher: the package transformers cannot be imported ({error}); install it: "
            f"pip install -r requirements-transformers.txt (a file of Retort's), or run the workflow with --sdm conda"
        ) from None
    kind = package.AutoModelForSeq2SeqLM if section.task == "translate" else package.AutoModelForCausalLM
    where = {"revision": section.revision} if section.revision and not Path(section.model).is_dir() else {}
    try:
        tokenizer = package.AutoTokenizer.from_pretrained(section.model, **where)
        model, loading = kind.from_pretrained(
            section.model, dtype=section.dtype, use_safetensors=True, output_loading_info=True, **where
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, AssertionError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and refusal(error):
            raise
        said = one_line(str(error))
        advice = "give a directory with a model and its tokenizer, or a name on the Hub that this machine can reach"
        if "safetensors" in said:
            advice = (
                "weights are read as safetensors only: save_pretrained writes them; or name a revision that has them"
            )
        raise RetortError(
            f"external_teacher.model: {section.model} cannot be loaded as task: {section.task}: {said[:500]}; {advice}"
        ) from None
    if missing := sorted(loading["missing_keys"]):
        raise RetortError(
            f"external_teacher.model: {section.model} lacks {len(missing)} weights, such as {missing[0]}; give a whole "
            f"checkpoint, or the task that it was trained for"
        )
    return tokenizer, model


def _room(section: TransformersTeacher, model: Any) -> int | None:
    """Longest source in tokens; None where the model has no table of positions, so that there is no limit."""
    positions = getattr(model.config, "max_position_embeddings", None)
    tables = (module for name, module in model.named_modules() if name.endswith(POSITION_TABLES))
    if not isinstance(positions, int) or not any(isinstance(table, torch.nn.Embedding) for table in tables):
        return None
    # the first token of an output is fed, and its last one is not
    longest = positions - 1
    if section.max_length > longest:
        raise RetortError(
            f"external_teacher.max_length: {section.max_length}; {section.model} has {positions} positions; give at "
            f"most {longest}"
        )
    return positions if section.task == "translate" else positions - section.max_length


def _known_language(section: TransformersTeacher, tokenizer: Any, key: str, language: str) -> int:
    """The id of a language's token."""
    if hasattr(tokenizer, "get_lang_id"):
        # M2M-100, whose codes are not its tokens
        languages = {code: tokenizer.get_lang_id(code) for code in tokenizer.lang_code_to_token}
    else:
        languages = {
            token: tokenizer.convert_tokens_to_ids(token)
            for token in (*tokenizer.all_special_tokens, *tokenizer.get_added_vocab())
        }
    if language not in languages:
        codes = sorted(code for code in languages if not code.startswith("<"))[:SHOWN_CODES]
        has = f"it has {', '.join(codes)}, ..." if codes else "it has none"
        raise RetortError(f"external_teacher.{key}: {section.model} has no language {language!r}; {has}")
    return int(languages[language])
