"""``sslbench-eval``: evaluates a finished run again from the files in its folder."""

import argparse
import json
import sys
from math import isclose
from pathlib import Path

from sslbench import __version__
from sslbench.errors import UserError
from sslbench.system.text import escape_control

#: Older versions summed up the calibration error in float32.
_ECE_ROUNDING = 1e-4


def _show(arguments: argparse.Namespace) -> bool:
    """Evaluate and print; returns whether the numbers are those of ``result.json``."""
    from sslbench.run.evaluate import evaluate_run
    from sslbench.rundir.result import read_result

    recorded = read_result(arguments.run_dir)
    evaluated = evaluate_run(arguments.run_dir, arguments.device, arguments.data_root, arguments.trust)
    differing = {
        key
        for key, value in evaluated.items()
        if not isclose(recorded[key], value, rel_tol=0, abs_tol=_ECE_ROUNDING if key == "test_ece" else 0)
    }
    agrees = not differing
    if arguments.json:
        print(json.dumps({**evaluated, "agrees": agrees}))
        return agrees
    for key, value in evaluated.items():
        note = f"   but result.json says {recorded[key]!r}" if key in differing else ""
        print(f"{key:<14}{value!r}{note}")
    device = escape_control(recorded["device"])
    print("equal to result.json" if agrees else f"not equal to result.json, from {device}")
    return agrees


def main(argv: list[str] | None = None) -> None:
    """Run ``sslbench-eval``.

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
