"""Where text comes from, how it is cleaned, and the vocabulary.

A new kind of corpus is a class here, its place in ``Corpus``, and the module that the class names; see
docs/extending.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, field_validator, model_validator

from retort.config.addresses import check_location, is_address
from retort.config.base import SHARE, FilePath, Name, OneOrSeveral, Probability, Section, ShortForm


class Draw(NamedTuple):
    """A random choice of clean training pairs."""

    pairs: int
    """Pairs that stay."""
    seed: int
    """Seed of the choice."""


class CorpusSection(Section):
    """What every kind of corpus declares. Class variables and properties are no keys of the configuration."""

    kind: str
    """Name of the kind."""
    module: ClassVar[str]
    """Its module below retort/corpus, a ``CorpusKind`` of retort/corpus/raw.py."""
    judge: ClassVar[str | None] = None
    """Module below retort/corpus whose ``judge(settings)`` recognises right translations without a reference; None:
    they are not known."""
    local_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys about where this machine has the text; the tables do not depend on them."""

    @property
    def knows_right_translations(self) -> bool:
        """Whether right translations can be recognised without a reference."""
        return self.judge is not None

    @property
    def test_names(self) -> tuple[str, ...]:
        """Names of the test sets."""
        return ("test",)

    def named_texts(self) -> Iterator[tuple[str, TextSource]]:
        """Every text that it reads, with its key below the section; none where it reads none."""
        yield from ()

    def mirrored_texts(self) -> Iterator[tuple[str, TextSource]]:
        """Those of them that a mirror has instead of a download."""
        yield from ((key, text) for key, text in self.named_texts() if is_address(text.location))

    @property
    def texts(self) -> tuple[TextSource, ...]:
        """The same without the keys."""
        return tuple(text for _, text in self.named_texts())

    @property
    def unreferenced(self) -> tuple[str, ...]:
        """Splits that are source-only: train, valid or names of test sets."""
        return ()

    @property
    def mirror_directory(self) -> str | None:
        """Directory, named here, that holds the texts that are downloaded otherwise."""
        return None

    @property
    def draw(self) -> Draw | None:
        """Which of the clean training pairs are kept; None: all."""
        return None

    @property
    def most_pairs(self) -> int | None:
        """Upper bound of the training pairs; None: the section has none."""
        return self.draw.pairs if self.draw else None

    @classmethod
    def required_keys(cls) -> set[str]:
        """Keys that this kind cannot do without; where they are given, ``kind`` can be left out."""
        return {name for name, field in cls.model_fields.items() if field.is_required()} - {"kind"}


class GeneratedCorpus(CorpusSection):
    """A made-up language pair from a seeded grammar; see retort/corpus/language/grammar.py."""

    kind: Literal["generated"]
    module = "language.generated"
    judge = "language.grammar"
    train_pairs: int = Field(8000, ge=1, le=1_000_000_000)
    """Training pairs to generate."""
    valid_pairs: int = Field(500, ge=1, le=1_000_000_000)
    """Validation pairs to generate."""
    test_pairs: int = Field(500, ge=1, le=1_000_000_000)
    """Test pairs to generate."""
    seed: int = Field(1, ge=0, le=2**63 - 1)
    """Seed of the grammar and of every random choice."""
    synonyms: Probability = 0.5
    """Share of target words that have a synonym, chosen at random each time."""
    usual_synonym: Probability = 0.7
    """Probability of the usual one of two synonyms."""
    reordering: Probability = 0.3
    """Probability that a clause has its other word order."""
    optional_words: Probability = 0.3
    """Probability that an optional word appears."""

    @property
    def most_pairs(self) -> int:
        return self.train_pairs


Layout = Literal["lines", "json", "tmx", "fairytaleqa"]


class TextSource(Section):
    """One text: a local file, or a public address with its checksum; plain, compressed (gzip, bzip2, xz, zstd), or a
    member of a .zip or .tar.*"""

    location: FilePath
    """Path or http(s) address. ${NAME} in an address is the value of an environment variable, such as a password."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the text inside, after decompression, or of the lines that ``layout`` extracts from it; null records
    it without a check."""
    member: str | None = None
    """Name of the file inside a .zip or .tar archive; of a fairytaleqa archive the split: train, val or test."""
    column: int | None = Field(None, ge=0, le=1_000_000)
    """Column of a tab-separated file, counted from 0; null: whole lines."""
    layout: Layout = "lines"
    """How the file holds texts. lines: one per line. json: one JSON object per line, whose ``field`` is a text, or a
    list of texts that are joined by spaces, or by tabs where they are references; blank lines are passed over.
    tmx: a translation memory, whose ``field`` is a language, such as de; a unit that lacks it is an empty line.
    fairytaleqa: the archive of that corpus's repository (Xu et al. 2022), whose ``field`` is source (answer, [SEP],
    passage) or question."""
    field: str | None = None
    """The part of json, tmx or fairytaleqa that is the text; of json also a path of keys, such as translation.en."""
    mirror_name: str | None = None
    """Path of this text below the mirror directory, plain or compressed; null: the last part of the location. Where the
    layout is not lines, the mirror holds the extracted lines under this name."""

    @property
    def part(self) -> tuple[str | int | None, ...]:
        """What is read: texts of equal parts are one text."""
        return self.location, self.member, self.column, self.field

    @model_validator(mode="after")
    def _has_a_location(self) -> TextSource:
        check_location(self.location)
        return self

    @model_validator(mode="after")
    def _has_a_field(self) -> TextSource:
        if (self.layout == "lines") != (self.field is None):
            raise ValueError("field is the part that a layout other than lines extracts: give both, or neither")
        if self.layout != "lines" and self.column is not None:
            raise ValueError(f"column is for tab-separated lines, not for layout {self.layout}; remove it")
        return self


Texts = Annotated[list[Annotated[TextSource, ShortForm("location")]], OneOrSeveral()]
"""Texts in their order; one alone needs no list, and a path alone no mapping."""


class TextPair(Section):
    """A split: one or several source texts and as many target texts, line by line."""

    source: Texts = Field(min_length=1)
    """Source side, concatenated; a path alone is enough."""
    target: Texts = []
    """Target side, concatenated. None, and no references either: the split is source-only. For train that is text that
    a teacher translates; for valid and tests the external teacher's outputs are the references."""
    references: Texts = []
    """Instead of target, for valid and tests: texts whose lines hold all references of a source, separated by tabs. The
    first one is the target where there can be only one."""

    @property
    def others(self) -> list[TextSource]:
        """The texts of targets or references."""
        return self.target or self.references

    @model_validator(mode="after")
    def _pairs_up(self) -> TextPair:
        if self.target and self.references:
            raise ValueError("give target, or references instead of it where a source has several")
        if self.others and len(self.source) != len(self.others):
            side = "target" if self.target else "references"
            raise ValueError(
                f"{len(self.source)} source and {len(self.others)} {side} texts; give as many of each, in one order"
            )
        for source, other in zip(self.source, self.others, strict=False):
            if source.part == other.part:
                raise ValueError(
                    f"{source.location} is the text of both sides; give each its file, or its column, field or member"
                )
        return self


def _texts_of(pairs: Mapping[str, TextPair]) -> Iterator[tuple[str, TextSource]]:
    """Texts of all sides, with their keys."""
    for split, pair in pairs.items():
        for side in ("source", "target", "references"):
            for number, text in enumerate(getattr(pair, side)):
                yield f"{split}.{side}[{number}]", text


def _is_count_of_pairs(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000_000:
        return value
    if isinstance(value, str) and (share := SHARE.fullmatch(value)) and 0 < float(share[1]) < 100:
        return value
    raise ValueError(f"must be a number of pairs, such as 2500, or a share, such as 2%, found {repr(value)[:40]}")


Pairs = Annotated[
    int | str,
    PlainValidator(_is_count_of_pairs),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{SHARE.pattern}$"}]}),
]


class Carve(Section):
    """Carve valid and test out of the training text, for a corpus without a split."""

    valid_pairs: Pairs = 2500
    """Validation pairs, at least; or a share of all different pairs, such as 2%."""
    test_pairs: Pairs = 2500
    """Test pairs, at least; or a share of all different pairs, such as 2%."""
    largest_component: int = Field(20, ge=1, le=1_000_000_000)
    """Pairs that share a side form a component and stay together; larger components stay in train."""
    ready: dict[Literal["train", "valid", "test"], TextPair] = {}
    """The three carved splits as files of their own; where the mirror has them all, they replace carving."""

    @model_validator(mode="after")
    def _ready_is_whole(self) -> Carve:
        if self.ready and len(self.ready) != 3:
            raise ValueError(f"ready needs train, valid and test, found {', '.join(self.ready)}")
        return self


def _is_no_split(name: str) -> str:
    if name in ("train", "valid"):
        raise ValueError("this name is a split's; choose another one for the test set")
    return name


TestName = Annotated[Name, AfterValidator(_is_no_split)]


class TextCorpus(CorpusSection):
    """Parallel text from local files or public downloads."""

    kind: Literal["text"]
    module = "text"
    local_keys = frozenset({"mirror"})
    train: TextPair
    """Training pairs."""
    monolingual: Texts = []
    """Text of the source language alone, one sentence per line, that a teacher translates: it is added to the distilled
    text, and to nothing else."""
    valid: TextPair | None = None
    """Validation pairs; null when ``carve`` makes them."""
    tests: dict[TestName, TextPair] = {}
    """Test sets by name; empty when ``carve`` makes one, named test."""
    carve: Carve | None = None
    """How to split when there is no valid and no test set."""
    mirror: str | None = None
    """Directory that holds the same texts; used instead of downloading. The environment variable RETORT_MIRROR
    does the same."""
    train_pairs: int | None = Field(None, ge=1, le=1_000_000_000)
    """Keep only this many training pairs, drawn at random with ``seed``; null keeps all. Lines of ``monolingual`` are
    kept beside them."""
    seed: int = Field(1, ge=0, le=2**63 - 1)
    """Seed of that draw."""

    @property
    def test_names(self) -> tuple[str, ...]:
        """Names of the test sets; carving makes one, named test."""
        return tuple(self.tests) or ("test",)

    @property
    def pairs(self) -> dict[str, TextPair]:
        """The splits by their keys; not the ready ones, which only a mirror has."""
        valid = {"valid": self.valid} if self.valid else {}
        return {"train": self.train, **valid, **{f"tests.{name}": pair for name, pair in self.tests.items()}}

    def named_texts(self) -> Iterator[tuple[str, TextSource]]:
        """Texts of the splits, and monolingual ones."""
        yield from _texts_of(self.pairs)
        for number, text in enumerate(self.monolingual):
            yield f"monolingual[{number}]", text

    def mirrored_texts(self) -> Iterator[tuple[str, TextSource]]:
        """With the ready splits, which only a mirror has."""
        yield from super().mirrored_texts()
        ready = self.carve.ready if self.carve else {}
        yield from _texts_of({f"carve.ready.{split}": pair for split, pair in ready.items()})

    @property
    def unreferenced(self) -> tuple[str, ...]:
        """Splits that are source-only. Carving makes them all of train."""
        if self.carve is not None:
            return () if self.train.others else ("train", "valid", *self.test_names)
        pairs = {"train": self.train, "valid": self.valid, **self.tests}
        return tuple(name for name, pair in pairs.items() if pair is not None and not pair.others)

    @property
    def mirror_directory(self) -> str | None:
        """Directory, named here, that holds the texts that are downloaded otherwise."""
        return self.mirror

    @property
    def draw(self) -> Draw | None:
        """Which of the clean training pairs are kept; None: all."""
        return None if self.train_pairs is None else Draw(self.train_pairs, self.seed)

    @property
    def most_pairs(self) -> int | None:
        """None where all is source-only, too: lines of ``monolingual`` are beside those that are drawn."""
        return None if self.monolingual and not self.train.others else super().most_pairs

    @model_validator(mode="after")
    def _has_splits(self) -> TextCorpus:
        if self.train.references and not self.train.target:
            raise ValueError("train needs target, one for each source; references are for valid and tests")
        if self.carve is None and (self.valid is None or not self.tests):
            raise ValueError("give valid and at least one test set, or carve them out of train with carve")
        if self.carve is not None and (self.valid is not None or self.tests):
            raise ValueError(
                "carve makes valid and test itself; remove it, or remove valid and tests (in a layer by null: valid: "
                "null, tests: {<name>: null})"
            )
        validated = {text.part for text in self.valid.source} if self.valid else set()
        for name, pair in self.tests.items():
            if text := next((text for text in pair.source if text.part in validated), None):
                raise ValueError(
                    f"valid and tests.{name} are the same text ({text.location}), so that checkpoints would be chosen "
                    f"on what is tested; give valid another one"
                )
        return self


Corpus = Annotated[GeneratedCorpus | TextCorpus, Field(discriminator="kind")]

CORPORA: tuple[type[CorpusSection], ...] = get_args(get_args(Corpus)[0])
"""Every kind of corpus, in the order of the union."""


class Cleaning(Section):
    """Which pairs are dropped; every drop is counted in the cleaning table. Valid and test keep all pairs but
    those with an empty side."""

    max_words: int | None = Field(100, ge=1, le=1_000_000_000)
    """Drop training pairs with a side of more white-space words. Chinese, Japanese, Thai, Lao, Khmer, Burmese
    and Tibetan have no spaces between words: 1.7 Han characters, 2.7 kana, 4.5 Thai or Lao, 5.5 Khmer, Burmese or
    Tibetan ones count as a word.
    null: no limit, as for summarisation, where
    model.truncate_sources cuts long sources."""
    max_ratio: float | None = Field(3.0, ge=1, le=10_000)
    """Drop training pairs whose word counts, plus 3 each so that short pairs pass, differ by more than this factor;
    null: no limit, as for targets that are meant to be shorter."""
    drop_duplicates: bool = True
    """Drop repeated identical training pairs."""
    drop_leaks: bool = True
    """Drop training pairs whose source or target is also in valid or test."""


_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
RESERVED_SYMBOLS = frozenset({"<pad>", "<s>", "</s>", "<unk>", "<mask>", "<blank>"})
"""Names of the special pieces of every vocabulary."""


class Vocabulary(Section):
    """sentencepiece vocabulary."""

    path: FilePath | None = None
    """Directory of a vocabulary to use instead of training one (source.model, target.model), such as a checkpoint's."""
    type: Literal["unigram", "bpe"] = "unigram"
    """Kind of segmentation."""
    size: int = Field(6000, ge=8, le=10_000_000)
    """Number of pieces, special ones included."""
    joint: bool = True
    """One vocabulary for both sides."""
    character_coverage: float = Field(1.0, ge=0.98, le=1)
    """Share of the characters covered; the rest becomes unknown, or bytes. Outputs hold unknown pieces only
    where their search has allow_unknown."""
    byte_fallback: bool = False
    """Write characters that are not covered as bytes, 256 pieces more, so that nothing is unknown. size counts them."""
    normalisation: Literal["identity", "nfkc", "nmt_nfkc"] = "identity"
    """Unicode normalisation of text before it is split. identity: none, so that a reference with a half or an ellipsis
    sign can be reached. nfkc: compatibility forms are replaced, such as full-width letters and ligatures. nmt_nfkc:
    the same, and some more white space and control characters, as sentencepiece does unless told otherwise. Outputs
    are normalised text; references are not."""
    symbols: list[Annotated[str, Field(min_length=1, max_length=100)]] = []
    """Pieces that are never split, such as placeholders and markup: [<num>, <br>]. size counts them."""
    sample_sentences: int = Field(1_000_000, ge=1, le=1_000_000_000)
    """At most this many texts are read to train it; with joint: false, this many per side."""

    @property
    def without_effect(self) -> dict[str, str]:
        reason = "nothing is made of it, as vocabulary.path gives a vocabulary that is used as it is"
        return {key: reason for key in type(self).model_fields if key != "path"} if self.path else {}

    @field_validator("symbols")
    @classmethod
    def _symbols_fit(cls, symbols: list[str]) -> list[str]:
        for symbol in symbols:
            if any(character.isspace() or not character.isprintable() for character in symbol):
                raise ValueError(f"{symbol!r} holds white space or a control character; expected visible ones alone")
            if symbol in RESERVED_SYMBOLS:
                raise ValueError(f"{symbol!r} is one of the special pieces; choose another one")
            if "\u2581" in symbol:
                raise ValueError(f"{symbol!r} holds U+2581, which is how pieces write a space; choose another one")
        if len(set(symbols)) < len(symbols):
            raise ValueError(f"{symbols} repeats a symbol; give each once")
        return symbols

    @model_validator(mode="after")
    def _has_room(self) -> Vocabulary:
        if self.path is not None:
            return self
        if self.byte_fallback and (taken := next(filter(_BYTE_PIECE.fullmatch, self.symbols), None)):
            raise ValueError(f"symbols: {taken!r} is the piece of a byte, with byte_fallback; choose another one")
        fixed = len(RESERVED_SYMBOLS) + len(self.symbols) + 256 * self.byte_fallback
        if self.size <= fixed:
            raise ValueError(
                f"size: {self.size} pieces, and {fixed} are special ones, symbols or bytes; expected more, and one for "
                f"each character of the text"
            )
        return self
