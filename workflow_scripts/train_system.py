"""Train one system with one seed: a checkpoint and its training log."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import get_args

import torch
from torch.distributed import is_torchelastic_launched

from retort.config import PRETRAINED, Data, Model, System
from retort.config.starts import config_differences
from retort.data.batches import EncodedCorpus
from retort.data.provenance import file_digest, provenance, value_digest
from retort.data.tables import ENCODED, MIXED
from retort.data.teacher_labels import StoredLabels
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.models.base import EncoderDecoder
from retort.models.build import build_model
from retort.models.checkpoint import (
    load_teacher,
    load_weights,
    read_description,
    read_weights,
    save_checkpoint,
)
from retort.models.kernels import reseed_dropout
from retort.training.device import claim_devices, describe_device, precision, prepare_device
from retort.training.distributed.launching import launch
from retort.training.distributed.processes import Processes, join_processes
from retort.training.log import write_log
from retort.training.loop import Trainer
from retort.training.state import TrainingState
from retort.training.validation import Validator
from retort.training.weighting import samples_of_kinds, weighting_of
from retort.workflow import watchdog
from retort.workflow.code import code_digest
from retort.workflow.imports import training_modules
from retort.workflow.scripting import deadline, run_script, section

SAMPLED = 500
"""Training pairs of each kind whose loss is logged at each validation, where there are kinds."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--system", type=section(System), required=True, help="a system of the config, as JSON")
    arguments.add_argument("--seed", type=int, required=True)
    arguments.add_argument("--data", choices=get_args(Data), required=True, help="what --train holds")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table, or a mixed one")
    arguments.add_argument("--valid", type=Path, required=True, help="encoded table")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--start", type=Path, help="checkpoint to start from, as training.warm_start says")
    arguments.add_argument("--teacher", type=Path, help="checkpoint that an objective asks, such as imitation")
    arguments.add_argument("--agreement", type=Path, help="agreement table of a selective mixture's evaluator")
    arguments.add_argument("--labels", type=Path, help="labels table, for an objective that reads one")
    arguments.add_argument("--state", type=Path, required=True, help="directory of unfinished trainings' states")
    arguments.add_argument("--time-limit", type=float, help="minutes this job has; it stops before, with status 75")
    arguments.add_argument("--keep-state", action="store_true", help="leave the state of the finished training")
    arguments.add_argument("--threads", type=int, default=1, help="CPU threads, of all processes together")
    arguments.add_argument(
        "--processes", type=int, default=1, help="that train together, each with a GPU of its own where there are GPUs"
    )
    arguments.add_argument("--output", type=Path, required=True, help="directory of the checkpoint")
    return arguments


def main(args: argparse.Namespace) -> None:
    if args.processes > 1 and not is_torchelastic_launched():
        if reason := args.system.unshareable(args.processes):
            raise RetortError(reason)
        claim_devices(args.processes)
        launch(args.processes, sys.argv, parent_variable=watchdog.VARIABLE)
        return
    processes = join_processes()
    with processes.lasting():
        train(args, processes)


def train(args: argparse.Namespace, processes: Processes) -> None:
    device, system = prepare_device(max(1, args.threads // processes.count)), args.system
    dtype = precision(system.training.precision, device)
    vocabulary = Vocabulary.load(args.vocabulary)
    torch.manual_seed(args.seed)
    reseed_dropout(args.seed)
    model = build_model(system.objective, system.model, vocabulary).to(device)
    if system.training.warm_start != "none":
        warm_start(model, args.start, system.training.warm_start, vocabulary)
    settings = system.model_dump(mode="json")
    settings["training"].pop("checkpoint_minutes")
    inputs = {name: file_digest(path) for name, path in (("train", args.train), ("valid", args.valid))}
    inputs["vocabulary"] = vocabulary.digest
    if args.start:
        inputs["start"] = file_digest(args.start / "model.safetensors")
    teacher = None
    if system.objective.needs_teacher:
        if args.teacher is None:
            raise RetortError(f"objective {system.objective.name} asks a teacher, but no --teacher was given")
        teacher = load_teacher(args.teacher, args.vocabulary, vocabulary, device, dtype)
        inputs["teacher"] = file_digest(args.teacher / "model.safetensors")
    if args.agreement:
        inputs["agreement"] = file_digest(args.agreement)
    if args.labels:
        inputs["labels"] = file_digest(args.labels)
    search = next(iter(system.searches.values()))
    modules = training_modules(system) | ({type(teacher).__module__} if teacher else set())
    code = code_digest([Path(__file__)], extra=sorted(modules))
    facts = {"seed": args.seed, "data": args.data, "inputs": inputs, "code": code}
    key = value_digest(facts | {"system": settings, "dtype": str(dtype), "device": device.type})[:24]
    table = MIXED if args.data == "mixed" else ENCODED
    corpus = EncodedCorpus.read(args.train, system.model.max_length, table)
    labels = stored_labels(args, corpus, inputs) if system.objective.needs_labels else None
    validator = Validator(
        EncodedCorpus.read(args.valid, system.model.max_length),
        vocabulary,
        system.objective,
        search,
        system.training.decode_sentences,
        system.training.batch_tokens,
        system.training.validation_metrics,
        samples_of_kinds(corpus, SAMPLED),
    )
    state = TrainingState(args.state, key)
    training, weighting = system.training, weighting_of(system, corpus, args.train, args.agreement, args.seed)
    if system.mixture and system.mixture.kind == "selective":
        # of each source's two samples one is left
        training = training.model_copy(update={"batch_tokens": 2 * training.batch_tokens})
    trainer = Trainer(
        *(model, system.objective, corpus, validator, training, args.seed, dtype, state, teacher),
        deadline=deadline(args.time_limit),
        keep_state=args.keep_state,
        weighting=weighting,
        labels=labels,
        processes=processes,
    )
    result = trainer.run(args.output / "events")
    if result is None:
        return
    parameters = sum(p.numel() for p in model.parameters())
    facts = provenance(**facts, device=describe_device(device), precision=str(dtype), settings=value_digest(settings))
    write_log(args.output / "training.parquet", result.rows, facts)
    weights = trainer.optimiser.named_master(model)
    description = {
        "objective": settings["objective"],
        "model": settings["model"],
        "search": search.model_dump(mode="json"),
        "data": args.data,
        "seed": args.seed,
        "parameters": parameters,
        "training_pairs": len(corpus),
        "updates": result.updates,
        "epochs": result.epochs,
        "target_tokens": result.tokens,
        "train_seconds": result.seconds,
        "stopped_by": result.stopped_by,
        "averaged_updates": result.averaged_updates,
        "validation": result.scores,
        "training": settings["training"],
        **{name: settings[name] for name in ("mixture", "self_paced") if settings[name]},
        "device": describe_device(device),
        "processes": processes.count,
        "provenance": facts,
    }
    save_checkpoint(args.output, weights, description, vocabulary)
    if args.keep_state:
        state.finish()
    else:
        state.remove()
    logging.info("stopped by %s after %d updates; validation %s", result.stopped_by, result.updates, result.scores)


def stored_labels(args: argparse.Namespace, corpus: EncodedCorpus, inputs: dict[str, str]) -> StoredLabels:
    """The labels of the training text; raises RetortError if there are none, or others."""
    if args.labels is None:
        raise RetortError(f"objective {args.system.objective.name} reads stored labels, but no --labels was given")
    labels = StoredLabels.read(args.labels, args.system.objective.top_k)
    made_from = {name: inputs[name] for name in ("train", "vocabulary")}
    if args.teacher:
        made_from["teacher"] = file_digest(args.teacher / "model.safetensors")
    labels.check(args.labels, corpus.ids, corpus.target.lengths, made_from)
    return labels


def warm_start(model: EncoderDecoder, start: Path | None, kind: str, vocabulary: Vocabulary) -> None:
    """Copy a checkpoint's embeddings and encoder (teacher_encoder), these, the decoder and what BANG has besides
    (pretrained, which learned no lengths), or all of its weights (previous, or a system's name); the layers that it
    lacks stay random."""
    if start is None:
        raise RetortError(f"training.warm_start is {kind}, but no --start was given")
    description = read_description(start)
    if description.get("vocabulary") != vocabulary.digest:
        raise RetortError(f"{start}: trained with another vocabulary; its weights are of no use here: train it again")
    for key, least, needed in config_differences(kind, model.config, Model.model_validate(description["model"])):
        raise RetortError(f"{start}: to start from it model.{key} must be {least}{needed!r}")
    weights = read_weights(start)
    if kind not in (PRETRAINED, "teacher_encoder"):
        return load_weights(model, weights, start)
    sides = ("encoder", "decoder") if kind == PRETRAINED else ("encoder",)
    stacks = tuple(f"{side}.layers." for side in sides)
    layers = {".".join(name.split(".")[:3]) + "." for name in weights if name.startswith(stacks)}
    prefixes = ["embeddings.", *(f"{side}.norm." for side in sides), *sorted(layers)]
    if kind == PRETRAINED:
        prefixes += [name for name in weights if name.startswith(model.own_weights)]
    for prefix in prefixes:
        load_weights(model, weights, start, prefix)
    return None


if __name__ == "__main__":
    run_script(parser(), main)
