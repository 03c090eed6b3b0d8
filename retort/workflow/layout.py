"""Where the files of a run are: below its root, or where the configuration says for what is given."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from retort.config import Config
from retort.data.runs import Run
from retort.filenames import (
    CHECKPOINT_FILES,
    CLEANING_TABLE,
    CORPUS_DESCRIPTION,
    TRAIN,
    VALID,
    VOCABULARY_FILES,
    VOCABULARY_MODELS,
    table_name,
)


@dataclass(frozen=True)
class Layout:
    """Paths of the run ``config`` below ``root``, such as results/<name>."""

    config: Config
    root: str

    # ---- text -----------------------------------------------------------------------------------------------------

    def tests(self) -> list[str]:
        """Corpus tables of the test sets."""
        return [f"{self.root}/corpus/{table_name(name)}" for name in self.config.corpus.test_names]

    def prepared(self, file: str) -> str:
        """A file as the corpus is prepared: where validation or test sets are still without references, apart."""
        return f"{self.root}/{'sources' if self.config.filled else 'corpus'}/{file}"

    def filled(self, file: str) -> str:
        """The same after the external teacher's outputs have become their references; made only where that is so."""
        return f"{self.root}/{'corpus' if self.config.filled else 'filled'}/{file}"

    def corpus_files(self, place: Callable[[str], str]) -> dict[str, str | list[str]]:
        """All files of a corpus, by what they are; ``place`` is ``prepared`` or ``filled``."""
        return {
            "train": place(table_name(TRAIN)),
            "valid": place(table_name(VALID)),
            "tests": [place(table_name(name)) for name in self.config.corpus.test_names],
            "cleaning": place(CLEANING_TABLE),
            "facts": place(CORPUS_DESCRIPTION),
        }

    def vocabulary(self) -> dict[str, str]:
        """Files of the vocabulary, by what they are: the given one's, or the learned one's. A given one need not be
        described; a model stands for its description."""
        given = self.config.vocabulary.path
        if not given:
            return self.learned_vocabulary()
        models = _inside(os.path.normpath(given), VOCABULARY_MODELS)
        return {**models, "vocabulary": models["source_vocabulary"]}

    def learned_vocabulary(self) -> dict[str, str]:
        """Files of the vocabulary that is learned where none is given."""
        return _inside(f"{self.root}/vocabulary", VOCABULARY_FILES)

    def texts(self) -> dict[str, str]:
        """Encoded training texts that any system can read, by the value of ``data`` that selects them."""
        return {
            "raw": f"{self.root}/encoded/train.parquet",
            "distilled": f"{self.root}/distilled/encoded.parquet",
            "interpolated": f"{self.root}/interpolated/encoded.parquet",
        }

    def text(self, data: str) -> str:
        """One of ``texts``."""
        return self.texts()[data]

    def labels(self, data: str, top_k: int) -> str:
        """Table of the teacher's labels for one of ``texts``."""
        return f"{self.root}/labels/{data}/top{top_k}.parquet"

    def iteration(self, iteration: int, seed: int) -> str:
        """Directory of the tables of an EM iteration; the text of the first one is the same for all seeds, as are the
        references, iteration 0."""
        directory = f"{self.root}/em/iteration{iteration}"
        return directory if iteration < 2 else f"{directory}/seed{seed}"

    def judged(self, kind: str) -> str:
        """Tables of the external teacher's outputs: judged, rejected, or judgement."""
        return f"{self.root}/distilled/external/{kind}.parquet"

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def checkpoint_directory(self, system: str, seed: int) -> str:
        """Directory of a checkpoint: the given one, or that of the training with this seed."""
        given = self.config.trained[system].checkpoint
        return os.path.normpath(given) if given else self._trained_directory(Run(system, seed))

    def checkpoint(self, system: str, seed: int) -> dict[str, str]:
        """Files of a checkpoint, by what they are, the weights first."""
        return _inside(self.checkpoint_directory(system, seed), CHECKPOINT_FILES)

    def trained(self, run: Run) -> dict[str, str]:
        """Files of the checkpoint that a training makes."""
        return _inside(self._trained_directory(run), CHECKPOINT_FILES)

    def training_log(self, run: Run) -> str:
        """Training log of a system that is trained here."""
        return f"{self._trained_directory(run)}/training.parquet"

    def _trained_directory(self, run: Run) -> str:
        return f"{self.root}/systems/{run}"

    # ---- measures -------------------------------------------------------------------------------------------------

    def translations(self, run: Run) -> str:
        """Translations of the test sets by a system, seed and search."""
        return f"{self.root}/translations/{run}.parquet"

    def tuned(self, run: Run) -> str:
        """The search with the options that were best on the validation set."""
        return f"{self.root}/tuning/{run}.json"

    def scores(self, run: Run) -> str:
        """Scores of these translations."""
        return f"{self.root}/scores/{run}.parquet"

    def segment_scores(self, metric: str, run: Run) -> str:
        """Scores of each of these translations by a learned metric."""
        return f"{self.root}/segment_scores/{metric}/{run}.parquet"

    def ngrams(self, name: str) -> str:
        """A table of n-grams."""
        return f"{self.root}/ngrams/{name}.ngrams"

    def multimodality(self, run: Run) -> str:
        """Multi-modality of the training text, as a parallel system measures it."""
        return f"{self.root}/multimodality/{run}.parquet"

    def exposure(self, run: Run) -> str:
        """Exposure bias of a system."""
        return f"{self.root}/exposure/{run}.parquet"

    def agreement(self, run: Run) -> str:
        """How well a system predicts each reference of the training text."""
        return f"{self.root}/agreement/{run}.parquet"


def _inside(directory: str, files: Mapping[str, str]) -> dict[str, str]:
    """Paths of these files of a directory, by what they are."""
    return {what: f"{directory}/{name}" for what, name in files.items()}
