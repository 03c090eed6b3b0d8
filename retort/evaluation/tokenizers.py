"""What splits texts into words for metrics: the tokenizers of sacreBLEU, by name or by the writing of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from retort.config.tokenizers import AUTO, DEFAULT_TOKENIZER, TOKENIZERS, tokenizer_named
from retort.data.writing import writing_of
from retort.errors import RetortError


def chosen_tokenizer(name: str, references: Iterable[Iterable[str]]) -> str:
    """``name``; for auto the tokenizer declared for the writing of the references, or else 13a."""
    if name != AUTO:
        return name
    writing = writing_of(text for texts in references for text in texts)
    suited = (tokenizer.name for tokenizer in TOKENIZERS if writing in tokenizer.writings)
    return next(suited, DEFAULT_TOKENIZER)


@cache
def load_tokenizer(name: str) -> Callable[[str], str]:
    """The tokenizer of this name: a function that puts spaces between the tokens of a text.

    Raises RetortError that says what to install, or which file to download, where something is missing.
    """
    from sacrebleu.metrics.bleu import _get_tokenizer
    from sacrebleu.tokenizers.tokenizer_spm import SACREBLEU_DIR, SPM_MODELS

    declared = tokenizer_named(name)
    missing = [module for module in declared.modules if not find_spec(module)]
    if missing:
        raise RetortError(
            f"evaluation.tokenizer: {name} needs {' and '.join(missing)}, not installed; run "
            f"pip install 'sacrebleu[{declared.extra}]', or use another tokenizer, such as char"
        )
    if name in SPM_MODELS:
        url = SPM_MODELS[name]["url"]
        model = Path(SACREBLEU_DIR, "models", Path(url).name)
        if not model.exists():
            raise RetortError(
                f"evaluation.tokenizer: {name} needs its model at {model}; download {url} to it, or use another "
                f"tokenizer, such as char"
            )
    return _get_tokenizer(name)()  # type: ignore[no-any-return]


def words(text: str, tokenizer: str) -> list[str]:
    """Words of a text: white-space separated ones, or tokens of a tokenizer for languages without spaces."""
    return (text if tokenizer_named(tokenizer).keeps_words else load_tokenizer(tokenizer)(text)).split()


def length(text: str, tokenizer: str) -> int:
    """Number of words of a text."""
    return len(words(text, tokenizer))


def unit(tokenizer: str) -> str:
    """What ``length`` counts, for signatures."""
    return "split at white space" if tokenizer_named(tokenizer).keeps_words else f"split by {tokenizer}"
