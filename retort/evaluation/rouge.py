"""ROUGE of English text (Lin 2004), by the rouge-score package: F1 of a sentence, against its best reference.

The tokens are runs of a-z and 0-9 in lower-cased text, words of more than three letters reduced by Porter's stemmer. Of
several references the one with the highest F1 counts, for each kind of ROUGE on its own, as the package does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

KINDS = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
"""The package's names by ours. ROUGE-L is of the whole text as one sentence."""


def sentence_scores(metric: str, hypotheses: Sequence[str], references: Sequence[list[str]]) -> np.ndarray:
    """F1 in percent of each hypothesis, 0 of an empty one; each has its list of references."""
    # here, because it brings nltk, which takes a second to load
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    kind = KINDS[metric]
    scorer = RougeScorer([kind], tokenizer=DefaultTokenizer(use_stemmer=True))
    found = (scorer.score_multi(own, text)[kind].fmeasure for text, own in zip(hypotheses, references, strict=True))
    return 100 * np.fromiter(found, np.float64, len(hypotheses))


def signature(references: Sequence[list[str]]) -> str:
    """Every choice behind the mean of these scores."""
    counts = {len(own) for own in references}
    number = str(counts.pop()) if len(counts) == 1 else "var"
    choices = f"nrefs:{number}|refs:best|case:lc|tok:a-z0-9|stem:porter|score:f1|mean:sentences"
    return f"{choices}|version:{version('rouge-score')}"
