"""ROUGE (Lin 2004) by the rouge-score package: mean F1 of sentences, each against its best reference.

The tokens are runs of a-z and 0-9 in lower-cased text; words of more than three letters are reduced by Porter's
stemmer. Where most letters of the references are others, or the tokenizer is not 13a, the tokens are the tokenizer's,
lower-cased, without those that are punctuation, and not stemmed. Of several references the one with the highest F1
counts, for each kind of ROUGE separately.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from retort.config.tokenizers import DEFAULT_TOKENIZER
from retort.evaluation.metrics.base import SegmentMetric

_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"\w")


class Rouge(SegmentMetric):
    """The mean of sentence scores. Statistics: a sentence's F1 in percent, 0 of an empty output, and 1."""

    kind: str
    """The package's name of it."""

    def statistics(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> tuple[np.ndarray, str]:
        # imported here because it imports nltk, which takes a second
        from rouge_score.rouge_scorer import RougeScorer
        from rouge_score.tokenizers import DefaultTokenizer

        english = self.tokenizer == DEFAULT_TOKENIZER and _is_ascii(references)
        scorer = RougeScorer([self.kind], tokenizer=DefaultTokenizer(use_stemmer=True) if english else self)
        pairs = zip(hypotheses, references, strict=True)
        measures = (scorer.score_multi(texts, text)[self.kind].fmeasure for text, texts in pairs)
        scores = 100 * np.fromiter(measures, np.float64, len(hypotheses))
        words = "tok:a-z0-9|stem:porter" if english else f"tok:{self.tokenizer}|stem:no"
        return np.stack([scores, np.ones(len(scores))], 1), _signature(references, words)

    def tokenize(self, text: str) -> list[str]:
        """Words of a text that is not English, as the package takes them."""
        return [word for word in self.tokenized(text.lower()).split() if _WORD.search(word)]

    def scores_of_sums(self, sums_sk: np.ndarray) -> np.ndarray:
        total, count = np.asarray(sums_sk, dtype=np.float64).T
        return total / count


class Rouge1(Rouge):
    """Shared words."""

    kind = "rouge1"


class Rouge2(Rouge):
    """Shared word pairs."""

    kind = "rouge2"


class RougeL(Rouge):
    """The longest common subsequence of the whole text as one sentence."""

    kind = "rougeL"


def _is_ascii(references: Sequence[list[str]]) -> bool:
    """Whether at least half of the letters are those of English."""
    letters = [letter for texts in references for text in texts for letter in _LETTER.findall(text)]
    return 2 * sum(map(str.isascii, letters)) >= len(letters)


def _signature(references: Sequence[list[str]], words: str) -> str:
    counts = {len(texts) for texts in references}
    number = str(counts.pop()) if len(counts) == 1 else "var"
    choices = f"nrefs:{number}|refs:best|case:lc|{words}|score:f1|mean:sentences"
    return f"{choices}|version:{version('rouge-score')}"
