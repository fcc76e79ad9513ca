"""``sslbench-eval``: evaluates a finished run again from the files in its folder."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from sslbench import __version__
from sslbench.errors import UserError
from sslbench.system.text import escape_control

#: Older versions summed up the calibration error in float32.
_ECE_ROUNDING = 1e-4


def _is_same(key: str, recorded: float, evaluated: float) -> bool:
    """Whether two numbers are equal, calibration errors up to rounding."""
    return math.isclose(recorded, evaluated, rel_tol=0, abs_tol=_ECE_ROUNDING if key == "test_ece" else 0)


def _show(arguments: argparse.Namespace) -> bool:
    """Evaluate and print; returns whether the numbers are those of ``result.json``."""
    from sslbench.run.evaluate import evaluate_run
    from sslbench.rundir.result import read_result

    recorded = read_result(arguments.run_dir)
    evaluated = evaluate_run(arguments.run_dir, arguments.device, arguments.data_root, arguments.trust)
    agrees = all(_is_same(key, recorded[key], value) for key, value in evaluated.items())
    if arguments.json:
        print(json.dumps({**evaluated, "agrees": agrees}))
        return agrees
    for key, value in evaluated.items():
        note = "" if _is_same(key, recorded[key], value) else f"   but result.json says {recorded[key]!r}"
        print(f"{key:<14}{value!r}{note}")
    device = escape_control(recorded["device"])
    print("equal to result.json" if agrees else f"not equal to result.json, from {device}")
    return agrees


def main(argv: list[str] | None = None) -> None:
    """Run ``sslbench-eval``.

    Args:
        argv: the arguments; None for those of the process.

    Raises:
        SystemExit: with code 1 and a message on stderr for what the user can mend, or if the numbers differ.
    """
    parser = argparse.ArgumentParser(
        prog="sslbench-eval",
        description="Evaluate a finished run again with its own saved configuration and weights, and compare "
        "with its result.json. Exits 1 if the numbers differ.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
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
        sys.exit(f"sslbench-eval: {escape_control(str(error))}")
    sys.exit(0 if agrees else 1)
