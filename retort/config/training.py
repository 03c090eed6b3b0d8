"""Models, their training, and its objectives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retort.config.base import BelowOne, Name, Probability, Section
from retort.config.janus import BartJanus, Janus


class Model(Section):
    """Shape of a model."""

    family: Literal["transformer", "gru"] = "transformer"
    """Transformer; or recurrent: bidirectional GRU encoder, GRU decoder with attention. A recurrent one decodes left to
    right, d_model is the width of its embeddings and of each direction of its encoder, its decoder's states are twice
    as wide, and of the keys below it has the depths, dropout, tied and max_length."""
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
    dropout: BelowOne = 0.1
    """Dropout of embeddings, residual branches and feed-forward activations."""
    attention_dropout: BelowOne = 0.0
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
    truncate_sources: bool = False
    """Cut longer sources to max_length, in training as in decoding; how many there are is counted all the same. false:
    in training they are an error, and in decoding they are cut, and their output counts as truncated. The same for
    all systems of a run."""

    @model_validator(mode="after")
    def _fits(self) -> Model:
        if self.d_model % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide d_model ({self.d_model})")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        if self.family == "gru" and self.decoder_layers > self.encoder_layers:
            raise ValueError(
                f"each decoder layer of a recurrent model starts from the encoder layer with its number, and there are "
                f"{self.encoder_layers} encoder and {self.decoder_layers} decoder layers"
            )
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
    """Batches per update. A training on several GPUs deals them out, so it must be a multiple of them."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    warmup: int = Field(1000, ge=0)
    """Updates of linear warm-up."""
    schedule: Literal["inverse_sqrt", "cosine", "constant"] = "inverse_sqrt"
    """Learning rate after warm-up; cosine ends at a hundredth of the peak at max_updates."""
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.98)
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
    """Validation sentences decoded at each validation for BLEU, chrF and select_by; 0 validates by loss alone."""
    select_by: Literal["loss", "BLEU", "chrF", "ROUGE-1", "ROUGE-2", "ROUGE-L"] = "BLEU"
    """Validation metric that chooses checkpoints and drives patience; left out, it is the first of
    evaluation.metrics."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many validations without a better one; null: never."""
    average_best: int = Field(5, ge=1)
    """The final weights are the average of the so many best validated ones."""
    checkpoint_minutes: float = Field(5.0, gt=0)
    """Minutes between saves of the training state."""
    warm_start: Name = "none"
    """What the weights start from. none: random ones. teacher_encoder: the teacher's embeddings and encoder; its layers
    are the first ones of a deeper encoder. pretrained: the embeddings, encoder and decoder of the section pretraining.
    The name of a system of this run: all of its weights, of the same seed where it has that. previous is chosen by
    em.student_start and em.teacher_start: all weights of the iteration before."""

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
    r_drop: float = Field(0.0, ge=0)
    """Weight of the symmetric divergence between two passes of training with different dropout (Wu et al. 2021), whose
    cross entropies are added; 0 does without the second pass."""


class DeepSupervision(Section):
    """An objective of which every decoder layer can predict."""

    deep_supervision: bool = False
    """Every decoder layer predicts, the loss is the mean over the layers, and each layer but the first is told what the
    one before predicted, in decoding too (Huang et al. 2022)."""


class Taught(Section):
    """An objective whose slots are the target's tokens, which the teacher can label in the parallel mode."""

    teacher_weight: float = Field(0.0, ge=0)
    """Weight of the divergence from the teacher's distribution of each token, given those before it, to the slot's; at
    the teacher's own translations where data are mixed, else at all targets. 0: no teacher is asked."""
    teacher_top_k: int | None = Field(None, ge=1)
    """Of the teacher's distribution only so many most probable tokens, all others together counting as one more; null:
    all of it."""

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher is asked for its distribution."""
        return self.teacher_weight > 0


class PredictedLength(Section):
    """An objective of slots, whose number is predicted."""

    length_from: Literal["mean", "slot"] = "mean"
    """What predicts the length. mean: the mean encoder state, length minus source length, at most 64 tokens either way.
    slot: the encoder's state of an empty slot before the source, absolute length, as targets much shorter than their
    sources need."""


class Vanilla(DeepSupervision, Taught, PredictedLength):
    """Position-wise cross entropy with a length predictor; the parallel family (Gu et al. 2018 without fertility).
    The model of Sun and Yang 2020 is length_from: slot, decoder_input: pad and one decoder layer more."""

    name: Literal["vanilla"]
    decoder_input: Literal["mask", "pad"] = "mask"
    """Token that stands in every decoder slot."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0)
    """Weight of the length predictor's loss."""


class Cmlm(Taught, PredictedLength):
    """Conditional masked language model (Ghazvininejad et al. 2019); the parallel family."""

    name: Literal["cmlm"]
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0)
    """Weight of the length predictor's loss."""


class Bang(Taught):
    """One model that predicts from left to right, all at once, or in blocks, with no length predictor (BANG, Qi et al.
    2021)."""

    name: Literal["bang"]
    nar_ratio: Probability = 1.0
    """Share of the batches that train the parallel mode; the others train from left to right."""
    block: int | None = Field(None, ge=1)
    """Slots that the parallel mode predicts at once, given the tokens before them; null: all."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""


class BangPretraining(Section):
    """Pre-training of the same model on text with masked spans (Qi et al. 2021), for the section pretraining alone."""

    name: Literal["bang_pretraining"]
    span_block: int = Field(64, ge=1)
    """Consecutive tokens with one masked span."""
    mask_ratio: Probability = 0.15
    """Share of the tokens of a block that its span has, at least one."""
    label_smoothing: Probability = 0.0
    """Probability mass spread over the whole vocabulary."""


class Axe(PredictedLength):
    """Aligned cross entropy: of the best monotonic alignment of targets and slots, where slots that are left out hold a
    blank (Ghazvininejad et al. 2020); the parallel family."""

    name: Literal["axe"]
    skip_target: float = Field(2.0, ge=1)
    """Price of a target that no slot is left for, as a multiple of its cross entropy in the slot it is charged to."""
    length_multiplier: float = Field(1.1, ge=1)
    """Decoder slots per token of the target's length: of the true length in training, of a predicted one in search."""
    masking: Literal["full", "random"] = "full"
    """Decoder slots in training. full: mask in all of them, as in search. random: some hold tokens of the target, as in
    cmlm; all targets are aligned, those too."""
    label_smoothing: Probability = 0.1
    """Share of the loss that is each slot's cross entropy with the uniform distribution."""
    length_weight: float = Field(0.1, ge=0)
    """Weight of the length predictor's loss."""


class Oaxe(PredictedLength):
    """Order-agnostic cross entropy: of the best order of the target's tokens (Du et al. 2021); the parallel family."""

    name: Literal["oaxe"]
    warmup_share: Probability = 0.5
    """Share of the training that comes before, with the position-wise cross entropy of vanilla."""
    truncation: Probability = 0.15
    """Tokens that get a lower probability even in the best order are left out of the training loss."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0)
    """Weight of the length predictor's loss."""


class Ctc(DeepSupervision):
    """Connectionist temporal classification over upsampled source positions; the parallel family."""

    name: Literal["ctc"]
    upsampling: int = Field(2, ge=1)
    """Decoder slots per source token."""


class Glancing(Section):
    """A glancing objective shows the decoder some of the target: this ratio times the distance of a first guess to it.
    The ratio goes linearly from start, at the first update, to end, at training.max_updates."""

    start: float = Field(0.5, ge=0, lt=1)
    """Ratio of what is revealed to what the first guess has wrong, at the first update."""
    end: float = Field(0.3, ge=0, lt=1)
    """The same at training.max_updates."""


class Glat(Glancing, DeepSupervision, Taught, PredictedLength):
    """Glancing (Qian et al. 2021): cross entropy of the tokens not revealed; the parallel family."""

    name: Literal["glat"]
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary."""
    length_weight: float = Field(0.1, ge=0)
    """Weight of the length predictor's loss."""


class GlatCtc(Glancing, DeepSupervision):
    """Glancing along the best CTC alignment (Qian et al. 2021; Gu and Kong 2021); the parallel family."""

    name: Literal["glat_ctc"]
    upsampling: int = Field(2, ge=1)
    """Decoder slots per source token."""


class Dag(Glancing):
    """Directed acyclic graph over upsampled source positions (Huang et al. 2022); the parallel family. A vertex has a
    distribution over tokens and one over the vertices that follow it. A first guess is compared with the target along
    the target's best path; a ratio of 0 does without one."""

    name: Literal["dag"]
    upsampling: int = Field(4, ge=1)
    """Vertices per source token; the paper has 8. Time and memory grow with its square."""
    end: float = Field(0.1, ge=0, lt=1)
    """The same at training.max_updates."""


class Mixture(Section):
    """Share of the training sentences whose prefixes are the data's; the others' are the student's own. A function of
    progress, which goes from 0 at the first update to 1 at training.max_updates."""

    schedule: Literal["exponential", "linear", "reverse_sigmoid", "constant"] = "exponential"
    """exponential: share ** progress. linear: from 1 to share. reverse_sigmoid: 1 / (1 + exp(20 (progress - 1/2))),
    whatever share says. constant: share."""
    share: float = Field(0.005, ge=0, le=1)
    """At the last update, or throughout."""

    @model_validator(mode="after")
    def _fits(self) -> Mixture:
        if self.schedule == "exponential" and self.share == 0:
            raise ValueError("an exponential schedule never reaches a share of 0; take a small one, or linear")
        return self


class Rollout(Section):
    """How the student's own prefixes are decoded, without dropout and without gradients."""

    kind: Literal["greedy", "sample"] = "greedy"
    """Best token at each step, or one drawn from the top_k best."""
    top_k: int = Field(5, ge=1)
    """Tokens that sample draws from, by their probabilities."""
    max_ratio: float = Field(2.0, gt=0)
    """Longest output: this times the source length, plus 10 tokens."""
    updates: int = Field(1, ge=1)
    """Updates whose prefixes are decoded at once, with the weights before the first of them."""


class Imitation(Section):
    """Next-token prediction of what the teacher would say, at prefixes of the data and of the student itself (ImitKD,
    Lin et al. 2020); the autoregressive family. At the data's prefixes alone (beta: {schedule: constant, share: 1})
    labels: full is word-level distillation (Kim and Rush 2016)."""

    name: Literal["imitation"]
    labels: Literal["hard", "full", "stored"] = "full"
    """hard: the data's token at the data's prefixes, the teacher's most probable one at the student's. full: the
    teacher's distribution at both. stored: at the data's prefixes the top_k of the teacher's distribution, from a table
    made before the training, so that no teacher runs beside it."""
    top_k: int | None = Field(None, ge=1)
    """Of the teacher's distribution only so many most probable tokens, all others together counting as one more; null:
    all of it. A table of stored labels needs a number, such as 8."""
    beta: Mixture = Mixture()
    """Share of sentences that keep the data's prefixes."""
    rollout: Rollout = Rollout()
    """Decoding of the student's own prefixes."""
    label_smoothing: Probability = 0.1
    """Probability mass spread over the whole vocabulary; with hard labels only."""

    @model_validator(mode="after")
    def _fits(self) -> Imitation:
        if self.labels == "stored" and self.mixes:
            raise ValueError("labels are stored at the data's prefixes alone; say beta: {schedule: constant, share: 1}")
        if self.labels == "stored" and self.top_k is None:
            raise ValueError("stored labels need top_k, such as 8")
        return self

    @property
    def mixes(self) -> bool:
        """Whether the student's own prefixes are ever used."""
        return (self.beta.schedule, self.beta.share) not in (("constant", 1), ("linear", 1), ("exponential", 1))

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher is asked for labels in training."""
        return self.labels == "full" or self.mixes

    @property
    def needs_labels(self) -> bool:
        """Whether the training reads what the teacher said before."""
        return self.labels == "stored"


AUTOREGRESSIVE = ("autoregressive", "imitation")
"""Objectives of model families which decode left to right alone."""

SAME_WEIGHTS = (AUTOREGRESSIVE, ("vanilla", "cmlm", "axe", "oaxe", "glat"), ("ctc", "glat_ctc"))
"""Objectives whose models have the same weights, so that a training can start from one of the others."""

WEIGHT_OPTIONS = ("length_from", "upsampling", "deep_supervision")
"""Keys of these objectives that the weights depend on."""

PRETRAINING = {"bart_janus": "janus", "bang_pretraining": "bang"}
"""Objectives of pre-training, and the one that trains the same model on pairs."""


def left_to_right(objective: Objective) -> bool:
    """Whether it trains no mode but that from left to right."""
    return objective.name in AUTOREGRESSIVE or (isinstance(objective, Bang) and objective.nar_ratio == 0)


Objective = Annotated[
    Autoregressive
    | Imitation
    | Vanilla
    | Cmlm
    | Janus
    | BartJanus
    | Bang
    | BangPretraining
    | Axe
    | Oaxe
    | Glat
    | Ctc
    | GlatCtc
    | Dag,
    Field(discriminator="name"),
]
