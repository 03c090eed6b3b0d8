"""What can be wanted of a run: presets, and the students that they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Student:
    """A student that a preset can have."""

    name: str
    why: str
    objective: str
    searches: Mapping[str, Any] = field(default_factory=dict)
    """The plain one, which chooses checkpoints, and ``ngrams``. Empty: the usual ones."""
    fewest_slots: float | None = None
    """Decoder slots per source token that it has at least; None: it has none."""
    deep_shallow: bool = False
    """Twice the encoder layers of the others, and one decoder layer."""

    def layers(self, model: Mapping[str, Any]) -> dict[str, int]:
        """Its depths with this model."""
        if self.deep_shallow:
            return {"encoder_layers": 2 * model["encoder_layers"], "decoder_layers": 1}
        return {side: model[side] for side in ("encoder_layers", "decoder_layers")}

    def slots(self, needed: float) -> float:
        """Its positions per token where targets need this many."""
        return 1 if self.fewest_slots is None else max(needed, self.fewest_slots)

    def section(self, model: Mapping[str, Any], slots: float, ngrams: bool) -> dict[str, Any]:
        """Its part of a configuration with this model, whose targets need this many slots per source token, with a
        search by n-grams or without."""
        searches = {"searches": dict(self.searches), "tune": {"ngrams": TUNED}}
        return {
            "objective": self.objective
            if self.fewest_slots is None
            else {"name": self.objective, "upsampling": self.slots(slots)},
            **({"model": self.layers(model)} if self.deep_shallow else {}),
            "data": "distilled",
            "training": {"warm_start": "teacher_encoder"},
            **(searches if ngrams and self.searches else {}),
        }


TUNED = {"lm_weight": [0.2, 0.4], "token_bonus": [0.5, 1, 2, 3]}
"""Values of a search by n-grams that are tried on the validation set."""
SLOT_SEARCHES = {"collapse": {"kind": "ctc_collapse"}, "ngrams": {"kind": "ctc_beam"}}
GRAPH_SEARCHES = {"lookahead": {"kind": "dag_path"}, "ngrams": {"kind": "dag_beam"}}
CTC = Student("ctc", "One pass, aligned by CTC: the fastest.", "ctc", SLOT_SEARCHES, fewest_slots=1.25)
GLAT_CTC = Student(
    "glat-ctc", "The same, shown part of the target in training.", "glat_ctc", SLOT_SEARCHES, fewest_slots=1.25
)
DAG = Student("dag", "One pass over a graph of words: closer to the teacher.", "dag", GRAPH_SEARCHES, fewest_slots=4)
DEEP_SHALLOW = Student(
    "deep-shallow", "The autoregressive rival: a deep encoder, one decoder layer.", "autoregressive", deep_shallow=True
)


@dataclass(frozen=True)
class Preset:
    """What is wanted of a run."""

    name: str
    epochs: int
    least_updates: int
    """Of a small text, whose epochs are short: 4,000 captions gain 4 BLEU by 2,000 updates instead of 1,000."""
    students: tuple[Student, ...]
    larger: int = 0
    """Steps to a larger model."""
    batch_tokens: int = 2048
    ngrams: bool = True
    """Whether one-pass students search by n-grams of the training targets, too."""


PRESETS = (
    Preset("usual", epochs=15, least_updates=1500, students=(CTC, DEEP_SHALLOW)),
    Preset("quick", epochs=6, least_updates=300, students=(CTC,), ngrams=False),
    Preset("quality", epochs=40, least_updates=4000, students=(CTC, GLAT_CTC, DAG, DEEP_SHALLOW)),
    Preset("gpu", epochs=40, least_updates=4000, students=(CTC, DAG, DEEP_SHALLOW), larger=1, batch_tokens=16384),
)


def preset_named(name: str) -> Preset:
    """The preset of this name."""
    return next(preset for preset in PRESETS if preset.name == name)
