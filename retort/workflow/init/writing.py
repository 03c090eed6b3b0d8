"""The commented configuration of a run, and its name."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retort.config.base import LONGEST_NAME, Name
from retort.config.load import load_config
from retort.data.files import write_bytes
from retort.errors import RetortError
from retort.workflow.init.decisions import USUAL_COMPONENT, Decisions
from retort.workflow.init.statistics import Statistics


def run_name(file: Path) -> str:
    """The name of a run that is made from a file, as near to its own as the rules for names allow."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", file.name.split(".")[0]).strip("._-")
    return stem[:LONGEST_NAME] or "run"


def check_name(name: str) -> None:
    """Raises RetortError for what cannot name a run."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise RetortError(
            f"--name {name[:LONGEST_NAME]!r}: cannot name a run; use letters, digits, '.', '_' and '-', the first a "
            f"letter or a digit, {LONGEST_NAME} at most"
        ) from None


def configuration(name: str, train: dict[str, Any], statistics: Statistics, decisions: Decisions, preset: str) -> str:
    """The commented YAML of a run. It loads."""
    tied = "" if decisions.joint else ", tied: output"
    model = ", ".join(f"{key}: {json.dumps(value)}" for key, value in decisions.model.items())
    shared, largest = [], ""
    if decisions.largest_component > USUAL_COMPONENT:
        shared = ["  # Pairs that share a side are held out together; smaller groups of them are too few here."]
        largest = f", largest_component: {decisions.largest_component}"
    cleaning = []
    if decisions.cleaning:
        cleaning = [
            "# Of the usual limits on lengths those are off that much of this text is beyond.",
            f"cleaning: {json.dumps(decisions.cleaning)}",
        ]
    text = [
        f"# Made by retort init ({preset}). Every key is described in docs/configuration.md.",
        *(f"# {line}" for line in [*statistics.lines(), *decisions.notes]),
        f"name: {json.dumps(name)}",
        "corpus:",
        f"  train: {json.dumps(train, ensure_ascii=False)}",
        "  # The text has no split: 2 % each, 50 to 2,500 different pairs, if there are so many.",
        "  # Train has no side of them.",
        *shared,
        f"  carve: {{valid_pairs: {decisions.held_out}, test_pairs: {decisions.held_out}{largest}}}",
        *cleaning,
        "# Grows with the square root of the text; one vocabulary where both sides have the same letters.",
        f"vocabulary: {{size: {decisions.vocabulary}, joint: {str(decisions.joint).lower()}}}",
        f"# Suits {statistics.different:,} different pairs; more data carry a larger model.",
        f"model: {{{model}{tied}}}",
        "training:",
        "  # So many updates of so many tokens go through the text some times.",
        f"  max_updates: {decisions.updates}",
        f"  batch_tokens: {decisions.batch_tokens}",
        f"  learning_rate: {decisions.learning_rate}",
        "  warmup: 10%",
        "  schedule: cosine",
        "  validate_every: 20%",
        f"  decode_sentences: {min(200, decisions.held_out)}",
        "  # Validations this far apart are too different to be averaged.",
        "  average_best: 1",
        "teacher: {objective: autoregressive}",
    ]
    if decisions.ngrams:
        text += [
            "# A search by n-grams of the training targets, tuned on the validation set, takes a fraction of a",
            "# millisecond more than the plain one and comes nearer to the teacher.",
        ]
    text += [
        "# upsampling: at least as many decoder slots per source token as the targets of most pairs need.",
        "students:",
    ]
    for student in decisions.students:
        section = student.section(decisions.model, decisions.slots, decisions.ngrams)
        text += [f"  # {student.why}", f"  {student.name}:"]
        text += [f"    {key}: {_flow(value)}" for key, value in section.items()]
    text.append("latency: {sentences: 50, cold_starts: 1}")
    return "\n".join(text) + "\n"


def _flow(value: Any) -> str:
    """A mapping as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def write_configuration(path: Path, text: str) -> None:
    """Write a configuration that loads, where no file is. Raises RetortError, and leaves none that does not load."""
    if os.path.lexists(path):
        raise RetortError(f"{path}: is there already, and is never overwritten; name another by --output")
    write_bytes(path, text.encode())
    try:
        load_config(path, texts=True)
    except RetortError:
        path.unlink()
        raise
