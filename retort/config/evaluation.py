"""What happens to systems: distillation, scoring, timing, the report."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from retort.config.base import FilePath, Name, Section, ShortForm
from retort.config.metrics import DIAGNOSTICS, LEADING_METRICS, METRICS, Metric
from retort.config.search import Beam, Greedy, Search
from retort.config.tokenizers import Tokenizer
from retort.engines import ENGINES, Engine


def _are_different(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError(f"{values} repeats a value; give each once")
    return values


Different = AfterValidator(_are_different)


class Distillation(Section):
    """Decoding of the training sources by the teacher. The number of shards is a run-time knob:
    snakemake --set-scatter distill=N."""

    corpus: FilePath | None = None
    """A distilled translations table (Parquet, joined by id) to use instead of decoding."""
    search: Search = Beam(kind="beam")
    """Search of the teacher."""
    batch_tokens: int = Field(8192, ge=16, le=100_000_000)
    """Padded source tokens of a decoding batch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the teacher's weights while decoding."""
    engine: Literal["auto", "ctranslate2", "torch"] = "auto"
    """What decodes. auto: CTranslate2 for the best hypothesis of each source, on a processor in float32, where it gives
    the same tokens as torch for the first 256 training sources; otherwise torch, which also decodes EM's candidates.
    ctranslate2: these too, whatever differs. The table's provenance names the engine and what differed."""

    @model_validator(mode="after")
    def _engine_fits(self) -> Distillation:
        if self.engine == "ctranslate2" and self.precision != "float32":
            raise ValueError(
                f"engine ctranslate2 decodes in float32, not in {self.precision}; set engine to auto or precision to "
                f"float32"
            )
        if self.engine == "ctranslate2" and isinstance(self.search, Beam) and self.search.beam_size == 1:
            raise ValueError(
                "engine ctranslate2 has beams of two and more, found search.beam_size 1; set engine to auto, or search "
                "to greedy"
            )
        return self

    @property
    def engine_module(self) -> str | None:
        """Module that decodes with CTranslate2; None: only torch decodes."""
        return None if self.engine == "torch" else "retort.export.exact_search"


class Exposure(Section):
    """Exposure bias, after Lin et al. (2020): the teacher and the student complete the beginnings of the student's
    outputs, of the teacher's and of the references."""

    systems: list[Name] = []
    """Students that decode left to right; empty: none is measured."""
    shares: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Different] = Field([0.5], min_length=1)
    """How much of an output is given, as shares of its tokens."""
    search: Annotated[Greedy | Beam, Field(discriminator="kind"), ShortForm("kind")] = Greedy(kind="greedy")
    """How both decode."""


class LearnedMetric(Section):
    """A metric that a program of its own environment computes, such as COMET."""

    command: list[str] = Field(min_length=1)
    """Program and arguments. It is given one JSON line per output, and writes its signature and one JSON line per
    output; see docs/evaluation.md. Of those that are files the content counts: when it changes, all is scored again.
    For COMET: workflow_scripts/workers/comet_worker.py, with envs/comet.yaml."""

    @property
    def files(self) -> dict[str, str]:
        """Files of this machine that it names, by their keys."""
        return {f"command[{i}]": text for i, text in enumerate(self.command) if os.path.isfile(text)}


class Evaluation(Section):
    """Scoring."""

    metrics: list[Metric] = Field(["BLEU", "chrF", "TER"], min_length=1)
    """Quality metrics, each scored and compared. The first one leads: figures and gaps are in it, and it chooses
    checkpoints unless training.select_by names another one. BLEU-lc is for lower-cased text, ROUGE for English;
    distinct-n is the share of distinct n-grams in all output."""
    learned: dict[Name, LearnedMetric] = {}
    """Learned metrics by name, scored and compared like the others. None of them leads or chooses checkpoints."""
    tokenizer: Tokenizer = "auto"
    """sacreBLEU's tokenizer, for every metric that counts words, and for lengths. auto: by the writing of the
    references, zh for Chinese, char for Japanese, Thai, Lao, Khmer, Burmese and Tibetan, and 13a for all that have
    spaces between words. ja-mecab, ko-mecab and the models of spm, flores101, flores200 and spBLEU-1K have to be
    installed. Training takes it over."""
    bootstrap_samples: int = Field(1000, ge=10, le=10_000_000)
    """Resamples of the paired bootstrap."""
    baseline: str | None = None
    """System, with its first search and seed, that all others are compared with; external names the external
    teacher. null: the external teacher, the teacher, or where there is neither the first student."""
    baselines: dict[Name, str | list[str]] = {}
    """Other baselines for some systems: one or several names per system. A search is compared with the search of the
    same name of each baseline that has one, and with the search of each baseline that names one, such as ctc/collapse;
    or else with the first baseline's first search. A seed is compared with the same seed, or with the first one. The
    report shows all of them."""
    batch_tokens: int = Field(4096, ge=16, le=100_000_000)
    """Padded source tokens of a decoding batch."""
    length_buckets: list[Annotated[int, Field(ge=1, le=1_000_000)]] = []
    """Scores by the length of the references: the largest number of words in each bucket but the last, such as
    [10, 15, 20]. Empty: not measured."""
    exposure: Exposure = Exposure()
    """Exposure bias."""

    @field_validator("length_buckets")
    @classmethod
    def _bounds_grow(cls, bounds: list[int]) -> list[int]:
        if any(a >= b for a, b in pairwise(bounds)):
            raise ValueError(f"{bounds} do not grow; give each bound once, the shortest first")
        return bounds

    @model_validator(mode="after")
    def _is_led(self) -> Evaluation:
        if self.metrics[0] not in LEADING_METRICS:
            raise ValueError(f"metrics: {self.metrics[0]} cannot lead; put one of {', '.join(LEADING_METRICS)} first")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics: {', '.join(self.metrics)} names one twice")
        return self

    @model_validator(mode="after")
    def _learned_have_names_of_their_own(self) -> Evaluation:
        taken = {*(metric.name for metric in METRICS), *DIAGNOSTICS} & self.learned.keys()
        if taken:
            raise ValueError(f"learned: {', '.join(sorted(taken))} has a meaning already; give another name")
        return self


class Latency(Section):
    """Latency and throughput over real test sentences."""

    sentences: int = Field(100, ge=1, le=1_000_000_000)
    """Test sentences timed at batch size 1; of each other size as many, rounded up to whole batches, and at least two
    batches."""
    batch_sizes: Annotated[list[Annotated[int, Field(ge=1, le=1_000_000)]], Different] = Field([1, 8, 64], min_length=1)
    """Batch sizes of the sweep."""
    warmup: int = Field(5, ge=1, le=1_000_000)
    """Batches decoded before the clock starts."""
    repeats: int = Field(1, ge=1, le=100_000)
    """Times the whole sweep is repeated, systems interleaved."""
    turn: int = Field(25, ge=1, le=1_000_000_000)
    """Sentences in a row that a system decodes, at least a batch, before it is the next one's turn. From the second on
    it finds its own weights in the processor's caches, like a server of one model; with 1 it finds those of others."""
    threads: int | None = Field(1, ge=1, le=4096)
    """CPU threads of each decoder; null: as many as the job is given. In an exported system a line alone has one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights in torch."""
    engines: Annotated[list[Engine], Different] = Field(list(ENGINES), min_length=1)
    """Engines that time each system, as far as they can run it: torch runs all, onnx what decodes in parallel without a
    teacher, ctranslate2 Transformers that decode from left to right. A system's latency is that in its fastest one."""
    exported_precision: Literal["int8", "float32"] = "int8"
    """Precision of the weights in the engines that are exported to."""
    shortlist_size: int = Field(50, ge=0, le=1_000_000)
    """Exported systems are also timed with a lexical shortlist: so many candidates per source piece, and so many
    frequent pieces; 0: without. It is made from the training text, and pays with vocabularies of thousands."""
    cold_starts: int = Field(3, ge=0, le=1000)
    """New processes of each system and engine, and of each search with a table of n-grams, in which cold start and peak
    memory are measured; 0: none."""


class Report(Section):
    """The HTML report."""

    title: str = "Retort"
    """Heading."""
    sample_sentences: int = Field(20, ge=0, le=1_000_000_000)
    """Test sentences shown side by side."""
