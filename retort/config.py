"""The configuration: pydantic models that are the single source of every key, its type, default and meaning.

``resolve`` turns the YAML a user writes into a ``Config`` in which every system is complete: the top-level ``model``
and ``training`` sections are what each system starts from, and a system's own sections override them key by key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Probability = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


# ---- corpus ---------------------------------------------------------------------------------------------------------


class GeneratedCorpus(Section):
    """A made-up language pair from a seeded grammar; see retort/corpus/grammar.py."""

    kind: Literal["generated"]
    train_pairs: int = Field(8000, ge=1)
    """Training pairs to generate."""
    valid_pairs: int = Field(500, ge=1)
    """Validation pairs to generate."""
    test_pairs: int = Field(500, ge=1)
    """Test pairs to generate."""
    seed: int = Field(1, ge=0)
    """Seed of the grammar and of every random choice."""
    synonyms: Probability = 0.5
    """Share of target words that have a synonym, chosen at random each time."""
    usual_synonym: Probability = 0.7
    """Probability of the usual one of two synonyms."""
    reordering: Probability = 0.3
    """Probability that a clause is said in its other word order."""
    optional_words: Probability = 0.3
    """Probability that an optional word is said."""


class TextSource(Section):
    """One text: a local file, or a public address with its checksum; plain, .gz, or a member of a .zip or .tar.*"""

    location: str
    """Path or http(s) address."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the text inside, after decompression; null leaves it unchecked and only records it."""
    member: str | None = None
    """Name of the file inside a .zip or .tar archive."""
    column: int | None = Field(None, ge=0)
    """Column of a tab-separated file, from 0; null takes whole lines."""
    mirror_name: str | None = None
    """Path of this text below the mirror directory, plain or .gz; null: the last part of the location."""


class TextPair(Section):
    """A split: one or several source texts and as many target texts, line by line."""

    source: list[TextSource] = Field(min_length=1)
    """Source side, concatenated."""
    target: list[TextSource] = Field(min_length=1)
    """Target side, concatenated."""

    @model_validator(mode="after")
    def _pairs_up(self) -> TextPair:
        if len(self.source) != len(self.target):
            raise ValueError(
                f"{len(self.source)} source and {len(self.target)} target texts; give as many of each, in one order"
            )
        return self


class Carve(Section):
    """Carve valid and test out of the training text, for corpora that come without a split."""

    valid_pairs: int = Field(2500, ge=1)
    """Validation pairs, at least."""
    test_pairs: int = Field(2500, ge=1)
    """Test pairs, at least."""
    largest_component: int = Field(20, ge=1)
    """Pairs that share a side form a component and stay together; larger components stay in train."""
    ready: dict[Literal["train", "valid", "test"], TextPair] = {}
    """The carved splits as files of their own, all three, where a mirror may hold them: taken instead of carving when
    the mirror has them."""

    @model_validator(mode="after")
    def _ready_is_whole(self) -> Carve:
        if self.ready and len(self.ready) != 3:
            raise ValueError(f"ready needs train, valid and test, found {', '.join(self.ready)}")
        return self


class TextCorpus(Section):
    """Parallel text from local files or public downloads."""

    kind: Literal["text"]
    train: TextPair
    """Training pairs."""
    valid: TextPair | None = None
    """Validation pairs; null when ``carve`` makes them."""
    tests: dict[Name, TextPair] = {}
    """Test sets by name; empty when ``carve`` makes one, named test."""
    carve: Carve | None = None
    """How to split when there is no valid and no test set."""
    mirror: str | None = None
    """Directory that holds the same texts; used instead of downloading. The environment variable RETORT_MIRROR
    does the same."""
    train_pairs: int | None = Field(None, ge=1)
    """Keep only this many training pairs, drawn at random with ``seed``; null keeps all."""
    seed: int = Field(1, ge=0)
    """Seed of that draw."""

    @model_validator(mode="after")
    def _has_splits(self) -> TextCorpus:
        if self.carve is None and (self.valid is None or not self.tests):
            raise ValueError("give valid and at least one test set, or carve them out of train with carve")
        if self.carve is not None and (self.valid is not None or self.tests):
            raise ValueError("carve makes valid and test itself; remove it, or remove valid and tests")
        return self


class Cleaning(Section):
    """Which pairs are dropped; every drop is counted in the cleaning table. Valid and test keep all pairs but
    those with an empty side."""

    max_words: int = Field(100, ge=1)
    """Drop training pairs with more white-space words on a side."""
    max_ratio: float = Field(3.0, ge=1)
    """Drop training pairs whose word counts, plus 3 each so that short pairs pass, differ by more than this factor."""
    drop_duplicates: bool = True
    """Drop repeated identical training pairs."""
    drop_leaks: bool = True
    """Drop training pairs whose source or target also stands in valid or test."""


class Vocabulary(Section):
    """sentencepiece vocabulary."""

    path: str | None = None
    """Directory of a vocabulary to use instead of training one (source.model, target.model, vocabulary.json)."""
    type: Literal["unigram", "bpe"] = "unigram"
    """Kind of segmentation."""
    size: int = Field(6000, ge=32)
    """Number of pieces, special ones included."""
    joint: bool = True
    """One vocabulary for both sides."""
    character_coverage: float = Field(1.0, gt=0.9, le=1)
    """Share of the characters covered; the rest becomes unknown."""
    sample_sentences: int = Field(1_000_000, ge=1)
    """At most so many sentences are read to train it."""


# ---- systems --------------------------------------------------------------------------------------------------------


class Model(Section):
    """Shape of a Transformer."""

    d_model: int = Field(128, ge=8)
    """Width."""
    heads: int = Field(4, ge=1)
    """Attention heads; divides d_model."""
    ffn: int = Field(512, ge=8)
    """Inner width of the feed-forward blocks."""
    encoder_layers: int = Field(4, ge=1)
    """Encoder depth."""
    decoder_layers: int = Field(4, ge=1)
    """Decoder depth."""
    dropout: Probability = 0.1
    """Dropout of embeddings, residual branches and feed-forward activations."""
    attention_dropout: Probability = 0.0
    """Dropout of attention weights."""
    norm: Literal["pre", "post"] = "pre"
    """Layer norm before each block, or after each residual sum."""
    activation: Literal["relu", "gelu"] = "relu"
    """Feed-forward activation."""
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    """Position embeddings."""
    tied: Literal["all", "output", "none"] = "all"
    """Share embeddings: source, target and output; target and output; or none. "all" needs a joint vocabulary."""
    max_length: int = Field(256, ge=8)
    """Longest sequence in tokens, special ones included."""

    @model_validator(mode="after")
    def _fits(self) -> Model:
        if self.d_model % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide d_model ({self.d_model})")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        return self


class Training(Section):
    """Optimisation, validation and stopping."""

    max_updates: int = Field(20_000, ge=1)
    """Optimiser updates."""
    max_minutes: float | None = Field(None, gt=0)
    """Stop after so many minutes of training, all runs of this training added; null: no limit."""
    batch_tokens: int = Field(4096, ge=16)
    """Padded tokens of the longer side in a batch."""
    accumulate: int = Field(1, ge=1)
    """Batches per update."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(1000, ge=0)
    """Updates of linear warm-up."""
    schedule: Literal["inverse_sqrt", "cosine", "constant"] = "inverse_sqrt"
    """Learning rate after warm-up; cosine ends at a hundredth of the peak at max_updates."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Adam's moment decays."""
    epsilon: float = Field(1e-9, gt=0)
    """Adam's epsilon."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay, not on biases and norms."""
    clip: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 turns clipping off."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of weights and activations in the forward and backward pass; the optimiser keeps float32. auto:
    bfloat16 where the processor gains from it."""
    validate_every: int = Field(500, ge=1)
    """Updates between validations."""
    decode_sentences: int = Field(200, ge=0)
    """Validation sentences decoded at each validation for BLEU and chrF; 0 validates by loss alone."""
    select_by: Literal["loss", "BLEU", "chrF"] = "BLEU"
    """Validation metric that chooses checkpoints and drives patience."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many validations without a better one; null: never."""
    average_best: int = Field(5, ge=1)
    """The final weights are the average of the so many best validated ones."""
    checkpoint_minutes: float = Field(5.0, gt=0)
    """Minutes between saves of the training state."""
    warm_start: Literal["none", "teacher_encoder"] = "none"
    """What the weights start from. teacher_encoder: the teacher's embeddings and encoder; its layers are the first ones
    of a deeper encoder."""

    @model_validator(mode="after")
    def _fits(self) -> Training:
        if self.warmup >= self.max_updates:
            raise ValueError(f"warmup ({self.warmup}) must be below max_updates ({self.max_updates})")
        if self.select_by != "loss" and self.decode_sentences == 0:
            raise ValueError(f"select_by {self.select_by} needs decode_sentences above 0")
        return self


class Autoregressive(Section):
    """Next-token cross entropy; the autoregressive model family."""

    name: Literal["autoregressive"]
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""


class Vanilla(Section):
    """Position-wise cross entropy with a length predictor; the parallel family (Gu et al. 2018 without fertility)."""

    name: Literal["vanilla"]
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0)
    """Weight of the length predictor's loss."""


class Cmlm(Section):
    """Conditional masked language model (Ghazvininejad et al. 2019); the parallel family."""

    name: Literal["cmlm"]
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0)
    """Weight of the length predictor's loss."""


class Ctc(Section):
    """Connectionist temporal classification over upsampled source positions; the parallel family."""

    name: Literal["ctc"]
    upsampling: int = Field(2, ge=1)
    """Decoder slots per source token."""


Objective = Annotated[Autoregressive | Vanilla | Cmlm | Ctc, Field(discriminator="name")]


class Greedy(Section):
    """Left-to-right, best token each step."""

    kind: Literal["greedy"]
    max_ratio: float = Field(2.0, gt=0)
    """Longest output: this times the source length, plus 10 tokens."""


class Beam(Section):
    """Left-to-right beam search."""

    kind: Literal["beam"]
    beam_size: int = Field(5, ge=1)
    """Hypotheses kept each step."""
    length_penalty: float = Field(1.0, ge=0)
    """alpha of ((5 + length) / 6) ** alpha, which divides the log-probability (Wu et al. 2016)."""
    max_ratio: float = Field(2.0, gt=0)
    """Longest output: this times the source length, plus 10 tokens."""


class Argmax(Section):
    """One pass over the predicted length, best token at each position."""

    kind: Literal["argmax"]
    length_beam: int = Field(1, ge=1)
    """Lengths tried, the most probable ones; the best mean log-probability wins."""


class MaskPredict(Section):
    """Iterative refinement: the least sure tokens are masked and predicted again."""

    kind: Literal["mask_predict"]
    iterations: int = Field(4, ge=1)
    """Decoder passes."""
    length_beam: int = Field(3, ge=1)
    """Lengths tried, the most probable ones; the best mean log-probability wins."""


class CtcCollapse(Section):
    """One pass, best token in each slot, repeats merged, blanks removed."""

    kind: Literal["ctc_collapse"]


Search = Annotated[Greedy | Beam | Argmax | MaskPredict | CtcCollapse, Field(discriminator="kind")]

SEARCHES_OF_OBJECTIVE = {
    "autoregressive": ("greedy", "beam"),
    "vanilla": ("argmax",),
    "cmlm": ("mask_predict", "argmax"),
    "ctc": ("ctc_collapse",),
}


class System(Section):
    """A model family x a training objective x a data recipe x its searches."""

    objective: Objective
    """Training objective; it decides the model family."""
    data: Literal["raw", "distilled"] = "raw"
    """Training targets: the references, or the teacher's translations."""
    checkpoint: str | None = None
    """Directory of a trained checkpoint to use instead of training."""
    seeds: list[int] | None = Field(None, min_length=1)
    """Seeds of this system; null: the top-level seeds."""
    model: Model = Model()
    """Shape; keys left out come from the top-level model section."""
    training: Training = Training()
    """Training; keys left out come from the top-level training section."""
    searches: dict[Name, Search] = {}
    """How it is decoded, by name; the first one also validates and distils. Empty: its objective's usual ones."""

    @model_validator(mode="after")
    def _searches_fit(self) -> System:
        allowed = SEARCHES_OF_OBJECTIVE[self.objective.name]
        for name, search in self.searches.items():
            if search.kind not in allowed:
                raise ValueError(
                    f"search {name!r} is {search.kind}, which objective {self.objective.name} cannot use; "
                    f"it can use {' or '.join(allowed)}"
                )
        return self


# ---- stages ---------------------------------------------------------------------------------------------------------


class Distillation(Section):
    """Decoding of the training sources by the teacher. The number of shards is a run-time knob:
    snakemake --set-scatter distill=N."""

    corpus: str | None = None
    """A distilled translations table (Parquet, joined by id) to use instead of decoding."""
    search: Search = Beam(kind="beam")
    """Search of the teacher."""
    batch_tokens: int = Field(8192, ge=16)
    """Padded source tokens of a decoding batch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the teacher's weights while decoding."""


class Evaluation(Section):
    """Scoring."""

    bootstrap_samples: int = Field(1000, ge=10)
    """Resamples of the paired bootstrap."""
    baseline: str | None = None
    """System (its first search and seed) every other one is compared with; null: the teacher."""
    batch_tokens: int = Field(4096, ge=16)
    """Padded source tokens of a decoding batch."""
    lowercase: bool = False
    """Score lower-cased text too, as BLEU-lc."""


class Latency(Section):
    """Latency and throughput over real test sentences."""

    sentences: int = Field(100, ge=1)
    """Test sentences timed at batch size 1 (and at least two batches of each other size)."""
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field([1, 8, 64], min_length=1)
    """Batch sizes of the sweep."""
    warmup: int = Field(5, ge=1)
    """Batches decoded before the clock starts."""
    repeats: int = Field(1, ge=1)
    """Times the whole sweep is repeated, systems interleaved."""
    threads: int | None = Field(1, ge=1)
    """CPU threads of each decoder; null: as many as the job is given."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights."""


class Report(Section):
    """The HTML report."""

    title: str = "Retort"
    """Heading."""
    sample_sentences: int = Field(20, ge=0)
    """Test sentences shown side by side."""


class Config(Section):
    """A run of Retort."""

    name: Name
    """Name of the run: everything is written below results/<name>."""
    seeds: list[int] = Field([1], min_length=1)
    """Seeds: each system is trained once with each."""
    corpus: Annotated[GeneratedCorpus | TextCorpus, Field(discriminator="kind")]
    """Where the parallel text comes from."""
    cleaning: Cleaning = Cleaning()
    """Which pairs are dropped."""
    vocabulary: Vocabulary = Vocabulary()
    """sentencepiece vocabulary."""
    model: Model = Model()
    """Shape every system starts from."""
    training: Training = Training()
    """Training every system starts from."""
    teacher: System
    """The autoregressive teacher."""
    distillation: Distillation = Distillation()
    """Decoding of the distilled corpus."""
    students: dict[Name, System] = {}
    """The students, by name."""
    evaluation: Evaluation = Evaluation()
    """Scoring."""
    latency: Latency = Latency()
    """Timing."""
    report: Report = Report()
    """The HTML report."""

    @property
    def systems(self) -> dict[str, System]:
        """Every system by name, the teacher first."""
        return {"teacher": self.teacher, **self.students}

    def seeds_of(self, system: str) -> list[int]:
        """Seeds a system is trained with; a given checkpoint counts once, under the first of them."""
        seeds = self.systems[system].seeds or self.seeds
        return seeds[:1] if self.systems[system].checkpoint else seeds


DEFAULT_SEARCHES: dict[str, dict[str, Search]] = {
    "autoregressive": {"beam5": Beam(kind="beam"), "greedy": Greedy(kind="greedy")},
    "vanilla": {"argmax": Argmax(kind="argmax")},
    "cmlm": {
        "passes4": MaskPredict(kind="mask_predict"),
        "passes1": MaskPredict(kind="mask_predict", iterations=1),
        "passes10": MaskPredict(kind="mask_predict", iterations=10),
    },
    "ctc": {"collapse": CtcCollapse(kind="ctc_collapse")},
}


def complete(raw: dict[str, Any]) -> dict[str, Any]:
    """A raw configuration with every system completed from the top-level model and training sections, unvalidated."""
    raw = dict(raw)

    def complete_system(system: Any) -> Any:
        if not isinstance(system, dict):
            return system
        system = dict(system)
        for section in ("model", "training"):
            base, own = raw.get(section) or {}, system.get(section) or {}
            if isinstance(base, dict) and isinstance(own, dict):
                system[section] = {**base, **own}
        objective = system.get("objective")
        if isinstance(objective, dict) and not system.get("searches"):
            system["searches"] = DEFAULT_SEARCHES.get(str(objective.get("name", "")), {})
        return system

    if "teacher" in raw:
        raw["teacher"] = complete_system(raw["teacher"])
    if isinstance(raw.get("students"), dict):
        raw["students"] = {name: complete_system(system) for name, system in raw["students"].items()}
    return raw


def resolve(raw: dict[str, Any]) -> Config:
    """Validate a raw configuration, every system completed from the top-level model and training sections.

    Raises pydantic.ValidationError.
    """
    return Config.model_validate(complete(raw))
