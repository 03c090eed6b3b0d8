"""The card of a bundle: what it is, how to run it, what is known about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from retort.export.base import exporter_of


def card(facts: Mapping[str, Any], name: str) -> str:
    """The text of a bundle's README.md."""
    model, checkpoint = facts["model"], facts["checkpoint"]
    objective = facts["objective"]["name"]
    cut = "as in training" if model["truncate_sources"] else "and the output counts as truncated"
    return f"""# {name}

A sequence generator exported by Retort {facts["versions"]["retort"]} for {exporter_of(facts["engine"]).TITLE}.

| | |
|---|---|
| objective | {objective} (family {facts["family"]}) |
| parameters | {checkpoint["parameters"]:,} |
| precision | {facts["precision"]} |
| search | `{json.dumps(facts["search"])}` |
| longest sequence | {model["max_length"]} tokens, eos included; longer sources are cut, {cut} |
| training data | {checkpoint["data"] or "unknown"}, {checkpoint["updates"] or "an unknown number of"} updates |

## Use

    echo "..." | retort translate --model {name}

    import retort
    retort.load("{name}").translate("...").text

## What the export changed

{parity_sentence(facts)}
{shortlist_sentence(facts)}
`bundle.json` has the rest: where the weights are from, digests of all files, versions.
"""


def parity_sentence(facts: Mapping[str, Any]) -> str:
    """What is known about the differences from torch, in sentences."""
    parity = facts["parity"]
    if parity is None:
        return "Unchecked: its outputs were not compared with those of the checkpoint."
    text = (
        f"{parity['changed_outputs']} of {parity['lines']} outputs differ from those of torch in float32 "
        f"({parity['origin']})."
    )
    if parity["bleu"] is not None:
        text += f" BLEU is {parity['bleu']:.2f}, a difference of {parity['bleu_difference']:+z.2f}."
    caveat = exporter_of(facts["engine"]).caveat(facts["search"])
    return f"{text} {caveat}" if caveat else text


def shortlist_sentence(facts: Mapping[str, Any]) -> str:
    """What is known about the shortlist; empty without one."""
    shortlist = facts["shortlist"]
    if shortlist is None:
        return ""
    text = f"Decodes with a lexical shortlist ({shortlist['statistic']}, {shortlist['size']} candidates per piece)."
    if shortlist["recall"] is not None:
        text += (
            f" It holds {shortlist['recall']:.1%} of the target tokens of the validation text, with "
            f"{shortlist['candidates_per_sentence']:.0f} of {facts['model']['target_size']} pieces per sentence."
        )
    return text + "\n"
