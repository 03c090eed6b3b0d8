"""Optimisation, validation and stopping."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retort.config.base import BelowOne, ChangesNoWeight, Name, Section, ShareOf
from retort.config.metrics import ValidationMetric, metric_named
from retort.config.tokenizers import Tokenizer

WARNED = 0.05
"""Share of a text that trains nothing, above which there is a warning."""


class Training(Section):
    """Optimisation, validation and stopping."""

    max_updates: int = Field(20_000, ge=1, le=1_000_000_000)
    """Optimiser updates."""
    max_minutes: float | None = Field(None, gt=0, le=10_000_000)
    """Stop after so many minutes of training, all runs of this training added; null: no limit."""
    batch_tokens: int = Field(4096, ge=16, le=100_000_000)
    """Padded tokens of the longer side in a batch."""
    accumulate: int = Field(1, ge=1, le=100_000)
    """Batches per update. A training on several GPUs deals them out, so it must be a multiple of them."""
    learning_rate: float = Field(1e-3, gt=0, le=1000)
    """Peak learning rate."""
    warmup: Annotated[int, ShareOf("max_updates")] = Field(1000, ge=0, le=1_000_000_000)
    """Updates of linear warm-up, or a share of max_updates, such as 5%."""
    schedule: Literal["inverse_sqrt", "cosine", "constant"] = "inverse_sqrt"
    """Learning rate after warm-up; cosine ends at a hundredth of the peak at max_updates."""
    betas: tuple[BelowOne, BelowOne] = Field((0.9, 0.98), strict=False)
    """Adam's moment decays."""
    epsilon: float = Field(1e-9, gt=0, le=1)
    """Adam's epsilon."""
    weight_decay: float = Field(0.0, ge=0, le=1000)
    """Decoupled weight decay, not on biases and norms."""
    clip: float = Field(1.0, ge=0, le=1e9)
    """Largest gradient norm; 0 turns clipping off."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of weights and activations in the forward and backward pass; the optimiser keeps float32. auto:
    bfloat16 where the processor gains from it."""
    validate_every: Annotated[int, ShareOf("max_updates")] = Field(500, ge=1, le=1_000_000_000)
    """Updates between validations, or a share of max_updates, such as 10%."""
    decode_sentences: int = Field(200, ge=0, le=1_000_000_000)
    """Validation sentences decoded at each validation for BLEU, chrF and select_by; 0 validates by loss alone."""
    select_by: ValidationMetric = "BLEU"
    """Validation metric that chooses checkpoints and drives patience; left out, it is the first of
    evaluation.metrics."""
    tokenizer: Tokenizer = "auto"
    """Tokenizer of the validation metrics; left out, it is evaluation.tokenizer."""
    patience: int | None = Field(None, ge=1, le=1_000_000_000)
    """Stop after so many validations without a better one; null: never."""
    average_best: int = Field(5, ge=1, le=1000)
    """How many of the best validated weights are averaged."""
    final_weights: Literal["validated", "mean", "best", "last"] = "validated"
    """The weights that are kept: that average (mean), the best validated ones (best), whichever of these two is better
    on the validation set (validated), or those after the last update (last)."""
    long_pairs: Literal["drop", "refuse"] = "drop"
    """Pairs with a side of more tokens than model.max_length allows. drop: they are left out of training and
    validation, and counted. refuse: they are an error."""
    max_untrained: Annotated[float, ChangesNoWeight()] = Field(0.5, ge=0, le=1)
    """A training with a larger share of pairs, or of target tokens, that train nothing ends with an error: pairs longer
    than the model at once; targets that do not fit into the slots, and tokens that an objective leaves out, at the
    first validation after they were counted. Above a twentieth there is a warning. Objectives that leave out tokens on
    purpose allow more of them: axe a fifth without a warning, oaxe nine tenths. The run's own value, in the section
    training, also bounds the teacher's outputs that are empty or cut at the length limit. 1: never an error."""
    checkpoint_minutes: Annotated[float, ChangesNoWeight()] = Field(5.0, gt=0, le=10_000_000)
    """Minutes between saves of the training state."""
    warm_start: Name = "none"
    """What the weights start from. none: random ones. teacher_encoder: the teacher's embeddings and encoder; its layers
    are the first ones of a deeper encoder. pretrained: the embeddings, encoder and decoder of the section pretraining.
    The name of a system of this run: all of its weights, of the same seed where it has that. previous is chosen by
    em.student_start and em.teacher_start: all weights of the iteration before."""
    start_encoder_layers: list[Annotated[int, Field(ge=1, le=1000)]] | None = Field(None, min_length=1)
    """For a system that is shallower than what it starts from, with warm_start teacher_encoder or the name of a system:
    which of the start's encoder layers its own are, the lowest first, such as [1, 3, 6]. null: the first ones."""
    start_decoder_layers: list[Annotated[int, Field(ge=1, le=1000)]] | None = Field(None, min_length=1)
    """The same of decoder layers, with the name of a system alone."""

    @property
    def start_layers(self) -> dict[str, list[int]]:
        """Chosen layers of the start, by the key of the model that is their number."""
        chosen = {"encoder_layers": self.start_encoder_layers, "decoder_layers": self.start_decoder_layers}
        return {key: layers for key, layers in chosen.items() if layers is not None}

    @property
    def validation_metrics(self) -> tuple[str, ...]:
        """Metrics of the decoded validation sentences."""
        return tuple(dict.fromkeys(("BLEU", "chrF", *(() if self.select_by == "loss" else (self.select_by,)))))

    @property
    def selection_sign(self) -> int:
        """1 where a higher value of ``select_by`` is better, else -1."""
        return 1 if self.select_by != "loss" and metric_named(self.select_by).higher_is_better else -1

    @model_validator(mode="after")
    def _fits(self) -> Training:
        if self.warmup >= self.max_updates:
            raise ValueError(f"warmup ({self.warmup}) must be below max_updates ({self.max_updates})")
        if self.start_layers and self.warm_start in ("none", "pretrained"):
            raise ValueError(f"start layers are chosen from a teacher or a system, and warm_start is {self.warm_start}")
        if self.start_decoder_layers and self.warm_start == "teacher_encoder":
            raise ValueError("start_decoder_layers: teacher_encoder copies no decoder; name a system in warm_start")
        for key, layers in self.start_layers.items():
            if layers != sorted(set(layers)):
                raise ValueError(f"start_{key} {layers} must be in ascending order, each layer once")
        if self.select_by != "loss" and self.decode_sentences == 0:
            raise ValueError(f"select_by {self.select_by} needs decode_sentences above 0")
        return self
