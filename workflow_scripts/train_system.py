"""Train one system with one seed: a checkpoint and its training log."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from retort.config import Data, SearchSection, System
from retort.data.batches import EncodedCorpus
from retort.data.provenance import file_digest, provenance, value_digest
from retort.data.tables import ENCODED, MIXED
from retort.data.teacher_labels import StoredLabels
from retort.data.vocabulary import Vocabulary
from retort.errors import NotFinite, RetortError
from retort.models.base import EncoderDecoder
from retort.models.build import build_model
from retort.models.checkpoint import WEIGHTS, load_teacher, save_checkpoint, weights_digest
from retort.models.kernels import reseed_dropout
from retort.training.device import claim_devices, describe_device, precision, prepare_device
from retort.training.distributed.launching import launch
from retort.training.distributed.processes import Processes, is_member, join_processes
from retort.training.interruption import Interruption
from retort.training.log import write_log
from retort.training.loop import Result, Trainer
from retort.training.state import TrainingState
from retort.training.validation import Validator
from retort.training.warm_start import warm_start
from retort.training.weighting import samples_of_kinds, weighting_of
from retort.workflow import watchdog
from retort.workflow.arguments import threads
from retort.workflow.code import code_digest
from retort.workflow.imports import training_modules
from retort.workflow.scripting import deadline, run_script, section

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel

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
    arguments.add_argument("--start", type=Path, help="checkpoint that training.warm_start starts from")
    arguments.add_argument("--teacher", type=Path, help="checkpoint that an objective asks, such as imitation")
    arguments.add_argument("--agreement", type=Path, help="agreement table of a selective mixture's evaluator")
    arguments.add_argument("--labels", type=Path, help="labels table, for an objective that reads one")
    arguments.add_argument("--state", type=Path, required=True, help="directory of unfinished trainings' states")
    arguments.add_argument("--time-limit", type=float, help="minutes this job has; it stops before, with status 75")
    arguments.add_argument("--threads", type=threads, default=1, help="CPU threads, of all processes together")
    arguments.add_argument(
        "--processes",
        type=threads,
        default=1,
        help="processes that train together, one per GPU where there are GPUs",
    )
    arguments.add_argument("--output", type=Path, required=True, help="directory of the checkpoint")
    return arguments


def main(args: argparse.Namespace) -> None:
    if args.processes > 1 and not is_member():
        if reason := args.system.unshareable(args.processes):
            raise RetortError(reason)
        claim_devices(args.processes)
        launch(args.processes, sys.argv, parent_variable=watchdog.VARIABLE)
        return
    processes = join_processes()
    interruption = Interruption()
    with processes.guarded(), interruption.listening():
        train(args, processes, interruption)


def train(args: argparse.Namespace, processes: Processes, interruption: Interruption) -> None:
    """Build the model, identify the training, fit, and save. Only the first process saves."""
    device = prepare_device(max(1, args.threads // processes.count))
    dtype = precision(args.system.training.precision, device)
    vocabulary = Vocabulary.load(args.vocabulary)
    model = build(args, vocabulary, device)
    teacher = asked_teacher(args, vocabulary, device=device, dtype=dtype)
    identity = identify(args, vocabulary, teacher=teacher, device=device, dtype=dtype)
    trainer = prepare(
        args,
        model,
        vocabulary=vocabulary,
        teacher=teacher,
        identity=identity,
        dtype=dtype,
        processes=processes,
        interruption=interruption,
    )
    try:
        result = trainer.run(args.output / "events")
    except NotFinite as error:
        raise NotFinite(f"{args.output}, objective {args.system.objective.name}: {error}") from None
    if result is not None:
        save(args, trainer, result=result, identity=identity, vocabulary=vocabulary, dtype=dtype)


def build(args: argparse.Namespace, vocabulary: Vocabulary, device: torch.device) -> EncoderDecoder:
    """The model, with the weights it starts from."""
    system = args.system
    torch.manual_seed(args.seed)
    reseed_dropout(args.seed)
    model = build_model(system.objective, system.model, vocabulary).to(device)
    if system.training.warm_start != "none":
        warm_start(model, args.start, system.objective, system.training, vocabulary=vocabulary)
    return model


def asked_teacher(
    args: argparse.Namespace, vocabulary: Vocabulary, device: torch.device, dtype: torch.dtype
) -> AutoregressiveModel | None:
    """The teacher that the objective asks, if it asks one."""
    objective = args.system.objective
    if not objective.needs_teacher:
        return None
    if args.teacher is None:
        raise RetortError(f"objective {objective.name} asks a teacher, but no --teacher was given")
    longest = args.system.model.max_length
    return load_teacher(args.teacher, args.vocabulary, vocabulary, device=device, dtype=dtype, max_length=longest)


@dataclass(frozen=True)
class Identity:
    """What decides the weights of a training."""

    settings: dict[str, Any]
    """The system's section, without keys that change no weight."""
    facts: dict[str, Any]
    """Seed, data, digests of the inputs and of the code."""
    key: str
    """Digest of all this, the precision and the kind of device; it names the training's state."""


def identify(
    args: argparse.Namespace,
    vocabulary: Vocabulary,
    teacher: AutoregressiveModel | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Identity:
    """The identity of this training."""
    settings = args.system.model_dump(mode="json")
    settings["training"].pop("checkpoint_minutes")
    modules = training_modules(args.system) | ({type(teacher).__module__} if teacher else set())
    code = code_digest([Path(__file__)], extra=sorted(modules))
    facts = {"seed": args.seed, "data": args.data, "inputs": input_digests(args, vocabulary), "code": code}
    key = value_digest(facts | {"system": settings, "dtype": str(dtype), "device": device.type})[:24]
    return Identity(settings, facts, key)


def input_digests(args: argparse.Namespace, vocabulary: Vocabulary) -> dict[str, str]:
    """Digests of everything that the training reads."""
    inputs = {"train": file_digest(args.train), "valid": file_digest(args.valid), "vocabulary": vocabulary.digest}
    if args.start:
        inputs["start"] = weights_digest(args.start)
    if args.system.objective.needs_teacher:
        inputs["teacher"] = weights_digest(args.teacher)
    if args.agreement:
        inputs["agreement"] = file_digest(args.agreement)
    if args.labels:
        inputs["labels"] = file_digest(args.labels)
    return inputs


def first_search(system: System) -> SearchSection:
    """The search that validates."""
    return next(iter(system.searches.values()))


def prepare(
    args: argparse.Namespace,
    model: EncoderDecoder,
    vocabulary: Vocabulary,
    teacher: AutoregressiveModel | None,
    identity: Identity,
    dtype: torch.dtype,
    processes: Processes,
    interruption: Interruption,
) -> Trainer:
    """The trainer, with its data read."""
    system, training = args.system, args.system.training
    table = MIXED if args.data == "mixed" else ENCODED
    drop_longer = training.long_pairs == "drop"
    corpus = EncodedCorpus.read(args.train, system.model.max_length, table, drop_longer, paired=True)
    validation = EncodedCorpus.read(args.valid, system.model.max_length, drop_longer=drop_longer)
    corpus.check_vocabulary(args.train, vocabulary)
    validation.check_vocabulary(args.valid, vocabulary)
    labels = None
    if system.objective.needs_labels:
        labels = stored_labels(args, corpus, inputs=identity.facts["inputs"])
    validator = Validator(
        validation,
        vocabulary,
        objective=system.objective,
        search=first_search(system),
        sentences=training.decode_sentences,
        tokens=training.batch_tokens,
        metrics=training.validation_metrics,
        others=samples_of_kinds(corpus, SAMPLED),
        tokenizer=training.tokenizer,
    )
    weighting = weighting_of(system, corpus, train=args.train, agreement=args.agreement, seed=args.seed)
    if system.mixture and system.mixture.kind == "selective":
        # one sample of each source has a weight
        planned = training.batch_tokens * len(corpus) / len(np.unique(corpus.ids))
        training = training.model_copy(update={"batch_tokens": round(planned)})
    return Trainer(
        model,
        system.objective,
        corpus=corpus,
        validator=validator,
        settings=training,
        seed=args.seed,
        dtype=dtype,
        state=TrainingState(args.state, identity.key),
        teacher=teacher,
        deadline=deadline(args.time_limit),
        weighting=weighting,
        labels=labels,
        processes=processes,
        interruption=interruption,
    )


def stored_labels(args: argparse.Namespace, corpus: EncodedCorpus, inputs: dict[str, str]) -> StoredLabels:
    """The labels of the training text. Raises RetortError if there are none, or if they are those of another text."""
    if args.labels is None:
        raise RetortError(f"objective {args.system.objective.name} reads stored labels, but no --labels was given")
    labels = StoredLabels.read(args.labels, args.system.objective.top_k)
    made_from = {name: inputs[name] for name in ("train", "vocabulary")}
    if args.teacher:
        made_from["teacher"] = weights_digest(args.teacher)
    labels.check(args.labels, corpus.ids, lengths=corpus.target.lengths, made_from=made_from)
    return labels


def save(
    args: argparse.Namespace,
    trainer: Trainer,
    result: Result,
    identity: Identity,
    vocabulary: Vocabulary,
    dtype: torch.dtype,
) -> None:
    """Write the checkpoint and the log, and remove the state unless it is to be kept."""
    settings = identity.settings
    device = describe_device(trainer.model.device)
    facts = provenance(**identity.facts, device=device, precision=str(dtype), settings=value_digest(settings))
    write_log(args.output / "training.parquet", result.rows, facts)
    description = {
        "objective": settings["objective"],
        "model": settings["model"],
        "search": first_search(args.system).model_dump(mode="json"),
        "data": args.data,
        "seed": args.seed,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "training_pairs": len(trainer.corpus),
        "long_pairs": trainer.corpus.dropped,
        "updates": result.updates,
        "epochs": result.epochs,
        "target_tokens": result.tokens,
        "train_seconds": result.seconds,
        "stopped_by": result.stopped_by,
        "averaged_updates": result.averaged_updates,
        "validation": result.scores,
        "warnings": result.warnings,
        "training": settings["training"],
        **{name: settings[name] for name in ("mixture", "self_paced") if settings[name]},
        "device": device,
        "processes": trainer.processes.count,
        "provenance": facts,
    }
    weights = trainer.optimiser.named_master(trainer.model)
    save_checkpoint(args.output, weights, description=description, vocabulary=vocabulary)
    trainer.state.finish(args.output / WEIGHTS)
    logging.info("stopped by %s after %d updates; validation %s", result.stopped_by, result.updates, result.scores)


if __name__ == "__main__":
    run_script(parser(), main)
