"""Right translations, where the language is made up: no reference is needed.

Imported by name, and only for a generated corpus, so that scores of real text do not depend on the grammar.
"""

from __future__ import annotations

from retort.config import GeneratedCorpus
from retort.corpus.language.grammar import grammar_of
from retort.evaluation.diagnostics import RIGHT, diagnostic
from retort.evaluation.metrics import Score
from retort.evaluation.quality import Pairs


def right_translations(pairs: Pairs, language: GeneratedCorpus) -> Score:
    """Percentage of the outputs that are a right translation of their source, whatever the reference says."""
    grammar = grammar_of(language)
    right = sum(grammar.valid_target(*texts) for texts in zip(pairs.sources, pairs.hypotheses, strict=True))
    return diagnostic(RIGHT, 100 * right / len(pairs.ids), f"possible translations / outputs|outputs:{len(pairs.ids)}")
