"""Searches, and which objective's models each can decode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from retort.config.base import Section


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


Deduplication = Literal["none", "remove", "odd"]


class Argmax(Section):
    """One pass over the predicted length, best token at each position."""

    kind: Literal["argmax"]
    deduplicate: Deduplication = "none"
    """What happens to a token that equals the one before it. remove: it is deleted, and the output gets shorter.
    odd: optimal de-duplicated decoding (Sun and Yang 2020): the most probable output of this length without any."""
    repeat_penalty: float | None = Field(None, ge=0)
    """Nats that odd takes off for each repeat; null forbids them."""
    length_beam: int = Field(1, ge=1, le=32)
    """Lengths tried, the most probable ones; the best mean log-probability wins."""


class LengthParallel(Section):
    """One pass for each of several lengths around the predicted one; the teacher chooses (Sun and Yang 2020)."""

    kind: Literal["length_parallel"]
    candidates: int = Field(9, ge=1)
    """Lengths tried, half of them below the predicted one. With 1 there is nothing to choose, and no teacher runs."""
    deduplicate: Deduplication = "odd"
    """What happens to repeated tokens of a candidate, as for argmax."""
    repeat_penalty: float | None = Field(None, ge=0)
    """Nats that odd takes off for each repeat; null forbids them."""
    rescore: bool = True
    """The first teacher chooses, all candidates in one pass; false: the best mean log-probability of the model itself
    wins."""
    length_penalty: float = Field(1.0, ge=0)
    """alpha of ((5 + length) / 6) ** alpha, which divides the teacher's log-probability; the length counts eos."""

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher scores candidates: only where there is a choice."""
        return self.rescore and self.candidates > 1


class MaskPredict(Section):
    """Iterative refinement: the least sure tokens are masked and predicted again."""

    kind: Literal["mask_predict"]
    iterations: int = Field(4, ge=1)
    """Decoder passes."""
    length_beam: int = Field(3, ge=1, le=32)
    """Lengths tried, the most probable ones; the best mean log-probability wins."""


class Blocks(Section):
    """Blocks of slots from left to right, one pass each, best token in each slot, up to the first eos (BANG, Qi et al.
    2021)."""

    kind: Literal["blocks"]
    block: int | None = Field(None, ge=1)
    """Slots filled at once, given the tokens before them; null: all slots in one pass."""
    collapse: bool = True
    """Delete a token that equals the one before it."""
    max_ratio: float = Field(1.0, gt=0)
    """Longest output: this times the source length, plus 10 tokens."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest output where that is longer, for sources that are much longer than targets; null: no such limit."""


class CtcCollapse(Section):
    """One pass, best token in each slot, repeats merged, blanks removed."""

    kind: Literal["ctc_collapse"]


class DagPath(Section):
    """One pass, and the path through the graph that is best at each step (Huang et al. 2022)."""

    kind: Literal["dag_path"]
    method: Literal["greedy", "lookahead"] = "lookahead"
    """What the next vertex is chosen by. greedy: its transition. lookahead: its transition and its best token."""
    beta: float = Field(1.0, ge=0)
    """Weight of the log-probability of that token in lookahead."""


class JointViterbi(Section):
    """One pass, and the path and tokens of the graph that are best together (Shao et al. 2022)."""

    kind: Literal["joint_viterbi"]
    beta: float = Field(1.0, ge=0)
    """Exponent of the length in tokens, eos included, that divides the log-probability."""
    max_ratio: float = Field(2.0, gt=0)
    """Longest output: this times the source length, plus 10 tokens."""


Search = Annotated[
    Greedy | Beam | Argmax | LengthParallel | MaskPredict | Blocks | CtcCollapse | DagPath | JointViterbi,
    Field(discriminator="kind"),
]

SEARCHES_OF_OBJECTIVE = {
    "autoregressive": ("greedy", "beam"),
    "imitation": ("greedy", "beam"),
    "vanilla": ("argmax", "length_parallel"),
    "cmlm": ("mask_predict", "argmax", "length_parallel"),
    "janus": ("greedy", "beam", "mask_predict", "argmax", "length_parallel"),
    "bart_janus": ("greedy", "beam"),
    "bang": ("blocks", "greedy", "beam"),
    "bang_pretraining": ("greedy", "beam", "blocks"),
    "axe": ("argmax", "length_parallel"),
    "oaxe": ("argmax", "length_parallel"),
    "glat": ("argmax", "length_parallel"),
    "ctc": ("ctc_collapse",),
    "glat_ctc": ("ctc_collapse",),
    "dag": ("dag_path", "joint_viterbi"),
}

DEFAULT_SEARCHES: dict[str, dict[str, Search]] = {
    "autoregressive": {"beam5": Beam(kind="beam"), "greedy": Greedy(kind="greedy")},
    "imitation": {"beam5": Beam(kind="beam"), "greedy": Greedy(kind="greedy")},
    "vanilla": {"argmax": Argmax(kind="argmax")},
    "cmlm": {
        "passes4": MaskPredict(kind="mask_predict"),
        "passes1": MaskPredict(kind="mask_predict", iterations=1),
        "passes10": MaskPredict(kind="mask_predict", iterations=10),
    },
    "janus": {
        "beam5": Beam(kind="beam"),
        "greedy": Greedy(kind="greedy"),
        "passes4": MaskPredict(kind="mask_predict"),
        "passes1": MaskPredict(kind="mask_predict", iterations=1),
        "passes10": MaskPredict(kind="mask_predict", iterations=10),
    },
    "bart_janus": {"greedy": Greedy(kind="greedy")},
    "bang": {"parallel": Blocks(kind="blocks"), "beam5": Beam(kind="beam"), "greedy": Greedy(kind="greedy")},
    "bang_pretraining": {"greedy": Greedy(kind="greedy")},
    "axe": {
        "argmax": Argmax(kind="argmax"),
        "lengths5": Argmax(kind="argmax", length_beam=5),
    },
    "oaxe": {
        "argmax": Argmax(kind="argmax"),
        "lengths5": Argmax(kind="argmax", length_beam=5),
    },
    "glat": {"argmax": Argmax(kind="argmax")},
    "ctc": {"collapse": CtcCollapse(kind="ctc_collapse")},
    "glat_ctc": {"collapse": CtcCollapse(kind="ctc_collapse")},
    "dag": {
        "lookahead": DagPath(kind="dag_path"),
        "greedy": DagPath(kind="dag_path", method="greedy"),
        "viterbi": JointViterbi(kind="joint_viterbi"),
    },
}


def default_searches(objective: Mapping[str, Any]) -> dict[str, Any]:
    """The usual searches of an objective's section, which may be invalid; of bang, those of the modes it trains."""
    searches: dict[str, Any] = dict(DEFAULT_SEARCHES.get(str(objective.get("name", "")), {}))
    if objective.get("name") == "bang":
        ratio, block = objective.get("nar_ratio", 1), objective.get("block")
        parallel = Blocks(kind="blocks", block=block if isinstance(block, int) and block > 0 else None)
        modes = {"blocks": ratio != 0, "beam": ratio != 1, "greedy": ratio != 1}
        searches = {name: search for name, search in (searches | {"parallel": parallel}).items() if modes[search.kind]}
    return searches


EM_SEARCHES: dict[str, Search] = {
    "argmax": Argmax(kind="argmax"),
    "remove": Argmax(kind="argmax", deduplicate="remove"),
    "odd": Argmax(kind="argmax", deduplicate="odd"),
    "parallel9": LengthParallel(kind="length_parallel"),
}
"""Searches of the EM loop's students whose objective can be decoded by all of them."""
