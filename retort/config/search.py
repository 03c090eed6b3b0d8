"""Searches, and what each declares about itself.

A new search is a class here, its place in ``Search``, and the module ``retort/search/<kind>.py``; see
docs/extending.md.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from retort.config.base import Section, ShortForm
from retort.config.corpus import Texts

Predictions = Literal["next_token", "slots", "masked_slots", "blocks", "alignment", "graph"]
"""What a model can predict. next_token: the next token of a prefix. slots: a length, and a token in each slot.
masked_slots: the same, given some of the tokens. blocks: blocks of slots from left to right. alignment: a token or a
blank in each upsampled slot. graph: a directed acyclic graph of vertices with tokens."""


class SearchSection(Section):
    """What every search declares. Class variables are no keys of the configuration."""

    kind: str
    """Name of the search, and of its module below retort/search."""
    decodes: ClassVar[Predictions]
    """What it decodes."""
    outputs_key: ClassVar[str | None] = None
    """The key that says how many outputs of a source it ranks; None: it has one."""
    without_teacher: ClassVar[str] = ""
    """Of a search that ``needs_teacher`` can be true of: what to change to do without one."""
    scores_tokens: ClassVar[bool] = True
    """Whether tokens of its outputs have probabilities of their own."""
    allow_unknown: bool = False
    """Let outputs hold the unknown piece, written as U+2047, for a later step that replaces it."""

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher scores candidates."""
        return False

    @property
    def can_validate(self) -> bool:
        """Whether it can validate a training, where neither a teacher nor a table of n-grams is at hand."""
        return True

    @property
    def counted(self) -> Ngrams | None:
        """The n-grams that the workflow counts for it, if it needs such a table and names none."""
        return None


class Greedy(SearchSection):
    """Left-to-right, best token each step."""

    kind: Literal["greedy"]
    decodes = "next_token"
    max_ratio: float = Field(2.0, gt=0, le=10_000)
    """Longest output: this times the source length, plus 10 tokens."""


class Beam(SearchSection):
    """Left-to-right beam search."""

    kind: Literal["beam"]
    decodes = "next_token"
    outputs_key = "beam_size"
    beam_size: int = Field(5, ge=1, le=10_000)
    """Hypotheses kept each step."""
    length_penalty: float = Field(1.0, ge=0, le=100)
    """alpha of ((5 + length) / 6) ** alpha, which divides the log-probability (Wu et al. 2016)."""
    max_ratio: float = Field(2.0, gt=0, le=10_000)
    """Longest output: this times the source length, plus 10 tokens."""


Deduplication = Literal["none", "remove", "odd"]


def _of_odd(deduplicate: Deduplication) -> dict[str, str]:
    """The key without effect where repeats are not decoded by odd."""
    reason = f"it is of deduplicate: odd, found deduplicate: {deduplicate}"
    return {} if deduplicate == "odd" else {"repeat_penalty": reason}


def _of_lengths(length_beam: int) -> dict[str, str]:
    """The key without effect where one length is tried."""
    return {} if length_beam > 1 else {"length_weight": "lengths compete where length_beam is above 1, and it is 1"}


class Argmax(SearchSection):
    """One pass over the predicted length, best token at each position."""

    kind: Literal["argmax"]
    decodes = "slots"
    outputs_key = "length_beam"
    deduplicate: Deduplication = "none"
    """What happens to a token that equals the one before it. remove: it is deleted, and the output gets shorter.
    odd: optimal de-duplicated decoding (Sun and Yang 2020): the most probable output of this length without any."""
    repeat_penalty: float | None = Field(None, ge=0, le=1_000_000)
    """Nats that odd takes off for each repeat; null forbids them."""
    length_beam: int = Field(1, ge=1, le=32)
    """Lengths tried, the most probable ones; the best mean log-probability wins."""
    length_weight: float = Field(0.0, ge=0, le=1000)
    """Weight of log p(length), added to the mean log-probability where lengths compete."""

    @property
    def without_effect(self) -> dict[str, str]:
        return _of_odd(self.deduplicate) | _of_lengths(self.length_beam)


class LengthParallel(SearchSection):
    """One pass for each of several lengths around the predicted one; the teacher chooses (Sun and Yang 2020)."""

    kind: Literal["length_parallel"]
    decodes = "slots"
    outputs_key = "candidates"
    without_teacher = "set rescore to false or candidates to 1"
    candidates: int = Field(9, ge=1, le=10_000)
    """Lengths tried, half of them below the predicted one. With 1 there is nothing to choose, and no teacher runs."""
    deduplicate: Deduplication = "odd"
    """What happens to repeated tokens of a candidate, as for argmax."""
    repeat_penalty: float | None = Field(None, ge=0, le=1_000_000)
    """Nats that odd takes off for each repeat; null forbids them."""
    rescore: bool = True
    """The first teacher chooses, all candidates in one pass; false: the best mean log-probability of the model itself
    wins."""
    length_penalty: float = Field(1.0, ge=0, le=100)
    """alpha of ((5 + length) / 6) ** alpha, which divides the teacher's log-probability; the length counts eos."""
    length_weight: float = Field(0.0, ge=0, le=1000)
    """Weight of log p(length), added to the model's own mean log-probability where lengths compete."""

    @property
    def without_effect(self) -> dict[str, str]:
        key, chooses = ("length_weight", "the teacher") if self.rescore else ("length_penalty", "the model itself")
        return _of_odd(self.deduplicate) | {key: f"{chooses} chooses, as rescore is {str(self.rescore).lower()}"}

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher scores candidates: only where there is a choice."""
        return self.rescore and self.candidates > 1

    @property
    def can_validate(self) -> bool:
        return not self.rescore


class MaskPredict(SearchSection):
    """Iterative refinement: the least sure tokens are masked and predicted again."""

    kind: Literal["mask_predict"]
    decodes = "masked_slots"
    outputs_key = "length_beam"
    iterations: int = Field(4, ge=1, le=10_000)
    """Decoder passes, at most."""
    confidence: float | None = Field(None, ge=0, le=1)
    """Tokens at least this probable are not masked again, and a source without masks needs no further pass; null: all
    passes are made."""
    length_beam: int = Field(3, ge=1, le=32)
    """Lengths tried, the most probable ones; the best mean log-probability wins."""
    length_weight: float = Field(0.0, ge=0, le=1000)
    """Weight of log p(length), added to the mean log-probability where lengths compete."""

    @property
    def without_effect(self) -> dict[str, str]:
        return _of_lengths(self.length_beam)


class Blocks(SearchSection):
    """Blocks of slots from left to right, one pass each, best token in each slot, up to the first eos (BANG, Qi et al.
    2021)."""

    kind: Literal["blocks"]
    decodes = "blocks"
    block: int | None = Field(None, ge=1, le=100_000)
    """Slots filled at once, given the tokens before them; null: all slots in one pass."""
    collapse: bool = True
    """Delete a token that equals the one before it."""
    max_ratio: float = Field(1.0, gt=0, le=10_000)
    """Longest output: this times the source length, plus 10 tokens."""
    max_tokens: int | None = Field(None, ge=1, le=100_000)
    """Longest output where that is longer, for sources that are much longer than targets; null: no such limit."""
    token_bonus: float = Field(0.0, ge=-1000, le=1000)
    """Nats that every token of text is preferred to eos by; outputs get longer."""


class CtcCollapse(SearchSection):
    """One pass, best token in each slot, repeats merged, blanks removed."""

    kind: Literal["ctc_collapse"]
    decodes = "alignment"
    blank_penalty: float = Field(0.0, ge=-1000, le=1000)
    """Nats off the log-probability of a blank in each slot; outputs get longer."""


class DagPath(SearchSection):
    """One pass, and the path through the graph that is best at each step (Huang et al. 2022)."""

    kind: Literal["dag_path"]
    decodes = "graph"
    method: Literal["greedy", "lookahead"] = "lookahead"
    """What the next vertex is chosen by. greedy: its transition. lookahead: its transition and its best token."""
    beta: float = Field(1.0, ge=0, le=100)
    """Weight of the log-probability of that token in lookahead."""

    @property
    def without_effect(self) -> dict[str, str]:
        return {} if self.method == "lookahead" else {"beta": f"it is of method: lookahead, found {self.method}"}


class JointViterbi(SearchSection):
    """One pass, and the path and tokens of the graph that are best together (Shao et al. 2022)."""

    kind: Literal["joint_viterbi"]
    decodes = "graph"
    beta: float = Field(1.0, ge=0, le=10)
    """Exponent of the length in tokens, eos included, that divides the log-probability."""
    max_ratio: float = Field(2.0, gt=0, le=10_000)
    """Longest output: this times the source length, plus 10 tokens."""


MAX_NGRAM_VOCABULARY = 65_534
"""Different tokens in a table of n-grams: ids plus 1 are kept in 16 bits (retort/data/ngrams.py), and one value is left
over."""


class Ngrams(Section):
    """A table of n-grams of target tokens."""

    data: Literal["raw", "distilled", "interpolated"] | None = None
    """Training targets that are counted; null: those that the system is trained on, or raw where these are of no such
    kind."""
    texts: Texts = []
    """Texts of the target language, one sentence per line, that are counted instead. Lines that are a side of valid or
    test are left out, unless cleaning.drop_leaks is off."""
    order: int = Field(4, ge=1, le=4)
    """Tokens of the longest n-grams."""
    most: int = Field(20_000_000, ge=1000, le=2_000_000_000)
    """Most n-grams in memory; the rarest of the longest are dropped above that. One takes 16 bytes in the table."""

    @model_validator(mode="after")
    def _counts_one_text(self) -> Ngrams:
        if self.data and self.texts:
            raise ValueError(f"texts are counted instead of data, which is {self.data}; give one of the two")
        return self


class NgramSearch(SearchSection):
    """What beams with an n-gram model of the targets share. The score of a text is its log-probability under the
    model, summed over the beam's alignments or paths, plus lm_weight times that under the n-grams, eos included, plus
    token_bonus for each token."""

    scores_tokens = False
    beam_size: int = Field(10, ge=1, le=1000)
    """Hypotheses kept at each step."""
    candidates: int = Field(5, ge=1, le=1000)
    """Tokens tried in each slot or vertex, the most probable ones."""
    lm_weight: float = Field(0.3, ge=0, le=1000)
    """Weight of the n-grams' log-probability; 0 does without a table."""
    token_bonus: float = Field(0.0, ge=-1000, le=1000)
    """Nats for each token, as n-grams prefer short texts."""
    ngrams: Ngrams = Ngrams()
    """What is counted."""
    table: str | None = Field(None, min_length=1)
    """A table that has been counted before, with the same vocabulary; null: the workflow counts one."""

    @property
    def can_validate(self) -> bool:
        return self.counted is None

    @property
    def counted(self) -> Ngrams | None:
        return self.ngrams if self.lm_weight > 0 and self.table is None else None


class CtcBeam(NgramSearch):
    """One pass, and prefix beam search over its slots with an n-gram model of the targets."""

    kind: Literal["ctc_beam"]
    decodes = "alignment"
    min_share: float = Field(0.01, ge=0, le=1)
    """Share of a slot's most probable symbol below which candidates are not tried; 0 tries all."""
    beam_threshold: float | None = Field(5.0, ge=0, le=1000)
    """Nats below the best hypothesis of a slot from which on the others are dropped; null keeps all beam_size."""


class DagBeam(NgramSearch):
    """One pass, and beam search over the graph's paths with an n-gram model of the targets (Huang et al. 2022)."""

    kind: Literal["dag_beam"]
    decodes = "graph"
    min_share: float = Field(0.003, ge=0, le=1)
    """Share of a vertex's most probable continuation below which candidates are not tried; 0 tries all."""
    beam_threshold: float | None = Field(6.0, ge=0, le=1000)
    """Nats below the best hypothesis of a length from which on the others are dropped; null keeps all beam_size."""
    max_ratio: float = Field(2.0, gt=0, le=10_000)
    """Longest output: this times the source length, plus 10 tokens."""


Search = Annotated[
    Greedy
    | Beam
    | Argmax
    | LengthParallel
    | MaskPredict
    | Blocks
    | CtcCollapse
    | CtcBeam
    | DagPath
    | DagBeam
    | JointViterbi,
    Field(discriminator="kind"),
    ShortForm("kind"),
]

SEARCHES: tuple[type[SearchSection], ...] = get_args(get_args(Search)[0])
"""Every search, in the order of the union."""
