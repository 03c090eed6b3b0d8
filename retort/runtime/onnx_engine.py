"""Bundles of one or two graphs, run by ONNX Runtime; what needs no graph is numpy (``retort.runtime.search``)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime

from retort.data.upsampling import Upsampling
from retort.data.vocabulary import EOS, PAD, UNK
from retort.errors import RetortError
from retort.runtime.bundle import Bundle, allows_unknown, check_search
from retort.runtime.candidates import Candidates
from retort.runtime.names import CANDIDATES, LENGTHS, SHORTLIST, SOURCE
from retort.runtime.system import Decoded, Result, Scored, System, by_length, no_token_scores
from retort.search.ngram_scores import Scorer, scorer_of

WARNINGS = 3
"""Severity below which ONNX Runtime is silent: errors."""


class Graphs:
    """Loaded graphs and the facts that searches need beside them."""

    scorer: Scorer
    """Of a search that takes n-grams. It is kept here, so that the table may be moved when it has been read."""

    def __init__(self, directory: Path, facts: Mapping[str, Any]) -> None:
        """``facts`` is the section "model" of a bundle."""
        self.facts = facts
        self.max_length: int = facts["max_length"]
        options = onnxruntime.SessionOptions()
        # threads that share each product wait for each other longer than they compute, and lines have one each
        options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
        options.log_severity_level = WARNINGS
        self._sessions = {name: _session(directory / name, options) for name in facts["graphs"]}
        self._outputs = {name: [o.name for o in session.get_outputs()] for name, session in self._sessions.items()}
        self.tokens = np.delete(np.arange(facts["target_size"]), facts["forbidden"])
        """Id of each column of a graph's scores."""
        self._listed = [name for name, session in self._sessions.items() if CANDIDATES in _inputs(session)]
        self.has_shortlist = bool(self._listed)
        self._candidates = Candidates.read(directory / SHORTLIST) if self._listed else None
        self.allow_unknown = False
        """Whether outputs may hold unk."""
        self._more_inputs: dict[str, dict[str, np.ndarray]] = {name: {} for name in self._sessions}

    def slots(self, lengths: np.ndarray) -> np.ndarray:
        """Decoder slots [b] of sources with this many tokens [b], eos included."""
        return Upsampling.of_fact(self.facts["upsampling"]).slots(lengths)  # type: ignore[no-any-return]

    def for_sources(self, sources: Sequence[Sequence[int]]) -> Self:
        """The same graphs; with a shortlist, they score the candidates of these sources."""
        if self._candidates is None:
            return self
        other = copy.copy(self)
        other.tokens = self._candidates.of(sources)
        other._more_inputs = self._more_inputs | {name: {CANDIDATES: other.tokens} for name in self._listed}
        return other

    def run(self, name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a graph by name. Raises MemoryError, or RuntimeError for whatever else fails."""
        names = self._outputs[name]
        given = {**inputs, **self._more_inputs[name]}
        try:
            outputs = self._sessions[name].run(names, given)
        except Exception as error:  # each of its errors is a class of its own
            is_memory = isinstance(error, MemoryError) or "Failed to allocate" in str(error)
            raise (MemoryError if is_memory else RuntimeError)(f"{name}: ONNX Runtime: {error}") from error
        return dict(zip(names, outputs, strict=True))

    def forbid_unknown(self, scores: np.ndarray) -> None:
        """Make the scores [..., v] of unk impossible, in place, unless it is allowed."""
        if not self.allow_unknown:
            # the ids ascend, and every shortlist has unk
            scores[..., int(self.tokens.searchsorted(UNK))] = -np.inf

    def encoded(self, name: str, sources: Sequence[Sequence[int]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Outputs of the graph that takes the sources, eos appended, and their lengths [b] with it."""
        longest = max(map(len, sources))
        rows = [[*tokens, EOS, *[PAD] * (longest - len(tokens))] for tokens in sources]
        lengths = np.array([len(tokens) + 1 for tokens in sources], np.int32)
        return self.run(name, {SOURCE: np.array(rows, np.int64), LENGTHS: lengths}), lengths


class OnnxSystem(System):
    """A system of graphs. Lines are decoded one by one unless the caller says otherwise: in a batch an output would
    depend on the other lines in int8, where a whole input has one scale, and with a shortlist, where lines
    that are decoded together have the candidates of all."""

    engine = "onnx"
    batch_size = 1

    def __init__(self, bundle: Bundle, search: Mapping[str, Any], threads: int) -> None:
        facts = bundle.facts
        model = facts["model"]
        super().__init__(
            bundle.vocabulary,
            search,
            facts["searches"],
            facts["precision"],
            model["max_length"],
            model["truncate_sources"],
        )
        self._directory = bundle.directory
        self.lines_at_once = threads
        self._graphs = Graphs(bundle.directory, model)
        self.has_shortlist = self._graphs.has_shortlist
        self.choose(search)

    def choose(self, search: Mapping[str, Any]) -> None:
        check_search(search, self.kinds, self._directory)
        super().choose(search)
        # systems of one model with other searches share the graphs
        self._graphs = copy.copy(self._graphs)
        self._graphs.allow_unknown = allows_unknown(search)
        if "lm_weight" in search:
            self._graphs.scorer = scorer_of(search)
        module = import_module(f"retort.runtime.search.{search['kind']}")
        self._search: Callable[..., list[Decoded]] = module.search
        self._scored: Callable[..., list[list[Scored]]] | None = getattr(module, "scored", None)
        self._outputs_key: str | None = module.OUTPUTS_KEY

    def decode(self, sources: Sequence[Sequence[int]]) -> list[Decoded]:
        return self._each(self._search, sources)

    @property
    def outputs_key(self) -> str | None:
        return self._outputs_key

    def decode_scored(self, sources: Sequence[Sequence[int]], count: int) -> list[list[Scored]]:
        if self._scored is None:
            raise no_token_scores(self.search["kind"])
        return [best[:count] for best in self._each(self._scored, sources)]

    def _each(self, search: Callable[..., list[Result]], sources: Sequence[Sequence[int]]) -> list[Result]:
        """What a search finds for each source."""
        return by_length(
            sources, lambda group: search(self._graphs.for_sources(group), group, self.search), self.lines_at_once
        )


def open_bundle(bundle: Bundle, search: Mapping[str, Any], threads: int, at_once: int) -> OnnxSystem:
    """The system of a bundle; ``at_once`` is ignored, as it decodes any number of calls at the same time."""
    return OnnxSystem(bundle, search, threads)


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - each of its errors is a class of its own
        raise RetortError(f"{path}: ONNX Runtime cannot load it ({error}); export the system again") from None


def _inputs(session: onnxruntime.InferenceSession) -> list[str]:
    return [value.name for value in session.get_inputs()]
