"""A finished run, evaluated again from its own configuration and weights."""

from __future__ import annotations

from pathlib import Path

from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.config import saved
from sslbench.config.build import build, check_nodes
from sslbench.config.checks import check_values
from sslbench.config.trust import require_trusted_targets
from sslbench.engine.device import pick_device
from sslbench.engine.evaluation import evaluate
from sslbench.errors import UserError
from sslbench.run.setup import build_models, prepare_data, prepare_process
from sslbench.rundir.result import read_result
from sslbench.rundir.weights import load_weights

NEEDED = ("device", "split_hash", "val_acc_best", "test_acc", "test_ece")
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
    settings = saved.load(directory / "config.yaml")
    if not trust:
        require_trusted_targets(settings, directory / "config.yaml", _REMEDY)
    check_values(settings)
    recorded = read_result(directory, NEEDED)
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
