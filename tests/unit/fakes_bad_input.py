"""Ways to give bad input: each makes the command line that has to end with one clear error."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from safetensors.torch import load_file, save_file

from retort import cli
from retort.config import Model
from retort.data.parquet import METADATA_KEY, read_table, write_table
from retort.data.tables import ENCODED, TRANSLATIONS
from retort.data.vocabulary import Vocabulary
from retort.models.build import build_model
from retort.models.checkpoint import save_checkpoint
from tests.unit.fakes_runs import SHAPE, TEACHER, Tables
from workflow_scripts import (
    decode_shard,
    encode_corpus,
    gather_distilled,
    prepare_corpus,
    train_system,
)

Arguments = list[object]
Given = Callable[["House"], Arguments]


@dataclass(frozen=True)
class House:
    """A finished corpus, checkpoints and a bundle, and a folder for what is wrong."""

    tables: Tables
    folder: Path

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def copy(self, name: str, **files: str | bytes | None) -> Path:
        """A copy of a directory with other files; None removes one. A dot in their names is written as __."""
        path = shutil.copytree(self.tables.root / name, self.folder / name)
        for file, content in files.items():
            file = file.replace("__", ".")
            (path / file).unlink(missing_ok=True)
            if content is not None:
                (path / file).write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def described(self, name: str = "student", **values: Any) -> Path:
        """A copy of a checkpoint with other values in its description."""
        description = json.loads((self.tables.root / name / "model.json").read_text())
        return self.copy(name, model__json=json.dumps(description | values))

    def table(self, change: Callable[[pa.Table], pa.Table], header: bytes | None = None) -> Path:
        """The training corpus, changed."""
        table = pq.read_table(self.tables.corpus / "train.parquet")
        changed = change(table)
        kept = {METADATA_KEY: header or table.schema.metadata[METADATA_KEY]}
        path = self.folder / "table.parquet"
        pq.write_table(changed.replace_schema_metadata(kept), path)
        return path


def saved(directory: Path, objective: Any, vocabulary: Vocabulary) -> None:
    shape = Model.model_validate(SHAPE)
    torch.manual_seed(1)
    description = {"objective": objective.model_dump(), "model": shape.model_dump()}
    save_checkpoint(
        directory, dict(build_model(objective, shape, vocabulary).named_parameters()), description, vocabulary
    )


# ---- what can be given ----------------------------------------------------------------------------------------------


def config(text: str | bytes) -> Given:
    return lambda house: [cli, "check", house.file("my.yaml", text)]


def on_top(keys: dict[str, Any]) -> Given:
    """A right configuration with some keys changed."""
    right: dict[str, Any] = {
        "name": "run",
        "corpus": {"kind": "generated"},
        "teacher": {"objective": {"name": "autoregressive"}},
    }
    return lambda house: [cli, "check", house.file("my.yaml", yaml.safe_dump(right | keys))]


def text(
    content: bytes | Callable[[House], Path], name: str = "train.src", target: bytes = b"a b\n", **options: Any
) -> Given:
    """A corpus whose training source is this file."""

    def given(house: House) -> Arguments:
        other, more = ([{"location": str(house.file(name, b"a b\n"))}] for name in ("right", "more"))
        path = content(house) if callable(content) else house.file(name, content)
        source = [{"location": str(path), **options}]
        pair = {"source": source, "target": [{"location": str(house.file("train.tgt", target))}]}
        corpus = {"kind": "text", "train": pair, "valid": {"source": other, "target": more}}
        corpus["tests"] = {"t": {"source": more, "target": other}}
        return [prepare_corpus, "--corpus", json.dumps(corpus), "--output", house.folder / "out"]

    return given


def fifo(house: House) -> Path:
    os.mkfifo(house.folder / "pipe")
    return house.folder / "pipe"


def with_pipe(name: str, house: House) -> Path:
    """A copy of the student with a pipe in the place of a file."""
    directory = house.copy("student")
    (directory / name).unlink()
    os.mkfifo(directory / name)
    return directory


def loop(house: House) -> Path:
    (house.folder / "loop").symlink_to("loop")
    return house.folder / "loop"


def memory(unit: str, head: str = "", language: str = "en") -> Given:
    """A translation memory with one unit, read for English."""
    lang = language.replace("\n", "&#10;")
    begin = f'<?xml version="1.0"?>{head}<tmx version="1.4"><header/><body><tu><tuv xml:lang="{lang}">'
    return text(f"{begin}{unit}</tuv></tu></body></tmx>".encode(), layout="tmx", field="en")


def packed(files: dict[str, bytes], kind: str = "zip", member: str = "text", **options: Any) -> Given:
    return text(archive(files, kind), f"a.{kind}", member=member, **options)


def archive(files: dict[str, bytes], kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as opened:
            for name, content in files.items():
                opened.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                if content.startswith(b"->"):
                    entry.type, entry.linkname = tarfile.SYMTYPE, content[2:].decode()
                    tar.addfile(entry)
                else:
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def patched_zip(offset: int, value: int) -> bytes:
    """A zip whose member has another value at this offset of both of its headers."""
    content = bytearray(archive({"text": b"a b\n"}, "zip"))
    content[content.index(b"PK\x03\x04") + offset] = value
    content[content.index(b"PK\x01\x02") + offset + 2] = value
    return bytes(content)


def fairytale(question: bytes, story: bytes = b"section,text\n1,once\n") -> Given:
    folder = "x/data-by-train-split"
    files = {
        f"{folder}/questions/train/a-questions.csv": question,
        f"{folder}/section-stories/train/a-story.csv": story,
    }
    return packed(files, member="train", layout="fairytaleqa", field="source")


def encoding(change: Callable[[House], Path]) -> Given:
    """A corpus table to encode."""
    return lambda house: [
        encode_corpus,
        "--vocabulary",
        house.tables.vocabulary,
        "--corpus",
        change(house),
        "--output",
        house.folder / "out",
    ]


def table(change: Callable[[pa.Table], pa.Table], header: bytes | None = None) -> Given:
    return encoding(lambda house: house.table(change, header))


def model(change: Callable[[House], object], *options: object) -> Given:
    return lambda house: [cli, "translate", "--model", change(house), "--threads", 1, *options]


def command(*arguments: object) -> Given:
    return lambda house: [cli, *arguments]


def translating(*options: object) -> Given:
    return lambda house: [cli, "translate", "--model", house.tables.root / "student", "--threads", 1, *options]


def export(*options: object, name: str = "student") -> Given:
    return lambda house: [
        cli,
        "export",
        "--model",
        house.tables.root / name,
        "--output",
        house.folder / "bundle",
        *options,
    ]


def outputs(change: Callable[[list[dict[str, Any]]], None]) -> Given:
    """A table of a teacher's outputs for 300 pairs, changed."""

    def given(house: House) -> Arguments:
        vocabulary, pairs = (
            Vocabulary.load(house.tables.vocabulary),
            read_table(house.tables.encoded / "train.parquet", ENCODED).to_pylist(),
        )
        pairs = [{**pair, "id": id_} for id_, pair in enumerate(pairs * 5)]
        train, shard = house.folder / "pairs.parquet", house.folder / "outputs.parquet"
        write_table(train, ENCODED, ENCODED.of_rows(pairs))
        facts = {"system": "t", "seed": 1, "search": "s", "test_set": "train", "rank": 0, "score": 0.0, "passes": 1}
        rows = [
            {**facts, "id": pair["id"], "tokens": pair["target"], "text": text, "truncated": False, "empty": False}
            for pair, text in zip(pairs, vocabulary.decode_target([pair["target"] for pair in pairs]), strict=True)
        ]
        write_table(shard, TRANSLATIONS, TRANSLATIONS.of_rows(rows))
        header = pq.read_schema(shard).metadata
        change(rows)
        pq.write_table(TRANSLATIONS.of_rows(rows).replace_schema_metadata(header), shard)
        return [
            gather_distilled,
            *("--shards", shard, "--train", train, "--vocabulary", house.tables.vocabulary),
            *("--output-translations", house.folder / "a", "--output-encoded", house.folder / "b"),
        ]

    return given


def token(row: int, value: int | None) -> Given:
    """The same with another first token in this row."""
    return outputs(lambda rows: rows[row].update(tokens=[value, *rows[row]["tokens"][1:]]))


def other_texts(rows: list[dict[str, Any]]) -> None:
    for row in rows[150:]:
        row["text"] = f"other {row['text']}"


def shard(*options: object) -> Given:
    return lambda house: [
        decode_shard,
        "--distillation",
        "{}",
        "--checkpoint",
        house.tables.root / "teacher",
        "--system",
        "teacher",
        "--seed",
        1,
        "--search-name",
        "beam",
        "--corpus",
        house.tables.corpus / "train.parquet",
        "--state",
        house.folder / "state",
        "--output",
        house.folder / "out.parquet",
        *options,
    ]


def training(system: dict[str, Any] | str = TEACHER, **options: Any) -> Given:
    def given(house: House) -> Arguments:
        arguments = house.tables.training(TEACHER, house.folder / "out", house.folder / "state")
        replaced = {"system": system if isinstance(system, str) else json.dumps(system)}
        replaced |= {key: str(value(house)) if callable(value) else str(value) for key, value in options.items()}
        for name, value in replaced.items():
            option = f"--{name.replace('_', '-')}"
            if option in arguments:
                arguments[arguments.index(option) + 1] = value
            else:
                arguments += [option, value]
        return [train_system, *arguments]

    return given


def on_location(location: str) -> Given:
    corpus = json.dumps({"kind": "text", "train": {"source": location, "target": "any"}, "carve": {}})
    return lambda house: [prepare_corpus, "--corpus", corpus, "--output", house.folder / "out"]


def foreign_parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": [1]}), buffer)
    return buffer.getvalue()


def cut(path: Path, size: int) -> bytes:
    return path.read_bytes()[:size]


def flipped(path: Path, place: int) -> bytes:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    return bytes(content)


def weights(house: House, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of the student with other weights under its description, as of a version without digests."""
    tensors = load_file(house.tables.root / "student/model.safetensors")
    change(tensors)
    save_file(tensors, house.folder / "w")
    description = json.loads((house.tables.root / "student/model.json").read_text())
    del description["weights"]
    return house.copy(
        "student", model__json=json.dumps(description), model__safetensors=(house.folder / "w").read_bytes()
    )


def set_first(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        next(iter(tensors.values())).view(-1)[0] = value

    return change


def to_type(dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})


def with_column(values: Any, name: str = "source") -> Callable[[pa.Table], pa.Table]:
    return lambda t: t.set_column(t.column_names.index(name), name, values(t))
