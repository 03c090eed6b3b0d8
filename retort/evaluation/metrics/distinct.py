"""distinct-n (Li et al. 2016): distinct n-grams of all outputs as a share of all their n-grams, in percent."""

from __future__ import annotations

from collections.abc import Sequence

import sacrebleu

from retort.evaluation.metrics.base import CorpusMetric


class Distinct(CorpusMetric):
    """It looks at the outputs alone; 0 without any n-gram."""

    n: int

    def score(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> tuple[float, str]:
        n = self.n
        distinct: set[tuple[str, ...]] = set()
        total = 0
        for text in hypotheses:
            tokens = self.tokenized(text).split()
            ngrams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
            distinct.update(ngrams)
            total += len(ngrams)
        signature = f"distinct {n}-grams / {n}-grams of all outputs|case:mixed|tok:{self.tokenizer}"
        signature += f"|version:{sacrebleu.__version__}"
        return 100 * len(distinct) / total if total else 0.0, signature


class Distinct1(Distinct):
    """Words."""

    n = 1


class Distinct2(Distinct):
    """Word pairs."""

    n = 2
