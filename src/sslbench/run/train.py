"""One run, top to bottom."""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch

import sslbench
from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.algorithms.protocol_checks import check_algorithm
from sslbench.config import saved
from sslbench.config.build import build, check_nodes, user_error_context
from sslbench.config.checks import check_values
from sslbench.config.identity import pick_precision
from sslbench.config.intervals import Interval
from sslbench.config.schema import Settings
from sslbench.data.batches import BatchSource, check_views
from sslbench.data.views import ImageTransform
from sslbench.engine.averages import AverageRule, averaged_module
from sslbench.engine.device import autocast_type, check_fast_paths, device_name, pick_device
from sslbench.engine.diagnostics import DiagnosticData
from sslbench.engine.loop import LoopOptions, train
from sslbench.engine.parameter_groups import ParameterGroups
from sslbench.engine.pseudo_label_meter import PseudoLabelMeter
from sslbench.engine.schedules import Schedule
from sslbench.engine.state import StageResult, TrainingState, stage_ends
from sslbench.errors import UserError
from sslbench.run.predictor import save_predictor
from sslbench.run.setup import (
    Data,
    build_models,
    checkpoint_bytes,
    prepare_data,
    prepare_process,
    process_restored,
)
from sslbench.run.view_sheet import view_sheet
from sslbench.rundir.checkpoint import Checkpoints, Origin
from sslbench.rundir.lock import run_lock
from sslbench.rundir.records import (
    CONFIG,
    RESULT,
    WEIGHTS,
    Calibration,
    RunResult,
    RunState,
    balanced_accuracy,
    class_accuracies,
)
from sslbench.rundir.result import finished_result, require_space
from sslbench.rundir.status import Status, read_status, write_status
from sslbench.rundir.weights import save_weights
from sslbench.system.atomic_files import sync_file, write_text_atomically
from sslbench.system.git import git_commit
from sslbench.system.memory import keep_freed_memory
from sslbench.system.paths import relative
from sslbench.system.signals import raise_on_signal
from sslbench.tracking import ConsoleTracker, Fanout, FileTracker, RunInfo, Tracker
from sslbench.tracking.jsonl import FILE_NAME as METRICS
from sslbench.tracking.tracker import check_tracker


@dataclass(frozen=True)
class Parts:
    """What a configuration describes and needs no data to be built."""

    algorithm: AnyAlgorithm
    schedule: Schedule
    average: AverageRule | None
    groups: ParameterGroups | None
    logger: Tracker


def check(settings: Settings) -> Parts:
    """Raise a `UserError` for what is wrong with `settings`, without a look at the data or the machine."""
    check_values(settings)
    check_nodes(settings)
    algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
    schedule: Schedule = build(settings.schedule, "schedule")
    with user_error_context("schedule"):
        schedule(0, settings.steps)
    stages = check_algorithm(algorithm)
    average: AverageRule | None = build(settings.average, "average") if settings.average else None
    if average is not None:
        for stage in stages:
            averaged_module(stage)
    stage_ends(len(stages), settings.steps)
    images: ImageTransform = build(settings.dataset["images"], "dataset.images")
    with user_error_context("algorithm"):
        for stage in stages:
            check_views(stage.views, images)
    logger: Tracker = build(settings.logger, "logger")
    check_tracker(logger)
    return Parts(algorithm, schedule, average, parameter_groups(settings), logger)


def parameter_groups(settings: Settings) -> ParameterGroups | None:
    """Which parameters the optimizer treats otherwise; None where the settings name none."""
    if settings.weight_decay_on is None and not settings.lr_factors:
        return None
    with user_error_context("optimizer"):
        return ParameterGroups(settings.weight_decay_on, settings.lr_factors)


def check_machine(settings: Settings) -> None:
    """Raise a `UserError` for what `settings` ask for and this machine cannot do."""
    check_fast_paths(settings.graph, settings.compile, pick_device(settings.device))


def run(settings: Settings) -> dict[str, Any]:
    """Train as `settings` say, from the last checkpoint if there is one; returns what ``result.json`` holds.

    Raises:
        UserError: something the user can mend, before training starts; or the loss diverged.
    """
    # What can be refused at once is refused before the data are downloaded and the folder is made.
    parts = check(settings)
    check_machine(settings)
    with raise_on_signal(), run_lock(settings.directory()):
        return run_locked(settings, parts)


def run_locked(settings: Settings, parts: Parts) -> dict[str, Any]:
    """`run`, in a process that has locked the folder; `parts` are from `check`."""
    commit = git_commit()  # of the code that runs, whatever is committed meanwhile
    directory = settings.directory()
    finished = finished_result(directory, settings)
    if finished is not None:
        if read_status(directory).get("status") != RunState.FINISHED:  # killed between writing the two files
            write_status(directory, RunState.FINISHED, settings.summary())
        return finished
    check_machine(settings)
    device = pick_device(settings.device)
    with process_restored():
        prepare_process(settings)
        data = prepare_data(settings, device)
        state = _initial_state(settings, data, parts, device)
        whitening = vars(data.transform.whitening).values() if data.transform.whitening else ()
        require_space(
            directory,
            checkpoint_bytes(state.models | state.predictors) + sum(tensor.nbytes for tensor in whitening),
        )
        try:
            return _train(settings, data, state, parts, commit)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"interrupted at step {state.step:,} of {settings.steps:,}; the same command continues from "
                f"{relative(directory)}"
            )
            raise
        except OSError as error:
            raise UserError(
                f"the run stopped ({error.strerror or error}); its files in {directory} are kept, and the "
                f"same command continues from its last checkpoint"
            ) from error


def _initial_state(settings: Settings, data: Data, parts: Parts, device: torch.device) -> TrainingState:
    """Fresh models, optimizers and batches."""
    algorithm = parts.algorithm
    models = build_models(settings, algorithm, data, device)
    with user_error_context("algorithm"):
        batches = BatchSource(
            data.train,
            data.targets,
            data.split,
            stages_of(algorithm)[0].views,
            settings.batch.labelled,
            settings.batch.unlabelled,
            settings.seed,
            device,
        )
    with user_error_context("optimizer"):
        new_optimizer = build(settings.optimizer, "optimizer")
        labelled = torch.from_numpy(data.split.labelled).to(device)
        meter = PseudoLabelMeter(data.targets, labelled, data.spec.num_classes)
        state = TrainingState(
            algorithm, models, new_optimizer, batches, parts.average, parts.groups, pseudo_label_meter=meter
        )
    if settings.compile:
        state.compile()
    return state


def _train(
    settings: Settings, data: Data, state: TrainingState, parts: Parts, commit: str | None
) -> dict[str, Any]:
    """From the initial state, or a checkpoint, to a written result."""
    directory, device = settings.directory(), state.batches.device
    options = LoopOptions(
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
    everything = DiagnosticData(data.train, data.targets, data.split, data.valid, data.test)
    tracker = Fanout([FileTracker(), ConsoleTracker(), parts.logger])
    if found := options.checkpoints.load():
        checkpoint, warning = found
        if warning:
            print(f"sslbench: {warning}", file=sys.stderr, flush=True)
        state.load_state_dict(checkpoint, settings.steps)
    write_text_atomically(directory / CONFIG, saved.save(settings))
    data.split.save(directory / "split.npz")
    content = None
    status = Status(directory, settings.summary())
    try:
        with status:
            tracker.start(_info(settings, state))
            if not state.step:
                sheet = view_sheet(data.train, data.split, stages_of(parts.algorithm), settings.seed)
                tracker.log_image(0, "views", sheet)
            keep_freed_memory()
            train(state, options, parts.schedule, everything, tracker)
            save_weights(directory / WEIGHTS, state.result.best_weights)
            save_predictor(directory, parts.algorithm, data, parts.average is not None)
            sync_file(directory / METRICS)  # before the result says that the curves are whole
            content = _result(settings, data.split.digest, state.result, device, commit).content()
            write_text_atomically(directory / RESULT, json.dumps(content, indent=2) + "\n")
    finally:
        tracker.close(status.outcome, content)
    return content


def _info(settings: Settings, state: TrainingState) -> RunInfo:
    config = asdict(settings)
    # Null where the algorithm has none, so that a dashboard groups runs by what they used.
    config["choices"] |= {"loss": settings.loss_name, "model": settings.model_name}
    return RunInfo(
        run_id=settings.run_id,
        name=settings.name,
        group=settings.group,
        tags=[settings.choices["algorithm"], settings.dataset_name, f"{settings.num_labels} labels"],
        config=config,
        run_dir=settings.directory(),
        total_steps=settings.steps,
        first_step=state.step,
        history=tuple(state.history),
    )


def _result(
    settings: Settings, split_hash: str, score: StageResult, device: torch.device, commit: str | None
) -> RunResult:
    class_acc = class_accuracies(score.test_confusion)
    return RunResult(
        **settings.summary(),
        folder=settings.directory(),
        split_hash=split_hash,
        overrides=tuple(settings.overrides),
        val_acc_best=score.val_acc_best,
        step_best=score.step_best,
        test_acc=score.test_acc,
        test_acc_last=score.test_history[-1],
        test_acc_median20=score.test_acc_median20,
        test_ece=score.test_ece,
        test_calibration=Calibration(**{name: tuple(v) for name, v in score.test_calibration.items()}),
        test_balanced_acc=balanced_accuracy(class_acc),
        test_class_acc=class_acc,
        test_confusion=tuple(map(tuple, score.test_confusion)),
        metrics_best=score.metrics_best,
        metrics_last=score.metrics_last,
        train_seconds=score.train_seconds,
        steps_per_second=settings.steps / score.train_seconds,
        gpu_memory_peak=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        device=device_name(device),
        precision=pick_precision(settings.precision),
        torch=torch.__version__,
        sslbench_version=sslbench.__version__,
        git_commit=commit,
    )
