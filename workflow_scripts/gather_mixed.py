"""Gather references and the teacher's translations, by id, into a table with both targets of each source."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa

from retort.data.ids import check_known
from retort.data.parquet import read_provenance, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import CORPUS, MIXED, TRANSLATIONS
from retort.data.vocabulary import Vocabulary
from retort.distillation.gathering import Gathered, Rows, left_out_warning
from retort.distillation.mixing import mix, similarities
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--translations", type=Path, required=True, help="the teacher's, of all training sources")
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table of the training pairs")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    translations = Rows([args.translations], TRANSLATIONS)
    gathered = Gathered(translations, args.train, Vocabulary.load(args.vocabulary))
    corpus = Rows([args.corpus], CORPUS)
    values_by_part = [similarity(distilled["id"].to_numpy(), translations, corpus) for distilled in gathered.pairs()]
    values = np.concatenate(values_by_part)
    compared = values[np.isfinite(values)]
    counts = {**gathered.counts, "similarity": float(compared.mean()) if len(compared) else None}
    facts = provenance(decoding=read_provenance(args.translations), train=file_digest(args.train), **counts)
    both = zip(gathered.train.parts(gathered.ids), gathered.pairs(), values_by_part, strict=True)
    parts = (
        mix(raw, distilled, dict(zip(distilled["id"].to_pylist(), values, strict=True)))
        for raw, distilled, values in both
    )
    write_table(args.output, MIXED, data=parts, provenance=facts)
    logging.info("%s", counts)
    if warning := left_out_warning(args.output, counts):
        logging.warning("%s", warning)


def similarity(ids: np.ndarray, translations: Rows, corpus: Rows) -> np.ndarray:
    """Sentence chrF of the translation against the reference, per source; NaN without a reference. ``ids`` ascend."""
    if not len(ids):
        return np.zeros(0)
    texts, references = (
        rows.between(ids[0], ids[-1], "id", name) for rows, name in ((translations, "text"), (corpus, "target"))
    )
    known = references["id"].to_numpy()
    check_known(ids, known, where=corpus.paths[0], of="the training text", advice="encode the corpus again")
    sides = [table.take(pa.array(np.searchsorted(table["id"].to_numpy(), ids))) for table in (texts, references)]
    return np.array(similarities(sides[0]["text"].to_pylist(), sides[1]["target"].to_pylist()))


if __name__ == "__main__":
    run_script(parser(), main)
