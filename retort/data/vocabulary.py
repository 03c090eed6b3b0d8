"""sentencepiece vocabularies: turning text into token ids and back.

A vocabulary is a directory with ``source.model``, ``target.model`` (the same bytes when the vocabulary is joint) and
``vocabulary.json``, which describes them; checkpoints carry the two models only, and that is enough to load.

Text is segmented as it is, unless the vocabulary was trained with a normalisation: a reference that holds "½" or "…"
must come back as it was. Only white space changes (every run of it, no-break spaces and tabs included, is one space,
and none at the ends).
This module imports neither torch nor pyarrow, so that a program that translates starts fast.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from retort.data.files import read_bytes, write_bytes
from retort.errors import RetortError
from retort.filenames import SOURCE_MODEL, TARGET_MODEL

SPECIAL_IDS = 6
"""Ids below this are special."""
PAD, BOS, EOS, UNK, MASK, BLANK = range(SPECIAL_IDS)
FORBIDDEN = [PAD, BOS, MASK, BLANK]
"""Ids that no output holds, whatever its search."""
IDS = {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK, "mask": MASK, "blank": BLANK}
MASK_PIECE, BLANK_PIECE = "<mask>", "<blank>"
SPECIAL_PIECES = ("<pad>", "<s>", "</s>", "<unk>", MASK_PIECE, BLANK_PIECE)
"""Names of the special ids, in their order. A model may call the first four otherwise."""
_OTHER_SPACE = re.compile(r"[^\S ]")


class Vocabulary:
    """Two sentencepiece models, one per side; ids 0 to 5 are pad, bos, eos, unk, mask and blank on both."""

    def __init__(self, source_model: bytes, target_model: bytes, where: str = "vocabulary", threads: int = 1):
        """Takes the serialised models; errors name ``where``. Raises RetortError if they cannot be used."""
        self._models = (source_model, target_model)
        self._source = _processor(source_model, f"{where}/{SOURCE_MODEL}")
        self._target = self._source if self.joint else _processor(target_model, f"{where}/{TARGET_MODEL}")
        self._threads = threads

    @classmethod
    def load(cls, directory: Path | str, threads: int = 1) -> Vocabulary:
        """Load from a vocabulary's or a checkpoint's directory; lists of texts are encoded with ``threads`` threads.

        Raises RetortError if a file is missing, is not a sentencepiece model or has other special ids.
        """
        models = []
        for name in (SOURCE_MODEL, TARGET_MODEL):
            try:
                models.append(read_bytes(Path(directory) / name))
            except OSError as error:
                raise RetortError(
                    f"{Path(directory) / name}: cannot be read ({error.strerror}); expected a sentencepiece model: "
                    f"give the directory of a vocabulary or a checkpoint"
                ) from None
        return cls(models[0], models[1], str(directory), threads)

    @property
    def joint(self) -> bool:
        """Whether both sides use the same model."""
        return self._models[0] == self._models[1]

    @property
    def source_size(self) -> int:
        """Number of source pieces, special ones included."""
        return self._source.get_piece_size()

    @property
    def target_size(self) -> int:
        """Number of target pieces, special ones included."""
        return self._target.get_piece_size()

    @property
    def source_pieces(self) -> list[str]:
        """The source pieces by id, the special ones by the names that engines know."""
        return [*SPECIAL_PIECES, *map(self._source.id_to_piece, range(SPECIAL_IDS, self.source_size))]

    @property
    def target_pieces(self) -> list[str]:
        """The target pieces by id, the special ones by the names that engines know."""
        return [*SPECIAL_PIECES, *map(self._target.id_to_piece, range(SPECIAL_IDS, self.target_size))]

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the SHA-256 of both models: equal digests mean equal segmentation."""
        return hashlib.sha256(b"".join(hashlib.sha256(model).digest() for model in self._models)).hexdigest()

    def encode_source(self, texts: Sequence[str]) -> list[list[int]]:
        """Source token ids of each text, without bos and eos."""
        return self._encode(self._source, texts)

    def encode_target(self, texts: Sequence[str]) -> list[list[int]]:
        """Target token ids of each text, without bos and eos."""
        return self._encode(self._target, texts)

    def decode_target(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Text of each sequence of target ids on one line, without special tokens; unk stays. Line ends and tabs, which
        pieces that are bytes can make, are spaces."""
        texts = (self._target.decode(list(map(int, ids))) if len(ids) else "" for ids in tokens)
        return [_OTHER_SPACE.sub(" ", text).strip() if _OTHER_SPACE.search(text) else text for text in texts]

    def copy_to(self, directory: Path | str) -> None:
        """Write both models into ``directory``."""
        for name, model in zip((SOURCE_MODEL, TARGET_MODEL), self._models, strict=True):
            write_bytes(Path(directory) / name, model)

    def _encode(self, processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        plain = [" ".join(text.split()) for text in texts]
        if self._threads == 1 or len(plain) == 1:
            # a list starts a thread per call, which takes longer than a sentence
            return [processor.encode(text) for text in plain]
        return processor.encode(plain, num_threads=self._threads)


def _processor(model: bytes, where: str) -> sentencepiece.SentencePieceProcessor:
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(model)
    except RuntimeError:
        raise RetortError(f"{where}: not a sentencepiece model; expected one trained by the vocabulary stage") from None
    ids = {
        "pad": processor.pad_id(),
        "bos": processor.bos_id(),
        "eos": processor.eos_id(),
        "unk": processor.unk_id(),
        "mask": processor.piece_to_id(MASK_PIECE),
        "blank": processor.piece_to_id(BLANK_PIECE),
    }
    if ids != IDS:
        raise RetortError(
            f"{where}: its special ids are {ids}, expected {IDS}; train it with the vocabulary stage, or with these "
            f"ids and control symbols {MASK_PIECE} and {BLANK_PIECE}"
        )
    return processor
