"""Trainings that go wrong without an error: pairs that train nothing, and a metric that does not rise."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from retort.config import ObjectiveSection, Training
from retort.config.objective_base import Untrained
from retort.config.training import WARNED
from retort.data.batches import ROOM_FOR_PAIRS, EncodedCorpus
from retort.errors import RetortError

LONG = Untrained("", "pairs longer than the model", ROOM_FOR_PAIRS)
EARLY = 5
"""Validations after which a metric that has not risen is warned about for the first time."""

State = dict[str, Any]
Rows = Sequence[Sequence[Any]]

logger = logging.getLogger(__name__)


class Health:
    """Checks of a training. Its state is a dictionary that is saved with the training: empty at first, and updated."""

    def __init__(self, objective: ObjectiveSection, settings: Training) -> None:
        self.objective, self.settings = objective, settings

    @staticmethod
    def warnings(state: State) -> list[str]:
        """What the user should know about the training."""
        return list(state.get("warnings", []))

    def check_lengths(self, state: State, corpus: EncodedCorpus) -> None:
        """Warn if many pairs are longer than the model; raises RetortError if most are."""
        self._check_share(state, corpus.dropped / max(1, corpus.dropped + len(corpus)), LONG)

    def count(self, state: State, metrics: dict[str, float]) -> None:
        """Add what the objective leaves out of a batch, until it is checked. ``metrics``: parts of the loss, and the
        numbers of ``tokens`` and ``sentences``."""
        for declared in self.objective.untrained:
            if declared.part in metrics and declared.part not in state.get("checked", []):
                sums = state.setdefault("untrained", {})
                left_out, count = sums.get(declared.part, (0.0, 0.0))
                size = metrics[declared.of]
                sums[declared.part] = [left_out + metrics[declared.part] * size, count + size]

    def check_validation(self, state: State, rows: Rows) -> None:
        """Warn, once for each part of the loss, if the objective has left out much of the text, and if the metric has
        not risen early on, or is that of a part of the validation set. Raises RetortError if most of the text is left
        out. ``rows``: the training log."""
        for declared in self.objective.untrained:
            if declared.part in state.get("untrained", {}):
                left_out, count = state["untrained"].pop(declared.part)
                state.setdefault("checked", []).append(declared.part)
                self._check_share(state, left_out / max(1, count), declared)
                self._warn(state, self._unvalidated(rows, declared))
        if len(self._values(rows)) == EARLY and (flat := self._flat(rows)):
            logger.warning("%s", flat)

    def check_rise(self, state: State, rows: Rows) -> None:
        """Warn at the end of a training if no validation was better than the first."""
        self._warn(state, self._flat(rows))

    def _check_share(self, state: State, share: float, declared: Untrained) -> None:
        allowed = max(self.settings.max_untrained, declared.on_purpose)
        found = f"{100 * share:.1f} % are {declared.what}: they train nothing"
        if share > allowed:
            raise RetortError(
                f"{found}. At most {100 * allowed:g} % are allowed by training.max_untrained; {declared.remedy}"
            )
        self._warn(state, f"{found}; {declared.remedy}" if share > max(WARNED, declared.on_purpose) else None)

    @staticmethod
    def _unvalidated(rows: Rows, declared: Untrained) -> str | None:
        """The share of the validation set that its loss is not of, if it is large."""
        shares = [value for _, split, name, value, _ in rows if (split, name) == ("valid", declared.part)]
        if declared.of != "sentences" or not shares or shares[-1] <= WARNED:
            return None
        return f"{100 * shares[-1]:.1f} % of the validation set are {declared.what}: its loss is that of the others"

    def _values(self, rows: Rows) -> list[float]:
        """The metric that chooses checkpoints, at each validation so far; higher is better."""
        name, sign = self.settings.select_by, self.settings.selection_sign
        return [sign * value for _, split, metric, value, _ in rows if (split, metric) == ("valid", name)]

    def _flat(self, rows: Rows) -> str | None:
        values, name = self._values(rows), self.settings.select_by
        if len(values) < 2 or max(values) > values[0]:
            return None
        found = "is never better than at the first of" if any(values) else "is 0 at all"
        return (
            f"{name}, which chooses checkpoints, {found} {len(values)} validations: they are chosen by chance. See "
            f"evaluation.tokenizer, training.learning_rate, training.max_updates and training.select_by"
        )

    @staticmethod
    def _warn(state: State, warning: str | None) -> None:
        """Log a warning once, and keep it for the description of the checkpoint."""
        if warning and warning not in state.get("warnings", []):
            state.setdefault("warnings", []).append(warning)
            logger.warning("%s", warning)
