"""Bad input, in one table: what a user gives, and what the one sentence has to say about it.

Each case runs a command or a script as a user does. It must end with status 2 and one error on standard error, without
a traceback. The error names the file or option and says what was found, what was expected, and what to do, as far as
these can be known; the words of each case are looked for.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
import torch

from retort import cli
from retort.config import Autoregressive, Vanilla
from retort.data.tables import CORPUS
from retort.data.vocabulary import Vocabulary
from retort.export.exporting import export_system
from retort.workflow.scripting import run_script
from tests.unit.fakes_bad_input import (
    Given,
    House,
    archive,
    command,
    config,
    cut,
    encoding,
    export,
    fairytale,
    fifo,
    flipped,
    foreign_parquet,
    loop,
    memory,
    model,
    on_location,
    on_top,
    other_texts,
    outputs,
    packed,
    patched_zip,
    saved,
    set_first,
    shard,
    table,
    text,
    to_type,
    token,
    training,
    translating,
    weights,
    with_column,
    with_pipe,
)
from tests.unit.fakes_runs import SHAPE, TEACHER, Tables, make_tables
from tests.unit.fakes_training import small_vocabulary
from workflow_scripts import (
    count_ngrams,
    gather_distilled,
    prepare_corpus,
    score,
    train_vocabulary,
    translate,
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    tables = make_tables(tmp_path_factory.mktemp("bad"))
    vocabulary = Vocabulary.load(tables.vocabulary)
    saved(tables.root / "teacher", Autoregressive(name="autoregressive"), vocabulary)
    saved(tables.root / "student", Vanilla(name="vanilla"), vocabulary)
    saved(
        tables.root / "foreign",
        Autoregressive(name="autoregressive"),
        small_vocabulary(tables.root / "v", [f"{a}{b} {b}{a} {a}" for a in "abcdefghijk" for b in "lmnopqrstuv"]),
    )
    export_system(tables.root / "student", tables.root / "bundle")
    return tables


HEADER = {"table": CORPUS.name, "version": CORPUS.version, "provenance": {}}
COMMAND: dict[str, Any] = {"kind": "command", "arguments": ["cat"]}
BOMB = "a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))
QUESTIONS = b"question_id,question,answer1,cor_section\n"

CASES: dict[str, tuple[Given, tuple[str, ...]]] = {
    # -- configurations: what YAML cannot hold
    "yaml: open bracket": (config("name: [run"), ("my.yaml", "line 1", "expected ',' or ']'")),
    "yaml: tab": (config("a:\n\tb: 1"), ("my.yaml", "line 2", "indent with spaces, not tabs")),
    "yaml: two documents": (config("a: 1\n---\nb: 1"), ("my.yaml", "line 2", "a second document", "expected one")),
    "yaml: NUL": (config("a: \0"), ("my.yaml", "line 1", "U+0000", "remove it")),
    "yaml: not UTF-8": (config(b"a: \xff"), ("my.yaml", "0xFF", "save it as UTF-8")),
    "yaml: list as key": (config("? [a]\n: b"), ("my.yaml", "a key must be text, found a list")),
    "yaml: no as key": (config("a:\n  no: 1"), ("my.yaml", "line 2", "read as False", "quote it")),
    "yaml: date": (config("a: 2020-99-99"), ("my.yaml", "'2020-99-99' is not a date", "quote it")),
    "yaml: python tag": (config("a: !!python/name:os.system"), ("my.yaml", "tag", "not allowed")),
    "yaml: deep": (config("a: " + "[" * 3000), ("my.yaml", "more than 50 levels")),
    "yaml: bomb": (
        config(BOMB),
        ("my.yaml", "aliases expand to more than"),
    ),
    "yaml: key twice": (config("a: 1\na: 2"), ("my.yaml", "line 2", "'a' appears twice")),
    "yaml: a list": (config("- 1"), ("my.yaml", "expected a mapping of keys", "found a list")),
    "yaml: empty": (config(""), ("my.yaml", "expected a mapping of keys", "found nothing")),
    "yaml: too large": (config(b"a: " + b"x" * 2**23), ("my.yaml", "more than 8 MiB")),
    "config: absent": (command("check", "absent.yaml"), ("absent.yaml", "no such file; expected a configuration")),
    "config: a directory": (command("check", "/"), ("/", "directory")),
    "config: includes itself": (config("include: [my.yaml]"), ("my.yaml", "includes itself", "remove one include")),
    "config: includes nothing": (config("include: [no.yaml]"), ("my.yaml", "no file", "no.yaml", "relative to")),
    "config: include is text": (config("include: no.yaml"), ("my.yaml", "must be a list of paths, found 'no.yaml'")),
    # -- configurations: keys and values
    "config: unknown key": (on_top({"studnets": {}}), ("my.yaml", "studnets", "unknown key", "did you mean students?")),
    "config: a section is a number": (on_top({"training": 5}), ("training", "must be a section of keys, found 5")),
    "config: a kind for a section": (on_top({"corpus": "generated"}), ("corpus", "must be a section of keys, found")),
    "config: infinite": (on_top({"training": {"learning_rate": float("inf")}}), ("training.learning_rate", "finite")),
    "config: nan": (on_top({"training": {"weight_decay": float("nan")}}), ("training.weight_decay", "finite")),
    "config: text for a number": (on_top({"seeds": ["1"]}), ("seeds[0]", "found '1'")),
    "config: true for a number": (on_top({"seeds": [True]}), ("seeds[0]", "found True")),
    "config: a seed twice": (on_top({"seeds": [1, 1]}), ("seeds", "repeats a seed; give each once")),
    "config: huge layers": (on_top({"model": {"encoder_layers": 10**9}}), ("model.encoder_layers", "found 1000000000")),
    "config: huge model": (on_top({"model": {"d_model": 10**9}}), ("model.d_model", "found 1000000000")),
    "config: heads": (on_top({"model": {"d_model": 10, "heads": 3}}), ("model", "10", "3")),
    "config: huge corpus": (on_top({"corpus": {"kind": "generated", "train_pairs": 10**15}}), ("corpus.train_pairs",)),
    "config: huge vocabulary": (on_top({"vocabulary": {"size": 10**12}}), ("vocabulary.size", "found 1000000000000")),
    "config: huge integer": (on_top({"seeds": [10**30]}), ("my.yaml", "line 5", "an integer of more than 30 digits")),
    "config: long name": (on_top({"name": "x" * 300}), ("name", "has 300 characters; use at most 100")),
    "config: name with a slash": (
        on_top({"name": "../x"}),
        ("name", "'../x' is not allowed here; use letters, digits"),
    ),
    "config: name of nothing": (on_top({"name": ""}), ("name", "is not allowed here")),
    "config: long student": (
        on_top({"students": {"s" * 300: {"objective": {"name": "ctc"}}}}),
        ("students", "at most 100"),
    ),
    "config: em999": (on_top({"students": {"em" + "9" * 5000: {"objective": {"name": "ctc"}}}}), ("students",)),
    "config: unknown objective": (
        on_top({"students": {"a": {"objective": {"name": "cct"}}}}),
        ("students.a.objective.name", "did you mean ctc?"),
    ),
    "config: unknown metric": (
        on_top({"evaluation": {"metrics": ["BLUE"]}}),
        ("evaluation.metrics[0]", "did you mean BLEU?"),
    ),
    "config: unknown corpus": (on_top({"corpus": {"kind": "texts"}}), ("corpus.kind", "did you mean text?")),
    "config: no file": (
        on_top({"vocabulary": {"path": "absent"}}),
        ("vocabulary.path", "absent; expected one with source.model"),
    ),
    "config: no vocabulary in it": (on_top({"vocabulary": {"path": "."}}), ("vocabulary.path", ". lacks source.model")),
    "config: no checkpoint": (
        on_top({"teacher": {"objective": {"name": "autoregressive"}, "checkpoint": "x" * 300}}),
        ("teacher.checkpoint", "there is no directory"),
    ),
    "config: no table": (on_top({"distillation": {"corpus": "y" * 5000}}), ("distillation.corpus", "no file")),
    "config: no heads": (on_top({"model": {"heads": 0}}), ("model.heads", "found 0")),
    "config: no n-grams": (
        on_top(
            {"students": {"a": {"objective": {"name": "ctc"}, "searches": {"b": {"kind": "ctc_beam", "table": "x"}}}}}
        ),
        ("students.a.searches.b.table", "no file x; expected a table of n-grams"),
    ),
    "config: no text to count": (
        on_top(
            {
                "students": {
                    "a": {
                        "objective": {"name": "ctc"},
                        "searches": {
                            "b": {"kind": "ctc_collapse"},
                            "c": {"kind": "ctc_beam", "ngrams": {"texts": ["absent.de", "a{b}.de"]}},
                        },
                    }
                }
            }
        ),
        ("students.a.searches.c.ngrams.texts[0]", "absent.de: no such file", "texts[1]", "'a{b}.de' holds a brace"),
    ),
    "config: repetitions": (
        on_top({"external_teacher": COMMAND | {"filters": {"chatter": ["x{99999999999}"]}}}),
        ("external_teacher.filters.chatter[0]", "is not a regular expression", "too large"),
    ),
    "config: deep pattern": (
        on_top({"external_teacher": COMMAND | {"filters": {"chatter": ["(" * 9999]}}}),
        ("external_teacher.filters.chatter[0]", "is not a regular expression"),
    ),
    "config: port": (
        on_top(
            {"external_teacher": {"kind": "openai", "base_url": "http://h:99999", "model": "m", "prompt": "{source}"}}
        ),
        ("external_teacher.base_url", "http://h:99999", "Port out of range"),
    ),
    "config: a link to itself": (lambda h: [cli, "check", loop(h)], ("loop", "symbolic link")),
    "config: password": (
        on_top({"corpus": {"kind": "text", "train": {"source": [{"location": "http://me:hidden@h/a"}], "target": []}}}),
        ("corpus.train.source[0]", "http://***@h/a holds a password", "environment variable"),
    ),
    # -- texts
    "text: not UTF-8": (
        text(b"a\nb\xff\n"),
        ("train.src", "line 2, byte 3", "0xff", "expected UTF-8: convert the file"),
    ),
    "text: UTF-16": (text("a b\n".encode("utf-16")), ("train.src", "UTF-16", "expected UTF-8: convert it first")),
    "text: fewer lines": (text(b"a\nb\n"), ("train.src has 2 lines and", "has 1; expected as many")),
    "text: no column": (
        text(b"a\n", column=1),
        ("train.src", "line 1: no column 1: 1 tab-separated", "correct the line"),
    ),
    "text: checksum": (
        text(b"a\n", sha256="0" * 64),
        ("train.src", "SHA-256", "expected 000", "correct the file or the sha256"),
    ),
    "text: empty": (text(b"\n"), ("no pair of train is left after cleaning", "1 empty")),
    "text: gzip cut": (text(gzip.compress(b"a" * 999)[:20], "a.gz"), ("a.gz", "cannot be read", "and a whole file")),
    "text: gzip damaged": (
        text(gzip.compress(b"a b\n")[:-5] + b"12345", "a.gz"),
        ("a.gz", "cannot be read", "expected"),
    ),
    "text: an archive": (text(archive({"a": b"a"}, "zip"), "a.zip"), ("a.zip", "an archive; set member")),
    "text: a directory": (
        lambda h: [
            prepare_corpus,
            "--corpus",
            json.dumps({"kind": "text", "carve": {}, "train": {"source": str(h.folder), "target": "any"}}),
            "--output",
            h.folder / "o",
        ],
        ("a directory; expected a text",),
    ),
    "text: a pipe": (text(fifo), ("pipe: a pipe or a device, not a file; expected a text",)),
    "text: a link to itself": (text(loop), ("loop: a symbolic link to nothing; expected a text",)),
    "text: UTF-16 without a mark": (
        text("a b\n".encode("utf-16-le")),
        ("train.src: UTF-16 without a byte order mark", "expected UTF-8: convert it first"),
    ),
    "text: UTF-32": (text("a b\n".encode("utf-32")), ("UTF-32 by its first four bytes",)),
    "text: a PDF": (text(b"%PDF-1.4\nabc\n"), ("train.src: begins as a PDF document", "convert it first")),
    "text: a RAR archive": (text(b"Rar!\x1a\x07\0abc"), ("train.src: begins as a RAR archive",)),
    "text: a table": (text(foreign_parquet()), ("train.src: begins as a Parquet file",)),
    "text: compressed twice": (
        text(gzip.compress(gzip.compress(b"a b\n")), "a.gz"),
        ("a.gz: begins as data compressed with gzip", "compressed at most once"),
    ),
    "text: after gzip": (text(gzip.compress(b"a b\n") + b"more", "a.gz"), ("a.gz: cannot be read",)),
    "text: after bzip2": (text(bz2.compress(b"a b\n") + b"more", "a.bz2"), ("a.bz2: cannot be read",)),
    "text: after xz": (text(lzma.compress(b"a b\n") + b"more", "a.xz"), ("a.xz: cannot be read",)),
    "text: xz cut": (text(lzma.compress(b"a b\n" * 999)[:40], "a.xz"), ("a.xz: cannot be read: it ends before",)),
    "text: zstd cut": (text(b"\x28\xb5\x2f\xfd", "a.zst"), ("a.zst: cannot be read",)),
    "tmx: unknown encoding": (
        text(b'<?xml version="1.0" encoding="klingon"?><tmx/>', layout="tmx", field="en"),
        ("train.src: line 1: unknown encoding: klingon; convert it to UTF-8",),
    ),
    "tmx: Shift JIS": (
        text(b'<?xml version="1.0" encoding="shift_jis"?><tmx/>', layout="tmx", field="en"),
        ("train.src: line 1: multi-byte encodings are not supported",),
    ),
    "tmx: XXE": (
        memory("<seg>&a;</seg>", '<!DOCTYPE tmx [<!ENTITY a SYSTEM "file:///etc/passwd">]>'),
        ("train.src: line 1: declares an entity",),
    ),
    "tmx: entity of an outer DTD": (
        memory("<seg>&uuml;ber</seg>", '<!DOCTYPE tmx SYSTEM "tmx14.dtd">'),
        ("train.src: line 1: &uuml; is declared nowhere in the file; write the character itself",),
    ),
    "tmx: deep": (memory("<hi>a" * 9999), ("train.src: line 1: more than 100 elements within each other",)),
    "tmx: long text": (memory(f"<seg>{'a' * 2**25}a</seg>"), ("train.src: line 1: a text of more than 32 MiB",)),
    "tmx: no such language": (memory("<seg>a</seg>", language="d\ne"), (r"the languages of this TMX are 'd\ne'",)),
    "text: JSON": (
        text(b"{\n", layout="json", field="a"),
        ("train.src", "line 1: no text 'a'", "expected a JSON object"),
    ),
    "text: JSON without the field": (
        text(b'{"b": 1}\n', layout="json", field="a"),
        ("line 1: no text 'a' (found the fields 'b')",),
    ),
    "text: JSON number": (
        text(b'{"a": 1}\n', layout="json", field="a"),
        ("line 1: no text 'a' (found a number)", "expected a JSON object"),
    ),
    "text: JSON object for a text": (text(b'{"a": {"b": "c"}}\n', layout="json", field="a"), ("found an object)",)),
    "text: JSON null": (text(b"null\n", layout="json", field="a"), ("(found null where an object is expected)",)),
    "text: JSON path": (text(b'{"a": "x"}\n', layout="json", field="a.b"), ("(found a text where an object",)),
    "text: JSON array": (text(b"[\n{}]\n", layout="json", field="a"), ("line 1: no text 'a' (Expecting value",)),
    "text: JSON long key": (text(f'{{"{"k" * 5000}": 1}}\n'.encode(), layout="json", field="a"), ("found the fields",)),
    "text: JSON deep": (text(b'{"a": ' + b"[" * 99999 + b"\n", layout="json", field="a"), ("line 1: no text 'a'",)),
    "text: JSON key twice": (
        text(b'{"a": "x", "a": "y"}\n', layout="json", field="a"),
        ("line 1: no text 'a'", "twice"),
    ),
    "text: JSON surrogate": (
        text(b'{"a": "\\ud800"}\n', layout="json", field="a"),
        ("line 1", "surrogate", "correct the"),
    ),
    "text: JSON list": (text(b"[1]\n", layout="json", field="a"), ("line 1: no text 'a'", "expected a JSON object")),
    "text: long line": (
        text(gzip.compress(b"x" * 2**25 + b"xx"), "a.gz"),
        ("a.gz: line 1: more than 32 MiB", "split the line"),
    ),
    # -- archives
    "archive: no member": (packed({"other": b"a\n"}), ("a.zip, member text", "no such member", "correct the member")),
    "archive: no member in tar": (packed({"other": b"a\n"}, "tar"), ("a.tar, member text", "no such member")),
    "archive: a link": (packed({"text": b"->/etc/passwd"}, "tar"), ("a.tar, member text: no such member",)),
    "archive: none": (packed({}, "tar", member="../text"), ("a.tar, member ../text: no such member",)),
    "archive: member of a text": (text(b"a b\n", member="text"), ("train.src, member text: cannot be read", "archive")),
    "archive: cut": (
        text(archive({"text": b"a b\n" * 999}, "tar")[:1500], "a.tar", member="text"),
        ("a.tar, member text", "cannot be read"),
    ),
    "archive: encrypted": (
        text(patched_zip(6, 1), "a.zip", member="text"),
        ("a.zip, member text: cannot be read", "encrypted"),
    ),
    "archive: unknown method": (
        text(patched_zip(8, 99), "a.zip", member="text"),
        ("a.zip, member text: cannot be read", "compression"),
    ),
    "archive: broken zip": (
        text(b"PK\x03\x04" + b"x" * 99, "a.zip", member="text"),
        ("a.zip, member text", "cannot be read"),
    ),
    "archive: no split": (
        packed({}, member="train", layout="fairytaleqa", field="source"),
        ("a.zip", "no questions of split 'train'"),
    ),
    "archive: no such field": (
        packed({}, member="train", layout="fairytaleqa", field="x"),
        ("a.zip", "no field 'x'; use source or question"),
    ),
    "archive: no columns": (fairytale(b"a,b\n1,2\n"), ("a.zip", "has no column", "expected question_id")),
    "archive: no story": (fairytale(QUESTIONS + b"1,q,a,2\n"), ("question 1 is about section 2", "lacks")),
    "archive: not UTF-8": (fairytale(QUESTIONS + b"\xff,q,a,1\n"), ("a.zip", "a-questions.csv", "UTF-8")),
    "archive: short row": (fairytale(QUESTIONS + b"1,q\n"), ("a.zip", "a-questions.csv", "line 2")),
    "archive: open quote": (fairytale(QUESTIONS + b'1,"q,a,1\n'), ("a.zip", "a-questions.csv")),
    "archive: long field": (
        fairytale(QUESTIONS + b"1," + b"q" * 150_000 + b",a,1\n"),
        ("a.zip", "a-questions.csv", "field"),
    ),
    "archive: no zip": (
        text(b"a\n", "a.zip", member="train", layout="fairytaleqa", field="source"),
        ("a.zip", "not a zip"),
    ),
    # -- tables
    "table: absent": (
        encoding(lambda h: h.folder / "absent.parquet"),
        ("absent.parquet", "No such file", "an earlier stage"),
    ),
    "table: text": (
        encoding(lambda h: h.file("t.parquet", "text")),
        ("t.parquet", "not a readable Parquet file", "if a run wrote it, delete it"),
    ),
    "table: empty file": (encoding(lambda h: h.file("t.parquet", "")), ("t.parquet", "not a readable Parquet file")),
    "table: a directory": (encoding(lambda h: h.folder), ("Is a directory", "an earlier stage")),
    "table: cut": (
        encoding(lambda h: h.file("t.parquet", cut(h.tables.corpus / "train.parquet", 900))),
        ("t.parquet", "run the stage"),
    ),
    "table: a flipped bit": (
        encoding(lambda h: h.file("t.parquet", flipped(h.tables.corpus / "train.parquet", 400))),
        ("t.parquet", "run the stage"),
    ),
    "table: foreign": (
        encoding(lambda h: h.file("t.parquet", foreign_parquet())),
        ("t.parquet", "without Retort's header"),
    ),
    "table: header no JSON": (table(lambda t: t, b"{"), ("table.parquet", "header in it is damaged", "run the stage")),
    "table: header a list": (table(lambda t: t, b"[]"), ("table.parquet", "header in it is damaged")),
    "table: header empty": (table(lambda t: t, b"{}"), ("table.parquet", "header in it is damaged")),
    "table: header deep": (table(lambda t: t, b"[" * 99999), ("table.parquet", "header in it is damaged")),
    "table: version": (
        table(lambda t: t, json.dumps(HEADER | {"version": 99}).encode()),
        ("table.parquet", "version 99, expected", "delete it"),
    ),
    "table: version a list": (
        table(lambda t: t, json.dumps(HEADER | {"version": []}).encode()),
        ("table.parquet", "header in it is damaged"),
    ),
    "table: another one": (
        encoding(lambda h: h.tables.encoded / "train.parquet"),
        ("holds table encoded", "expected corpus"),
    ),
    "table: no column": (table(lambda t: t.drop_columns(["source"])), ("table.parquet", "without column(s) source")),
    "table: another type": (table(with_column(lambda t: t["id"])), ("'source' is int64, expected string",)),
    "table: null": (table(with_column(lambda t: pa.nulls(len(t), pa.string()))), ("'source' is null in row 0",)),
    "table: column twice": (table(lambda t: t.append_column("source", t["source"])), ("table.parquet", "source")),
    "outputs: null in a list": (
        token(3, None),
        ("outputs.parquet: column 'tokens' has a list with a null in row 3", "correct it"),
    ),
    "outputs: null far down": (token(200, None), ("outputs.parquet: column 'tokens'", "a null in row 200")),
    "outputs: negative token": (token(3, -7), ("outputs.parquet: token -7 of id 3 is negative; decode",)),
    "outputs: negative far down": (token(200, -7), ("outputs.parquet: token -7 of id 200 is negative",)),
    "outputs: other texts": (
        outputs(other_texts),
        ("outputs.parquet: the tokens of id 150, 'other ", "decode to", "set vocabulary.path to that one"),
    ),
    # -- checkpoints
    "model: absent": (model(lambda h: h.folder / "no"), ("no: no such directory; expected",)),
    "model: no weights": (
        model(lambda h: h.copy("student", model__safetensors=None)),
        ("model.safetensors", "No such file"),
    ),
    "model: no vocabulary": (
        model(lambda h: h.copy("student", source__model=None)),
        ("source.model", "cannot be read"),
    ),
    "model: text for a vocabulary": (
        model(lambda h: h.copy("student", source__model="x" * 99)),
        ("source.model", "sentencepiece"),
    ),
    "model: another vocabulary": (
        model(lambda h: h.copy("student", source__model=cut(h.tables.root / "foreign/source.model", 10**6))),
        ("vocabulary is not",),
    ),
    "model: JSON cut": (model(lambda h: h.copy("student", model__json="{")), ("model.json", "cannot be read")),
    "model: JSON list": (
        model(lambda h: h.copy("student", model__json="[]")),
        ("model.json", "expected a JSON object"),
    ),
    "model: JSON deep": (model(lambda h: h.copy("student", model__json="[" * 99999)), ("model.json", "cannot be read")),
    "model: JSON not UTF-8": (
        model(lambda h: h.copy("student", model__json=b"\xff")),
        ("model.json", "cannot be read"),
    ),
    "model: JSON empty": (model(lambda h: h.copy("student", model__json="{}")), ("vocabulary is not",)),
    "model: no objective": (
        model(lambda h: h.described(objective=None)),
        ("model.json", "not a description of a model"),
    ),
    "model: unknown objective": (
        model(lambda h: h.described(objective={"name": "x"})),
        ("model.json", "not a description of a model"),
    ),
    "model: another objective": (model(lambda h: h.described(objective={"name": "ctc"})), ("weight", "expected")),
    "model: huge": (
        model(lambda h: h.described(model={"d_model": 8192, "heads": 2})),
        ("model.safetensors: weight", "expected"),
    ),
    "model: many layers": (model(lambda h: h.described(model=SHAPE | {"encoder_layers": 900})), ("model.safetensors",)),
    "model: weights cut": (
        model(lambda h: h.copy("student", model__safetensors=cut(h.tables.root / "student/model.safetensors", 500))),
        ("model.safetensors", "not readable as safetensors", "copy the checkpoint again"),
    ),
    "model: weights text": (
        model(lambda h: h.copy("student", model__safetensors="x" * 99)),
        ("model.safetensors", "not readable"),
    ),
    "model: a flipped bit": (
        model(lambda h: h.copy("student", model__safetensors=flipped(h.tables.root / "student/model.safetensors", -9))),
        ("model.safetensors", "another SHA-256", "copy the checkpoint again"),
    ),
    "model: pickled": (
        model(lambda h: h.copy("student", model__safetensors=b"\x80\x04K\x01.")),
        ("model.safetensors", "not readable"),
    ),
    **{
        f"model: a pipe for {name}": (
            model(partial(with_pipe, name)),
            (f"{name}: ", "a pipe or a device, not a file"),
        )
        for name in ("model.json", "model.safetensors", "source.model", "target.model")
    },
    "table: a pipe": (encoding(fifo), ("pipe: cannot be read (a pipe or a device, not a file)",)),
    "model: nan": (
        model(lambda h: weights(h, set_first(float("nan")))),
        ("model.safetensors: weight", "is not finite"),
    ),
    "model: infinite": (model(lambda h: weights(h, set_first(float("inf")))), ("is not finite; train or copy",)),
    "model: int8": (model(lambda h: weights(h, to_type(torch.int8))), ("is I8", "expected F32")),
    "model: no weight": (model(lambda h: weights(h, lambda w: w.popitem() and None)), ("is absent, expected F32",)),
    "model: surplus weight": (
        model(lambda h: weights(h, lambda w: w.update(x=torch.zeros(1)))),
        ("weight x is F32 [1], expected absent",),
    ),
    # -- bundles
    "bundle: JSON cut": (model(lambda h: h.copy("bundle", bundle__json="{")), ("bundle.json", "cannot be read")),
    "bundle: JSON deep": (
        model(lambda h: h.copy("bundle", bundle__json="[" * 99999)),
        ("bundle.json", "cannot be read"),
    ),
    "bundle: version": (
        model(lambda h: h.copy("bundle", bundle__json='{"format": 9}')),
        ("bundle.json", "format 9", "export the system again"),
    ),
    "bundle: half a description": (
        model(lambda h: h.copy("bundle", bundle__json='{"format": 1}')),
        ("bundle.json", "export the system again"),
    ),
    "bundle: another vocabulary": (
        model(lambda h: h.copy("bundle", source__model="x")),
        ("source.model", "not the file that was exported"),
    ),
    "bundle: no vocabulary": (
        model(lambda h: h.copy("bundle", source__model=None)),
        ("source.model", "cannot be read", "export"),
    ),
    "bundle: no description": (
        model(lambda h: h.copy("bundle", bundle__json=None)),
        ("bundle: has encoder.onnx, but no model.json or bundle.json", "copy all of the directory"),
    ),
    "bundle: a teacher": (
        model(lambda h: h.tables.root / "bundle", "--teacher", "x"),
        ("asks no teacher; leave it out",),
    ),
    "bundle: precision": (
        model(lambda h: h.tables.root / "bundle", "--precision", "bfloat16"),
        ("exported in float32", "leave it out"),
    ),
    # -- command lines
    "command: none": (command(), ("the following arguments are required: command",)),
    "command: unknown": (command("tranlsate"), ("invalid choice: 'tranlsate'",)),
    "command: no model": (command("translate"), ("the following arguments are required: --model",)),
    "command: threads": (translating("--threads", 2**31), ("--threads", "is above")),
    "command: batch": (translating("--batch-size", 0), ("--batch-size: 0 is below 1",)),
    "command: search": (
        translating("--search", '{"kind": "x"}'),
        ("--search", "kind: unknown value 'x'; valid: "),
    ),
    "command: option of a search": (
        translating("--search", "argmax lenght_beam=2"),
        ("--search argmax lenght_beam=2: lenght_beam: unknown key; did you mean length_beam?",),
    ),
    "command: search of another model": (translating("--search", '{"kind": "beam"}'), ("--search beam", "decodes by")),
    "command: input": (
        translating("--input", "absent.txt"),
        ("--input absent.txt", "cannot be read", "expected a text"),
    ),
    "command: input a directory": (translating("--input", "/"), ("--input /", "Is a directory")),
    "command: no teacher": (
        translating("--search", '{"kind": "length_parallel"}'),
        ("none is given; give the directory",),
    ),
    "command: why of nothing": (command("why", "absent"), ("absent",)),
    "command: why without a configuration": (
        command("why", "results/x/corpus/train.parquet", "--configfile", "absent.yaml"),
        ("results/x/corpus/train.parquet: its run cannot be planned: ", "absent.yaml: no such file; expected"),
    ),
    # -- exports
    "export: absent": (export("--check", "absent", name="student"), ("absent: cannot be read",)),
    "export: an exported system": (export(name="bundle"), ("bundle: an exported system; expected the checkpoint",)),
    "export: nothing to check": (export("--check", "/dev/null"), ("/dev/null: no line in it",)),
    "script: long n-grams": (
        lambda h: [
            count_ngrams,
            "--vocabulary",
            h.tables.vocabulary,
            "--order",
            9,
            "--most",
            9,
            "--output",
            h.folder / "n",
        ],
        ("--order 9: a table holds n-grams of at most 4 tokens",),
    ),
    "export: no model": (export(name="zzz"), ("zzz: no such directory; expected",)),
    "export: a name that is nearly right": (export(name="studnt"), ("studnt/model.json", "did you mean", "/student?")),
    "export: engine": (export("--format", "ctranslate2"), ("--format ctranslate2 cannot",)),
    "export: references alone": (export("--references", "x"), ("give both",)),
    "export: into a file": (
        lambda h: [cli, "export", "--model", h.tables.root / "student", "--output", h.file("f", "x")],
        ("f",),
    ),
    "export: into a full folder": (
        lambda h: [cli, "export", "--model", h.tables.root / "student", "--output", h.tables.vocabulary],
        ("vocabulary",),
    ),
    "export: below a file": (
        lambda h: [cli, "export", "--model", h.tables.root / "student", "--output", h.file("f", "x") / "b"],
        ("f: File exists; choose another",),
    ),
    # -- scripts by hand
    "script: shard beyond": (
        shard("--shard", 5, "--shards", 2),
        ("train.parquet", "no shard 5 of 2; number them from 0 to 1"),
    ),
    "script: negative shard": (shard("--shard", -1, "--shards", 2), ("train.parquet", "no shard -1 of 2")),
    "script: no shards": (shard("--shard", 0, "--shards", 0), ("--shards", "0")),
    "script: foreign teacher": (
        shard("--shard", 0, "--shards", 1, "--checkpoint", "absent"),
        ("absent/model.json", "cannot be read"),
    ),
    "script: system no JSON": (training("{"), ("--system", "Invalid JSON")),
    "script: unknown key": (training({**TEACHER, "modle": {}}), ("--system", "modle")),
    "script: no number": (training(seed="x"), ("--seed", "'x' is no whole number")),
    "script: another vocabulary": (
        training(vocabulary=lambda h: h.tables.root / "foreign"),
        ("vocabulary", "train.parquet"),
    ),
    "script: threads": (training(threads=10**12), ("--threads",)),
    "script: negative seed": (training(seed=-1), ("--seed: -1 is not between 0 and 2^63 - 1",)),
    "script: long seed": (training(seed=2**70), ("--seed", "is not between")),
    "script: no time": (training(time_limit=0), ("--time-limit: 0 is no number above 0",)),
    "script: time of no number": (training(time_limit="nan"), ("--time-limit: nan is no number above 0",)),
    "script: no vocabulary": (
        training(vocabulary=lambda h: h.folder),
        ("source.model", "expected a sentencepiece model"),
    ),
    "script: vocabulary too large": (
        lambda h: [
            train_vocabulary,
            "--vocabulary",
            '{"size": 9000000}',
            "--corpus",
            h.tables.corpus / "train.parquet",
            "--output",
            h.folder / "v",
        ],
        ("9000000",),
    ),
    "script: output below a file": (
        lambda h: [
            prepare_corpus,
            "--corpus",
            '{"kind": "generated", "train_pairs": 2}',
            "--output",
            h.file("f", "") / "o",
        ],
        ("Not a directory",),
    ),
    "script: no translations": (
        lambda h: [
            gather_distilled,
            "--shards",
            h.tables.corpus / "train.parquet",
            "--train",
            h.tables.encoded / "train.parquet",
            "--vocabulary",
            h.tables.vocabulary,
            "--output-translations",
            h.folder / "a",
            "--output-encoded",
            h.folder / "b",
        ],
        ("holds table corpus", "expected translations"),
    ),
    "script: no test set": (
        lambda h: [
            score,
            "--evaluation",
            "{}",
            "--translations",
            h.tables.corpus / "train.parquet",
            "--tests",
            "test.x.parquet",
            "--output",
            h.folder / "s",
        ],
        ("",),
    ),
    "script: translations of no model": (
        lambda h: [
            translate,
            "--checkpoint",
            h.folder,
            "--search",
            '{"kind": "argmax"}',
            "--system",
            "a",
            "--seed",
            1,
            "--search-name",
            "a",
            "--tests",
            h.tables.test,
            "--output",
            h.folder / "t",
        ],
        ("model.json", "cannot be read"),
    ),
    # -- downloads
    "download: scheme": (on_location("ftp://host/a"), ("ftp://host/a", "expected an http or https address")),
    "download: no host": (on_location("http:///a"), ("an address without a host",)),
    "download: no address": (on_location("http://[::1"), ("cannot be read; expected https://host/path",)),
    "download: nobody there": (on_location("http://127.0.0.1:1/a"), ("http://127.0.0.1:1/a: the download failed",)),
    "download: variable": (on_location("http://h/${NOT_SET_AT_ALL}"), ("no NOT_SET_AT_ALL; set it",)),
    "download: token": (on_location("http://h/a?token=hidden"), ("a?token=*** holds a password or key",)),
}


LONGEST = 1000
"""Characters of a line of an error: what was given may be longer, and is cut."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_one_clear_error(
    name: str, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given, words = CASES[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    what, *arguments = given(House(tables, tmp_path))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as end:
        run(what, list(map(str, arguments)), monkeypatch)
    errors = capfd.readouterr().err
    assert end.value.code == 2, errors
    assert "Traceback" not in errors and "hidden" not in errors
    (sentence,) = [part for part in errors.split("error: ")[1:] if part] or [""]
    for word in words:
        assert word in sentence, sentence
    assert max(map(len, sentence.splitlines())) <= LONGEST, sentence
    left = [path for path in set(tmp_path.rglob("*")) - before if path.is_file() and path.parent.name != "state"]
    assert not left, left


def run(what: Any, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if what is cli:
        monkeypatch.setattr(sys, "argv", ["retort", *arguments])
        with open("/dev/null") as nothing:
            monkeypatch.setattr(sys, "stdin", nothing)
            return cli.main()
    assert isinstance(what, ModuleType)
    return run_script(what.parser(), what.main, arguments)


def test_there_are_enough() -> None:
    assert len(CASES) >= 150
