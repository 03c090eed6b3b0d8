"""Teachers that somebody else made: text in, text out.

A new kind is a class here, its place in ``ExternalTeacher``, and the module ``retort/teachers/<kind>.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from retort.config.addresses import check_location
from retort.config.base import FilePath, Name, Probability, Section

EXTERNAL = "external"
"""Name of the external teacher among the systems."""
SOURCE = "{source}"
"""Where a prompt has the source."""

TABLES = (".tsv", ".csv", ".jsonl", ".json", ".ndjson", ".parquet")
"""Endings of tables of outputs; they say how a table is read."""

JUDGING = frozenset({"filters", "choose"})
"""Keys that judge outputs, which are the same whatever these keys are."""


def _is_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern[:80]!r} is not a regular expression: {error}") from None
    return pattern


def _is_address(url: str) -> str:
    check_location(url)
    if "${" in url:
        raise ValueError("an interface's address has no variables; write it out, and give the key by key_variable")
    return url


def _has_source(prompt: str) -> str:
    if SOURCE not in prompt:
        raise ValueError(f"the prompt lacks {SOURCE}; write it where the source belongs")
    return prompt


def _is_variable(name: str) -> str:
    # the name itself is not shown: it may be the key
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("not the name of an environment variable; export the key as a variable, and give its name")
    return name


def _is_table(path: str) -> str:
    if not path.lower().endswith(TABLES):
        raise ValueError(f"{path!r} is no table by its name; expected one that ends in {', '.join(TABLES)}: rename it")
    return path


EnvironmentVariable = Annotated[str, AfterValidator(_is_variable)]
Pattern = Annotated[str, AfterValidator(_is_pattern)]
Prompt = Annotated[str, AfterValidator(_has_source)]
TablePath = Annotated[FilePath, AfterValidator(_is_table)]
Script = Literal[
    "arabic", "armenian", "bengali", "cjk", "cyrillic", "devanagari", "ethiopic", "georgian", "greek", "gujarati",
    "gurmukhi", "hangul", "hebrew", "hiragana", "kannada", "katakana", "khmer", "lao", "latin", "malayalam", "myanmar",
    "sinhala", "tamil", "telugu", "thai", "tibetan",
]  # fmt: skip
"""A script, by the first word of the Unicode names of its letters."""

CHATTER = (
    r"(sure|certainly|of course|absolutely|okay|ok)[,!.:]? (here|i can|i'd|let me|this|the translation)\b",
    r"here('s| is| are) (the|your|a|my) (translation|translated|answer|output|sentence|result)",
    r"(the )?(translation|translated text|answer|output)( in \w+| to \w+| of .{1,80})?( is)?:",
    r"i('m| am) sorry,? but\b",
    r"i (cannot|can't|can not|am unable to|'m unable to) (translate|help|assist|provide|fulfil)",
    r"as an? (ai|artificial intelligence|language model)",
    r"```",
)


class Filters(Section):
    """Which outputs of an external teacher train nothing. They are counted in the report and written to a table. An
    empty output never trains, nor one that was cut: at the length limit, or by the filter of an endpoint. null or an
    empty list switches a filter off."""

    copied: Probability | None = 0.9
    """Drop an output when at least this share of its words are the source's, counted from four words on; a shorter one
    only when the source is just as short and equal. null where copying is right."""
    max_ratio: float | None = Field(3.0, ge=1, le=10_000)
    """Drop an output when its words and those of the source, plus 3 each, differ by more than this factor."""
    repeats: int | None = Field(4, ge=2, le=1_000_000)
    """Drop an output in which the same one to eight words (characters, in a script without spaces) follow each other
    this many times, unless they do so in the source."""
    scripts: list[Script] = []
    """Scripts that the target language is written in, such as [latin] or [cjk, hiragana, katakana]."""
    script_share: Probability = 0.5
    """Drop an output when fewer of its letters than this share are of ``scripts``."""
    chatter: list[Pattern] = list(CHATTER)
    """Drop an output whose beginning matches one of these regular expressions, in any case, unless the source's does:
    refusals and chatter of language models."""

    @property
    def without_effect(self) -> dict[str, str]:
        return {} if self.scripts else {"script_share": "it is a share of the letters of scripts, and none is named"}


class ExternalSection(Section):
    """What every kind of external teacher declares. Class variables and properties are no keys of the configuration."""

    kind: str
    """Name of the kind, and of its module below retort/teachers."""
    environment: ClassVar[str] = "retort"
    """Environment of its jobs: a file below envs."""
    local_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys that change how it is asked and not what it answers."""
    timing_keys: ClassVar[frozenset[str]] = frozenset()
    """Those of them that change how long it takes."""
    remembers: ClassVar[bool] = True
    """Whether its answers are kept by source as they come, so that none is asked twice."""
    is_paid: ClassVar[bool] = False
    """Whether answers are kept when the code changes, too."""
    outputs: int = Field(1, ge=1, le=1000)
    """Outputs per source."""
    choose: Literal["first", "mbr", "reference"] = "first"
    """Which output trains, of several that pass the filters. mbr: the one nearest to the others by sentence chrF, which
    is minimum Bayes risk. reference: the one nearest to the reference by sentence chrF."""
    filters: Filters = Filters()
    """Which outputs train nothing."""
    jobs: int = Field(1, ge=1, le=10_000)
    """Jobs that may ask it at the same time; the number of shards is that of snakemake --set-scatter distill=N."""

    @property
    def files(self) -> dict[str, str]:
        """Files and directories of this machine that it reads, by their keys."""
        return {}

    @property
    def secret(self) -> str | None:
        """The environment variable without which it cannot be asked; None: it needs none."""
        return None

    @property
    def is_timed(self) -> bool:
        """Whether its time to answer can be measured."""
        return True

    @property
    def waits(self) -> bool:
        """Whether it may wait for a device, a server or a program, whose work is not that of the asking process."""
        return True

    def answers_splits(self, names: tuple[str, ...]) -> bool:
        """Whether it can translate these splits: valid, or names of test sets."""
        return True

    @property
    def asked(self) -> dict[str, Any]:
        """What its answers depend on, as plain values."""
        return self.model_dump(mode="json", exclude={*JUDGING, "jobs", *self.local_keys})

    def asked_about(self, splits: Collection[str]) -> dict[str, Any]:
        """What its answers to these splits depend on, as plain values."""
        return self.asked

    def files_about(self, splits: Collection[str]) -> dict[str, str]:
        """Those of ``files`` that its answers to these splits depend on."""
        return self.files

    @model_validator(mode="after")
    def _chooses_among_several(self) -> ExternalSection:
        if self.choose != "first" and self.outputs == 1:
            raise ValueError(f"choose: {self.choose} needs several outputs; set outputs, or choose: first")
        return self


class TableTeacher(ExternalSection):
    """Outputs that somebody made already: TSV or CSV without a header (the id or source, then one or several outputs),
    JSON lines or Parquet (fields id or source, and text, which may be a list). A Parquet table may instead have a row
    per output, with a column rank."""

    kind: Literal["table"]
    remembers = False
    path: TablePath
    """Table of the training text: .tsv, .csv, .jsonl, .json, .ndjson or .parquet."""
    held_out: dict[Name, TablePath] = {}
    """Tables of valid and of test sets, by their names. With all test sets, the teacher is scored."""
    key: Literal["id", "source"] = "source"
    """What finds a source's outputs: its text, or its id, which is its line number from 0 in the source file."""

    @property
    def files(self) -> dict[str, str]:
        return {"path": self.path, **{f"held_out.{name}": path for name, path in self.held_out.items()}}

    def asked_about(self, splits: Collection[str]) -> dict[str, Any]:
        tables = {"train": self.path, **self.held_out}
        held = {key: value for key, value in self.asked.items() if key not in ("path", "held_out")}
        return {**held, "tables": {name: path for name, path in tables.items() if name in splits}}

    def files_about(self, splits: Collection[str]) -> dict[str, str]:
        names = {"path": "train", **{f"held_out.{name}": name for name in self.held_out}}
        return {key: path for key, path in self.files.items() if names[key] in splits}

    @property
    def is_timed(self) -> bool:
        return False

    def answers_splits(self, names: tuple[str, ...]) -> bool:
        return set(names) <= set(self.held_out)


class CommandTeacher(ExternalSection):
    """A program that reads one source per line on its standard input and writes one line for each to its standard
    output, in their order; with several outputs, they are separated by tabs. UTF-8. There is no shell."""

    kind: Literal["command"]
    local_keys = frozenset({"lines", "timeout"})
    timing_keys = frozenset({"lines"})
    arguments: list[str] = Field(min_length=1)
    """The program and its arguments. Of those that are files the content counts: when it changes, all is asked
    again."""
    streams: bool = False
    """Whether the program answers each line at once, before its input ends, and flushes. Then one process serves
    65,536 sources, and its latency can be measured."""
    lines: int = Field(1000, ge=1, le=1_000_000_000)
    """Lines per call of the program, or per exchange with one that streams; answers are kept after each."""
    timeout: float = Field(600, gt=0, le=10_000_000)
    """Longest time in seconds for so many lines."""

    @property
    def files(self) -> dict[str, str]:
        return {f"arguments[{i}]": text for i, text in enumerate(self.arguments) if os.path.isfile(text)}

    @property
    def is_timed(self) -> bool:
        return self.streams


class CTranslate2Teacher(ExternalSection):
    """A model converted for CTranslate2, whose tokens are those of sentencepiece models: OPUS, M2M, NLLB and others as
    a translator, language models as a generator."""

    kind: Literal["ctranslate2"]
    local_keys = timing_keys = frozenset({"device", "batch_tokens"})
    path: FilePath = Field(min_length=1)
    """Directory of the converted model."""
    task: Literal["translate", "generate"] = "translate"
    """translate: an encoder-decoder. generate: a decoder-only model, which continues ``prompt``."""
    prompt: Prompt | None = None
    """For generate: what it continues; {source} is the source."""
    source_vocabulary: str | None = None
    """sentencepiece model of the source; null: source.spm, source.model, sentencepiece.bpe.model, spm.model,
    sentencepiece.model or tokenizer.model in the directory."""
    target_vocabulary: str | None = None
    """The same of the target; null: target.spm or target.model in the directory, or else the source's."""
    source_prefix: list[str] = []
    """Tokens before those of the source, such as a language code."""
    source_suffix: list[str] = []
    """Tokens after them, such as [</s>, eng_Latn]."""
    target_prefix: list[str] = []
    """Tokens that the output begins with, such as [deu_Latn]; they are not part of it."""
    suppress: list[str] = []
    """Tokens that are never generated."""
    beam_size: int = Field(5, ge=1, le=10_000)
    """Hypotheses kept each step."""
    length_penalty: float = Field(1.0, ge=0, le=100)
    """Exponent of the length that divides the log-probability, as CTranslate2 has it."""
    patience: float = Field(1.0, gt=0, le=100)
    """Finished hypotheses that the search waits for, in beam sizes; above 1 it searches longer."""
    max_length: int = Field(256, ge=1, le=1_000_000)
    """Longest output in tokens; one that reaches it counts as truncated."""
    temperature: float = Field(0.0, ge=0, le=100)
    """0: the search's best outputs. Above 0: ``outputs`` samples."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where it runs."""
    precision: Literal["default", "float32", "float16", "bfloat16", "int8", "int8_float16", "int8_float32"] = "default"
    """Precision of the weights; default: that of the conversion."""
    batch_tokens: int = Field(4096, ge=16, le=100_000_000)
    """Padded source tokens of a batch."""

    @property
    def files(self) -> dict[str, str]:
        given = {"source_vocabulary": self.source_vocabulary, "target_vocabulary": self.target_vocabulary}
        return {"path": self.path, **{key: path for key, path in given.items() if path}}

    @property
    def waits(self) -> bool:
        return self.device == "cuda"

    @model_validator(mode="after")
    def _continues_a_prompt(self) -> CTranslate2Teacher:
        if (self.task == "generate") != (self.prompt is not None):
            raise ValueError("prompt is what task: generate continues; give both, or neither")
        _check_beam(self.outputs, self.beam_size, self.temperature)
        return self


class OpenAITeacher(ExternalSection):
    """A language model behind any endpoint that is compatible with OpenAI's: <base_url>/chat/completions."""

    kind: Literal["openai"]
    is_paid = True
    local_keys = frozenset(
        {"key_variable", "concurrency", "retries", "timeout", "max_requests", "max_total_tokens", "timed"}
    )
    timing_keys = frozenset({"concurrency"})
    base_url: Annotated[str, AfterValidator(_is_address)] = Field(pattern=r"^https?://[^\s/@?#]+[^\s@?#]*$")
    """Address of the interface, such as https://api.example.com/v1 or http://localhost:8000/v1; without a password."""
    model: str = Field(min_length=1)
    """Name of the model there."""
    prompt: Prompt
    """What the user says; {source} is the source."""
    system: str | None = None
    """What the system says before it; null: nothing."""
    temperature: float = Field(0.0, ge=0, le=100)
    """Temperature of sampling; 0 for one output."""
    max_tokens: int = Field(512, ge=1, le=1_000_000)
    """Longest output in tokens; one that reaches it counts as truncated."""
    key_variable: EnvironmentVariable | None = None
    """Name of the environment variable that holds the key, which is never written anywhere; null: no key is sent."""
    concurrency: int = Field(8, ge=1, le=1000)
    """Requests in flight, per job."""
    retries: int = Field(6, ge=0, le=100)
    """Further attempts after status 408, 429 or 5xx, no connection, a time-out, or an answer that is not whole. They
    wait 1, 2, 4, ... seconds up to a minute, or as long as Retry-After says."""
    timeout: float = Field(120, gt=0, le=100_000)
    """Longest time in seconds for one answer."""
    max_requests: int | None = Field(None, ge=1, le=1_000_000_000)
    """Requests that may be sent: those of all answers that are kept, and every one of the job itself; null: no
    ceiling."""
    max_total_tokens: int | None = Field(None, ge=1, le=1_000_000_000_000)
    """Tokens that these may use, as the answers name them; null: no ceiling."""
    timed: bool = True
    """Whether its latency is measured. That sends each timed sentence again, under ceilings of its own, as high as
    these."""

    @property
    def secret(self) -> str | None:
        return self.key_variable

    @property
    def is_timed(self) -> bool:
        return self.timed

    @model_validator(mode="after")
    def _samples_several(self) -> OpenAITeacher:
        if self.outputs > 1 and not self.temperature:
            raise ValueError(
                f"{self.outputs} outputs at temperature 0 are all the same; set temperature, or outputs: 1"
            )
        return self


class TransformersTeacher(ExternalSection):
    """A model of the package transformers, from the Hub or a directory; see envs/teacher-transformers.yaml."""

    kind: Literal["transformers"]
    environment = "teacher-transformers"
    local_keys = timing_keys = frozenset({"device", "batch_tokens"})
    model: str = Field(min_length=1)
    """A directory, or a name on the Hub."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; null: its main branch, which can change."""
    task: Literal["translate", "generate"] = "translate"
    """translate: a sequence-to-sequence model. generate: a decoder-only model, which continues ``prompt``."""
    source_language: str | None = None
    """Code of the source language, where the tokenizer has codes, such as eng_Latn."""
    target_language: str | None = None
    """Code of the target language, such as deu_Latn."""
    prompt: Prompt | None = None
    """What is given to the model; {source} is the source. null: the source alone."""
    chat: bool = False
    """Whether the prompt goes through the tokenizer's chat template."""
    system: str | None = None
    """With chat: what the system says before it; null: nothing."""
    beam_size: int = Field(5, ge=1, le=10_000)
    """Hypotheses kept each step; 1: greedy."""
    length_penalty: float = Field(1.0, ge=0, le=100)
    """Exponent of the length that divides the log-probability."""
    temperature: float = Field(0.0, ge=0, le=100)
    """0: the search's best outputs. Above 0: ``outputs`` samples."""
    max_length: int = Field(256, ge=1, le=1_000_000)
    """Longest output in tokens; one that reaches it counts as truncated."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto: a GPU where there is one."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Type of the weights; auto: that of the checkpoint."""
    batch_tokens: int = Field(4096, ge=16, le=100_000_000)
    """Padded source tokens of a batch."""

    @property
    def files(self) -> dict[str, str]:
        return {"model": self.model} if os.path.isdir(self.model) or self.model.startswith(("/", ".", "~")) else {}

    @property
    def waits(self) -> bool:
        return self.device not in ("cpu", "auto")

    @model_validator(mode="after")
    def _fits(self) -> TransformersTeacher:
        if self.task == "generate" and self.prompt is None:
            raise ValueError("task: generate needs a prompt with {source}")
        if self.system is not None and not self.chat:
            raise ValueError("system is part of a chat; set chat: true, or write it into the prompt")
        _check_beam(self.outputs, self.beam_size, self.temperature)
        return self


def _check_beam(outputs: int, beam_size: int, temperature: float) -> None:
    if not temperature and outputs > beam_size:
        raise ValueError(
            f"{outputs} outputs need a beam_size of at least {outputs}, or a temperature; found {beam_size}"
        )


ExternalTeacher = Annotated[
    TransformersTeacher | CTranslate2Teacher | OpenAITeacher | CommandTeacher | TableTeacher,
    Field(discriminator="kind"),
]
