"""Names of the files that the parts of Retort share: checkpoints, vocabularies, corpora."""

from __future__ import annotations

from pathlib import Path

from retort.errors import RetortError

WEIGHTS, MODEL_DESCRIPTION = "model.safetensors", "model.json"
SOURCE_MODEL, TARGET_MODEL, VOCABULARY_DESCRIPTION = "source.model", "target.model", "vocabulary.json"
CORPUS_DESCRIPTION, CLEANING_TABLE = "corpus.json", "cleaning.parquet"

VOCABULARY_MODELS = {"source_vocabulary": SOURCE_MODEL, "target_vocabulary": TARGET_MODEL}
"""Files of SentencePiece, by what they are."""
CHECKPOINT_FILES = {"weights": WEIGHTS, "model": MODEL_DESCRIPTION, **VOCABULARY_MODELS}
"""Files of a checkpoint's directory, by what they are."""
VOCABULARY_FILES = {**VOCABULARY_MODELS, "vocabulary": VOCABULARY_DESCRIPTION}
"""The same of a vocabulary's."""

COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
"""Endings of the names of compressed files."""

TRAIN, VALID = "train", "valid"
"""The splits of a corpus that are no test sets."""


def table_name(split: str) -> str:
    """File name of the corpus table of train, valid or a test set."""
    return f"{split}.parquet" if split in (TRAIN, VALID) else f"test.{split}.parquet"


def split_of(path: Path) -> str:
    """The split that a corpus table is named for."""
    return path.name.removesuffix(".parquet").removeprefix("test.")


def test_set_of(path: Path | str) -> str:
    """Name of the test set in a file ``test.<name>.parquet``; raises RetortError for other names."""
    path = Path(path)
    name = split_of(path)
    if path.name != f"test.{name}.parquet" or not name:
        raise RetortError(f"{path}: expected a file named test.<test set>.parquet")
    return name
