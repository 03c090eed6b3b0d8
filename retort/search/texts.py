"""The texts that a beam tries, as a tree, so that ways to equal texts meet."""

from __future__ import annotations

from typing import Self

from retort.search.ngram_scores import Context, Scorer


class Text:
    """The text of ``parent`` with ``token``; the empty one has no parent."""

    __slots__ = ("children", "context", "ngrams", "parent", "token")

    def __init__(self, token: int, parent: Self | None, ngrams: float) -> None:
        self.token, self.parent = token, parent
        self.ngrams = ngrams
        """The scorer's sum."""
        self.context: Context | None = None
        """Where its n-grams go on, once that is needed."""
        self.children: dict[int, Self] = {}

    @classmethod
    def empty(cls, scorer: Scorer) -> Self:
        """The text that has not begun."""
        text = cls(-1, None, 0.0)
        text.context = scorer.start()
        return text

    def known_context(self, scorer: Scorer) -> Context:
        """Where its n-grams go on. It has a parent that knows the same, as that was asked for the text's score."""
        if self.context is None:
            before: Context = self.parent.context  # type: ignore[union-attr, assignment]
            token = self.token
            self.context = before.longer[token] if token in before.longer else scorer.extended(before, token)
        return self.context

    def score(self, token: int, scorer: Scorer) -> float:
        """Score of a token behind it."""
        context = self.known_context(scorer)
        return context.scores[token] if token in context.scores else scorer.score(context, token)

    def tokens(self) -> list[int]:
        """All of its tokens."""
        tokens, text = list[int](), self
        while text.parent is not None:
            tokens.append(text.token)
            text = text.parent
        return tokens[::-1]

    def release(self) -> None:
        """Forget all children. Else they wait for the garbage collector, whose runs a sentence would pay for."""
        texts = [self]
        while texts:
            children = texts.pop().children
            texts += children.values()
            children.clear()
