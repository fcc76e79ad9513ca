"""``sslbench-eval``: a finished run again, from its own saved configuration and weights."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from sslbench.errors import UserError
from sslbench.text import printable

_NEEDED = ("device", "split_hash", "val_acc_best", "test_acc", "test_ece")
#: Older versions summed up the calibration error in float32.
_ECE_ROUNDING = 1e-4
_REMEDY = "if you trust whoever wrote it, add --trust"


def evaluate_run(
    directory: Path, device: str | None = None, data_root: str | None = None, trust: bool = False
) -> dict[str, float]:
    """Evaluate the saved weights of the run in `directory` on its own validation and test images.

    Args:
        directory: the folder of a finished run.
        device: auto, cpu or cuda; None for the kind that the run was trained on.
        data_root: where the data sets are here, if not where they were for the run. Absent files are
            downloaded only there: where a run's configuration says is for its author to write.
        trust: whether the run's configuration may name classes and functions that do not come with sslbench.

    Returns:
        ``val_acc_best``, ``test_acc`` and ``test_ece``, fractions, under the names of ``result.json``.

    Raises:
        UserError: there is no finished run, its files or data are absent or damaged, or its configuration
            names what is not trusted.
    """
    from sslbench import config_file
    from sslbench.algorithms.base import AnyAlgorithm, stages_of
    from sslbench.building import build, check_nodes, require_shipped
    from sslbench.config_checks import check_values
    from sslbench.engine.device import pick_device
    from sslbench.engine.evaluation import evaluate
    from sslbench.engine.weights import load_weights
    from sslbench.rundir import read_result
    from sslbench.setup import build_models, prepare_data, prepare_process

    settings = config_file.load(directory / "config.yaml")
    if not trust:
        require_shipped(settings, directory / "config.yaml", _REMEDY)
    check_values(settings)
    recorded = read_result(directory, _NEEDED)
    if device is None:
        device = "cpu" if recorded["device"] == "cpu" else "cuda"
    if "root" in settings.dataset:
        if data_root is None:
            settings.dataset["download"] = False
        else:
            settings.dataset["root"] = data_root
    check_nodes(settings)
    target = pick_device(device)
    prepare_process(settings)
    data = prepare_data(settings, target)
    if data.split.digest != recorded["split_hash"]:
        raise UserError(f"the data are not those that {directory} was trained on: its split is another one")
    algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
    predictor = stages_of(algorithm)[-1].predictors[0]
    model = build_models(settings, algorithm, data, target)[predictor]
    load_weights(directory / "model.safetensors", model)
    on_valid, on_test = evaluate(model, data.valid), evaluate(model, data.test)
    return {"val_acc_best": on_valid.acc, "test_acc": on_test.acc, "test_ece": on_test.ece}


def _is_same(key: str, recorded: float, evaluated: float) -> bool:
    """Whether two numbers are equal, calibration errors up to rounding."""
    return math.isclose(recorded, evaluated, rel_tol=0, abs_tol=_ECE_ROUNDING if key == "test_ece" else 0)


def _show(arguments: argparse.Namespace) -> bool:
    """Evaluate, print, and say whether the numbers are those of ``result.json``."""
    from sslbench.rundir import read_result

    recorded = read_result(arguments.run_dir, _NEEDED)
    evaluated = evaluate_run(arguments.run_dir, arguments.device, arguments.data_root, arguments.trust)
    agrees = all(_is_same(key, recorded[key], value) for key, value in evaluated.items())
    if arguments.json:
        print(json.dumps({**evaluated, "agrees": agrees}))
        return agrees
    for key, value in evaluated.items():
        note = "" if _is_same(key, recorded[key], value) else f"   but result.json says {recorded[key]!r}"
        print(f"{key:<14}{value!r}{note}")
    device = printable(recorded["device"])
    print("equal to result.json" if agrees else f"not equal to result.json, from {device}")
    return agrees


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="sslbench-eval",
        description="Evaluate a finished run again with its own saved configuration and weights, and compare "
        "with its result.json. Exits 1 if the numbers differ.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="the folder of a finished run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: as the run was trained")
    parser.add_argument(
        "--data-root", metavar="DIR", help="where the data are, if not where the run had them"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let the run's config.yaml name classes and functions that do not come with sslbench, such as "
        "those of a --config-dir: they are imported and called, so add it only to runs of people you trust",
    )
    arguments = parser.parse_args(argv)
    try:
        agrees = _show(arguments)
    except UserError as error:
        sys.exit(f"sslbench-eval: {printable(str(error))}")
    sys.exit(0 if agrees else 1)
