"""One run, top to bottom."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.config import saved
from sslbench.config.build import build, check_nodes, user_error_context
from sslbench.config.checks import check_values
from sslbench.config.identity import pick_precision
from sslbench.config.intervals import Interval
from sslbench.config.schema import Settings
from sslbench.data.batches import BatchSource, check_views
from sslbench.engine.device import autocast_type, check_fast_paths, device_name, pick_device
from sslbench.engine.examination import LabelledParts
from sslbench.engine.loop import Plan, train
from sslbench.engine.schedules import Schedule
from sslbench.engine.state import Score, TrainingState, stage_ends
from sslbench.errors import UserError
from sslbench.run.setup import (
    Data,
    build_models,
    checkpoint_bytes,
    prepare_data,
    prepare_process,
)
from sslbench.rundir.checkpoint import Checkpoints, Origin
from sslbench.rundir.lock import claimed
from sslbench.rundir.result import finished_result, require_space
from sslbench.rundir.status import FINISHED, Status, read_status, write_status
from sslbench.rundir.weights import save_weights
from sslbench.system.atomic_files import sync_file, write_text_atomically
from sslbench.system.git import git_commit
from sslbench.system.memory import keep_freed_memory
from sslbench.system.paths import relative
from sslbench.system.signals import terminable
from sslbench.tracking import ConsoleTracker, Fanout, JsonlTracker, PictureTracker, RunInfo, Tracker
from sslbench.tracking.jsonl import FILE_NAME as METRICS

RESULT_SCHEMA = 1


@dataclass(frozen=True)
class Parts:
    """What a configuration describes and needs no data to be built."""

    algorithm: AnyAlgorithm
    schedule: Schedule
    logger: Tracker


def check(settings: Settings) -> Parts:
    """Find what is wrong with `settings` without a look at the data or the machine.

    Raises:
        UserError: something the user can mend.
    """
    check_values(settings)
    check_nodes(settings)
    algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
    schedule: Schedule = build(settings.schedule, "schedule")
    with user_error_context("schedule"):
        schedule(0, settings.steps)
    stages = stages_of(algorithm)
    stage_ends(stages, settings.steps)
    with user_error_context("algorithm"):
        for stage in stages:
            check_views(stage.views)
    build(settings.dataset["images"], "dataset.images")
    return Parts(algorithm, schedule, build(settings.logger, "logger"))


def check_machine(settings: Settings) -> None:
    """Find what `settings` ask for and this machine cannot do.

    Raises:
        UserError: there is something.
    """
    device = pick_device(settings.device)
    check_fast_paths(settings.graph, settings.compile, device)


def run(settings: Settings) -> dict[str, Any]:
    """Train as `settings` say, or go on from a checkpoint of the same settings; returns ``result.json``.

    Raises:
        UserError: something the user can mend, before training starts; or the loss diverged.
    """
    # What can be refused at once comes before the data, which may have to be downloaded.
    parts = check(settings)
    check_machine(settings)
    with terminable(), claimed(settings.directory()):
        return run_claimed(settings, parts)


def run_claimed(settings: Settings, parts: Parts) -> dict[str, Any]:
    """`run`, once the folder is claimed by this process.

    Args:
        settings: of the run.
        parts: from `check`.
    """
    commit = git_commit()  # of the code that runs, whatever is committed meanwhile
    directory, device = settings.directory(), pick_device(settings.device)
    finished = finished_result(directory, settings)
    if finished is not None:
        if read_status(directory).get("status") != FINISHED:  # killed between the one file and the other
            write_status(directory, FINISHED, settings.summary())
        return finished
    check_machine(settings)
    prepare_process(settings)
    data = prepare_data(settings, device)
    models = build_models(settings, parts.algorithm, data, device)
    require_space(directory, checkpoint_bytes(models))
    with user_error_context("algorithm"):
        batches = BatchSource(
            data.train,
            data.targets,
            data.split,
            stages_of(parts.algorithm)[0].views,
            settings.batch.labelled,
            settings.batch.unlabelled,
            settings.seed,
            device,
        )
    with user_error_context("optimizer"):
        state = TrainingState(parts.algorithm, models, build(settings.optimizer, "optimizer"), batches)
    if settings.compile:
        state.compile()
    try:
        return _train(settings, directory, data, state, parts, commit)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(
            f"interrupted at step {state.step:,} of {settings.steps:,}; the same command continues from "
            f"{relative(directory)}"
        )
        raise
    except OSError as error:
        raise UserError(
            f"the run in {directory} stopped ({error.strerror or error}); what was written is kept, and "
            f"the same command continues it"
        ) from error


def _train(
    settings: Settings,
    directory: Path,
    data: Data,
    state: TrainingState,
    parts: Parts,
    commit: str | None,
) -> dict[str, Any]:
    """From a prepared state to a written result."""
    device = state.batches.device
    plan = Plan(
        steps=settings.steps,
        eval_every=settings.eval_every,
        log_every=settings.log_every,
        autocast=autocast_type(settings.precision),
        checkpoints=Checkpoints(
            directory / "checkpoint",
            Origin(settings.run_id, data.split.digest, device.type),
            Interval.parse(settings.checkpoint_every),
        ),
        graph=settings.graph,
        profile=directory / "profile" if settings.profile else None,
    )
    examined = LabelledParts(data.train, data.targets, data.split, data.valid, data.test)
    tracker = Fanout([JsonlTracker(), PictureTracker(), ConsoleTracker(), parts.logger])
    if found := plan.checkpoints.load():
        checkpoint, told = found
        if told:
            print(f"sslbench: {told}", file=sys.stderr, flush=True)
        state.load_state_dict(checkpoint, settings.steps)
    write_text_atomically(directory / "config.yaml", saved.save(settings))
    data.split.save(directory / "split.npz")
    result = None
    status = Status(directory, settings.summary())
    try:
        with status:
            tracker.start(_info(settings, directory, state))
            keep_freed_memory()
            train(state, plan, parts.schedule, examined, tracker)
            save_weights(directory / "model.safetensors", state.score.best_weights)
            sync_file(directory / METRICS)  # before the result says that the curves are whole
            result = _result(settings, data.split.digest, state.score, device, commit)
            write_text_atomically(directory / "result.json", json.dumps(result, indent=2) + "\n")
    finally:
        tracker.close(status.outcome, result)
    return result


def _info(settings: Settings, directory: Path, state: TrainingState) -> RunInfo:
    config = asdict(settings)
    # Null where the algorithm has none, so that a dashboard groups runs by what they used.
    config["choices"] |= {"loss": settings.loss_name, "model": settings.model_name}
    return RunInfo(
        run_id=settings.run_id,
        name=settings.name,
        group=settings.group,
        tags=[settings.choices["algorithm"], settings.dataset_name, f"{settings.num_labels} labels"],
        config=config,
        run_dir=directory,
        total_steps=settings.steps,
        first_step=state.step,
        history=tuple(state.history),
    )


def _result(
    settings: Settings, split_hash: str, score: Score, device: torch.device, commit: str | None
) -> dict[str, Any]:
    """The stable interface of a run; accuracies and calibration errors are fractions."""
    return {
        "schema": RESULT_SCHEMA,
        **settings.summary(),
        "split_hash": split_hash,
        "overrides": settings.overrides,
        "val_acc_best": score.val_acc_best,
        "step_best": score.step_best,
        "test_acc": score.test_acc,
        "test_acc_last": score.test_history[-1],
        "test_acc_median20": score.test_acc_median20,
        "test_ece": score.test_ece,
        "test_calibration": score.test_calibration,
        "metrics_best": score.metrics_best,
        "metrics_last": score.metrics_last,
        "train_seconds": score.train_seconds,
        "steps_per_second": settings.steps / score.train_seconds,
        "device": device_name(device),
        "precision": pick_precision(settings.precision),
        "torch": torch.__version__,
        "git_commit": commit,
    }
