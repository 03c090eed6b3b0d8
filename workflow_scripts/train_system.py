"""Train one system with one seed: a checkpoint and its training log."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from retort.config import Data, System
from retort.data.provenance import provenance, value_digest
from retort.data.vocabulary import Vocabulary
from retort.errors import NotFinite, RetortError
from retort.filenames import WEIGHTS
from retort.models.checkpoint import save_checkpoint
from retort.training.device import claim_devices, describe_device, precision, prepare_device
from retort.training.distributed.launching import launch
from retort.training.distributed.processes import Processes, is_member, join_processes
from retort.training.inputs import TrainingInputs, first_search
from retort.training.interruption import Interruption
from retort.training.log import write_log
from retort.training.loop import Result, Trainer
from retort.training.state import TrainingState
from retort.workflow import watchdog
from retort.workflow.arguments import minutes, seed, threads
from retort.workflow.code import code_digest
from retort.workflow.imports import training_modules
from retort.workflow.scripting import deadline, run_script, section


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--system", type=section(System), required=True, help="a system of the config, as JSON")
    arguments.add_argument("--seed", type=seed, required=True)
    arguments.add_argument("--data", choices=get_args(Data), required=True, help="what --train holds")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table, or a mixed one")
    arguments.add_argument("--valid", type=Path, required=True, help="encoded table")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--start", type=Path, help="checkpoint that training.warm_start starts from")
    arguments.add_argument("--teacher", type=Path, help="checkpoint that an objective asks, such as imitation")
    arguments.add_argument("--agreement", type=Path, help="agreement table of a selective mixture's evaluator")
    arguments.add_argument("--labels", type=Path, help="labels table, for an objective that reads one")
    arguments.add_argument("--state", type=Path, required=True, help="directory of unfinished trainings' states")
    arguments.add_argument("--time-limit", type=minutes, help="minutes this job has; it stops before, with status 75")
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
    inputs = TrainingInputs(
        args.data,
        args.train,
        args.valid,
        args.vocabulary,
        start=args.start,
        teacher=args.teacher,
        agreement=args.agreement,
        labels=args.labels,
    )
    vocabulary = Vocabulary.load(args.vocabulary)
    model = inputs.build_model(args.system, vocabulary, args.seed, device)
    teacher = inputs.load_teacher(args.system, vocabulary, device=device, dtype=dtype)
    modules = training_modules(args.system) | ({type(teacher).__module__} if teacher else set())
    identity = identify(args, inputs.digests(args.system, vocabulary), modules, str(dtype), device.type)
    trainer = inputs.trainer(
        args.system,
        model,
        vocabulary=vocabulary,
        seed=args.seed,
        dtype=dtype,
        state=TrainingState(args.state, identity.key),
        digests=identity.facts["inputs"],
        teacher=teacher,
        deadline=deadline(args.time_limit),
        processes=processes,
        interruption=interruption,
    )
    try:
        result = trainer.run(args.output / "events")
    except NotFinite as error:
        raise NotFinite(f"{args.output}, objective {args.system.objective.name}: {error}") from None
    if result is not None:
        save(args, trainer, result, identity)


@dataclass(frozen=True)
class Identity:
    """What decides the weights of a training."""

    settings: dict[str, Any]
    """The system's section, without keys that change no weight."""
    facts: dict[str, Any]
    """Seed, data, digests of the inputs and of the code."""
    dtype: str
    key: str
    """Digest of all this, the kind of device, and where the output is; it names the training's state."""


def identify(
    args: argparse.Namespace, inputs: dict[str, str], modules: set[str], dtype: str, device_type: str
) -> Identity:
    """The identity of a training that reads these inputs and imports these modules by their names."""
    settings = args.system.model_dump(mode="json", exclude=args.system.changes_no_weight)
    code = code_digest([Path(__file__)], extra=sorted(modules))
    facts = {"seed": args.seed, "data": args.data, "inputs": inputs, "code": code}
    # systems may train alike, and differ in later searches only: each has a state of its own, which moves with the run
    place = {"device": device_type, "output": os.path.relpath(args.output, args.state)}
    key = value_digest(facts | {"system": settings, "dtype": dtype} | place)[:24]
    return Identity(settings, facts, dtype, key)


def save(args: argparse.Namespace, trainer: Trainer, result: Result, identity: Identity) -> None:
    """Write the checkpoint and the log, and mark the state as finished."""
    settings = identity.settings
    device = describe_device(trainer.model.device)
    facts = provenance(**identity.facts, device=device, precision=identity.dtype, settings=value_digest(settings))
    write_log(args.output / "training.parquet", result.rows, facts)
    description = {
        "objective": args.system.objective.model_dump(mode="json"),
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
    save_checkpoint(args.output, weights, description=description, vocabulary=trainer.validator.vocabulary)
    trainer.state.finish(args.output / WEIGHTS)
    logging.info("stopped by %s after %d updates; validation %s", result.stopped_by, result.updates, result.scores)


if __name__ == "__main__":
    run_script(parser(), main)
