"""A system: what is trained on what, and how it is decoded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from retort.config.base import ChangesNoWeight, FilePath, Name, Section, Seeds
from retort.config.corpus import Texts
from retort.config.mixing import DataMixture, SelfPaced
from retort.config.model import Model
from retort.config.objectives import OBJECTIVES, Objective, names_where
from retort.config.objectives_of_two_modes import BartJanus
from retort.config.search import Ngrams, Search, SearchSection
from retort.config.training import Training
from retort.config.tuning import Grid, Values, wrong, wrong_values

Data = Literal["raw", "distilled", "mixed", "interpolated", "references", "em", "selected", "monolingual"]

PRETRAINED = "pretrained"
"""Name of the pre-trained system."""

STARTS = ("none", "teacher_encoder", PRETRAINED, "previous")
"""Values of training.warm_start besides the names of systems."""


class System(Section):
    """A model family x a training objective x a data recipe x its searches."""

    objective: Objective
    """Training objective; it decides the model family."""
    data: Data = "raw"
    """Training targets: the references (raw); the teacher's translations (distilled); both (mixed); or, of the
    hypotheses in the teacher's beam, the one with the best sentence BLEU against the reference (interpolated); the
    references without em.held_out of them, so that their multi-modality is measured on the loop's sources (references).
    Systems of the EM loop have its texts: the translations of an iteration's autoregressive model (em), or the
    candidates chosen for it (selected); that of pretraining, its text (monolingual)."""
    mixture: DataMixture | None = None
    """How mixed data are used; null: union."""
    self_paced: SelfPaced | None = None
    """Samples that wait until the model is ready for them; null: none."""
    checkpoint: FilePath | None = None
    """Directory of a trained checkpoint to use instead of training."""
    seeds: Seeds | None = Field(None, min_length=1)
    """Seeds of this system; null: the top-level seeds."""
    model: Model = Model()
    """Shape; keys left out come from the top-level model section."""
    training: Training = Training()
    """Training; keys left out come from the top-level training section."""
    searches: dict[Name, Search] = {}
    """How it is decoded, by name; the first one also validates. Empty: its objective's usual ones."""
    tune: dict[Name, dict[str, Values]] = {}
    """Values to try on the validation set after training, by search and option, such as {collapse: {blank_penalty:
    [0.5, 1, 2]}}; all combinations, and the search as it is written. Tests are decoded, and systems timed, with the
    best one in the first of evaluation.metrics. Training has the search as it is written."""

    @model_validator(mode="after")
    def _searches_fit(self) -> System:
        allowed = self.objective.searches()
        for name, search in self.searches.items():
            if search.kind not in allowed:
                raise ValueError(
                    f"search {name!r} is {search.kind}, which objective {self.objective.name} cannot use; "
                    f"it can use {' or '.join(allowed)}"
                )
        if self.model.family == "gru" and self.objective.family != "autoregressive":
            able = " or ".join(o.only_value("name") for o in OBJECTIVES if o.family == "autoregressive")
            raise ValueError(f"a recurrent model cannot be trained as {self.objective.name}; use {able}")
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> System:
        name, mixture, paced = self.objective.name, self.mixture, self.self_paced
        if mixture and self.data != "mixed":
            raise ValueError(f"mixture is of data: mixed, found data: {self.data}")
        if not self.objective.weighs_samples and (paced or (mixture and mixture.kind != "union")):
            what = "self_paced" if paced else f"a {mixture.kind if mixture else ''} mixture"
            able = names_where(lambda o: o.weighs_samples)
            raise ValueError(f"objective {name} gives samples no weights, as {what} needs; use {able}")
        if paced and paced.criterion == "agreement" and not self.objective.measures_agreement:
            able = names_where(lambda o: o.measures_agreement)
            raise ValueError(f"objective {name} has no slots that agree with a target; use {able}")
        if paced and paced.criterion == "similarity" and self.data != "mixed":
            raise ValueError(f"similarity is that of the two targets of data: mixed, found data: {self.data}")
        return self

    @model_validator(mode="after")
    def _tuning_fits(self) -> System:
        problems: list[InitErrorDetails] = []
        for name, values in self.tune.items():
            if name in self.searches:
                problems += wrong_values(self.searches[name], values, ("tune", name))
            else:
                able = " or ".join(self.searches) or "none"
                problems.append(wrong(("tune", name), values, f"names no search of the system; it can be {able}"))
        if problems:
            raise ValidationError.from_exception_data("tune", problems)
        return self

    def tried_searches(self, name: str) -> list[SearchSection]:
        """A search as it is written, and then with each combination of the values of ``tune``; each once."""
        return self.grid(name).forms()

    def counted_by(self, name: str) -> Ngrams | None:
        """What a search counts n-grams of, in any of the forms that are tried; None: nothing."""
        return next((counted for form in self.tried_searches(name) if (counted := form.counted)), None)

    def asks_teacher(self, name: str) -> bool:
        """Whether a search has a teacher score its candidates, in any of the forms that are tried."""
        return any(form.needs_teacher for form in self.tried_searches(name))

    def grid(self, name: str) -> Grid:
        """A search as it is written, and the values of ``tune``."""
        return Grid(search=self.searches[name], values=self.tune.get(name, {}))

    @property
    def idle(self) -> dict[str, str]:
        """Keys of its searches that are set and that none of the forms that are tried uses, with the reason."""
        return {
            f"searches.{name}.{key}": reason
            for name, search in self.searches.items()
            for key, reason in search.idle.items()
            if all(key in form.without_effect for form in self.tried_searches(name))
        }

    @property
    def changes_no_weight(self) -> dict[str, set[str]]:
        """Keys on which no weight of a training that ends well depends, by section."""
        sections = {name: section for name, section in self if isinstance(section, Section)}
        return {name: set(section.marked(ChangesNoWeight)) for name, section in sections.items()}

    def unshareable(self, processes: int) -> str:
        """Why so many processes cannot train it together; empty if they can."""
        accumulate = self.training.accumulate
        if accumulate % processes:
            return (
                f"{processes} GPUs cannot share the {accumulate} batches of an update evenly; set training.accumulate "
                f"to a multiple of {processes} (and batch_tokens to suit), or give the training another number of GPUs"
            )
        if processes > 1 and self.self_paced:
            return "self_paced compares each batch with those before it, which one process must see; give it one GPU"
        return ""


class Pretraining(Section):
    """Pre-training on monolingual text (BART-JANUS: Liang et al. 2022; BANG: Qi et al. 2021). Systems whose
    training.warm_start is pretrained start from it, of whatever family."""

    texts: Texts = []
    """Text of any of the two languages, one sentence per line, in the order of the documents. It is cleaned by the
    rules of cleaning. None: the sources of the training corpus, and then its targets."""
    block_tokens: int = Field(128, ge=4, le=100_000)
    """Consecutive lines are joined to blocks of at most this many tokens; a longer line is cut into such blocks."""
    valid_blocks: int = Field(200, ge=1, le=1_000_000_000)
    """Blocks that validate, spread over the text."""
    system: System = System(objective=BartJanus(name="bart_janus"))
    """Objective, shape and training, once, with its first seed. Checkpoints are chosen by the loss."""
