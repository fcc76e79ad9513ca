"""How long ``sslbench-report`` takes, and how much memory, for the runs of a large comparison.

Synthetic run folders are made in a temporary folder: methods x distances x numbers of labels x seeds, and a
supervised baseline for each number of labels, each with a result, a configuration and a log. The command is
timed as a process of its own, with its peak resident memory.

    python benchmarks/report_scale.py [--methods 10] [--losses 4] [--labels 5] [--seeds 5] [--points 60]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from compose import settings_from

from sslbench.config import saved
from sslbench.config.schema import Settings

LOSSES = ("kl", "mse", "l1", "js", "ce", "huber", "hinge", "cosine")
STEPS = 6000


def curve(chance: random.Random, end: float, points: int) -> list[tuple[int, float, float]]:
    """Step, validation and test accuracy of a run that climbs from chance to `end`."""
    found = []
    for point in range(1, points + 1):
        mean = 0.1 + (end - 0.1) * (1 - math.exp(-5 * point / points))
        valid, test = (min(max(mean + chance.gauss(0, 0.004), 0), 1) for _ in range(2))
        found.append((STEPS * point // points, valid, test))
    return found


def calibration(chance: random.Random) -> dict[str, list[float | None] | list[int]]:
    """Bins of 10,000 images, the lowest of them empty."""
    counts = [0, 0, *(chance.randrange(50, 1200) for _ in range(13))]
    confidence = [None if not n else (place + 0.5) / 15 for place, n in enumerate(counts)]
    accuracy = [None if mean is None else mean * chance.uniform(0.85, 1) for mean in confidence]
    return {"counts": counts, "confidence": confidence, "accuracy": accuracy}


def write_run(
    root: Path, method: int, loss: str, labels: int, seed: int, points: int, settings: Settings
) -> None:
    """One finished run; its configuration is that of `settings`."""
    chance = random.Random(f"{method} {loss} {labels} {seed}")
    algorithm = f"method_{method}" if method else "supervised"
    group = f"{algorithm}-{loss}-cifar10-{labels}-4f3a99c1"
    end = 0.55 + 0.06 * math.log10(labels) + 0.015 * method + chance.gauss(0, 0.01)
    log = curve(chance, end, points)
    step, valid, test = max(log, key=lambda point: point[1])
    best, last = (
        {"val/acc": accs[0], "val/ece": 0.05, "val/loss": 0.4, "test/acc": accs[1], "test/ece": 0.05}
        for accs in ((valid, test), log[-1][1:])
    )
    result = {
        "schema": 1, "run_id": f"{group}-s{seed}", "name": f"{algorithm}-s{seed}", "group": group,
        "algorithm": algorithm, "dataset": "cifar10", "model": "wrn_28_2", "loss": loss if method else None,
        "num_labels": labels, "num_valid": 5000, "seed": seed, "split_seed": seed,
        "split_hash": f"{seed:064x}", "steps": STEPS,
        "overrides": [f"algorithm={algorithm}", f"loss={loss}", f"num_labels={labels}"],
        "val_acc_best": valid, "step_best": step, "test_acc": test, "test_acc_last": log[-1][2],
        "test_acc_median20": sorted(point[2] for point in log[-20:])[len(log[-20:]) // 2], "test_ece": 0.05,
        "test_calibration": calibration(chance), "metrics_best": best, "metrics_last": last,
        "train_seconds": 600 + 90 * method + chance.gauss(0, 20), "steps_per_second": 8.5, "device": "cuda",
        "precision": "bf16", "torch": "2.11.0", "git_commit": 40 * "a",
    }  # fmt: skip
    folder = root / f"{group}-s{seed}"
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(result, indent=2))
    (folder / "status.json").write_text('{"status": "finished"}')
    (folder / "config.yaml").write_text(saved.save(replace(settings, seed=seed, num_labels=labels)))
    lines = [
        {
            "step": step, "images_seen": 150 * step, "train/loss": 0.5, "train/supervised": 0.3,
            "train/consistency": 0.2, "train/lr": 0.03, "time/train_seconds": 0.1 * step,
            "time/steps_per_second": 8.5, "val/acc": valid, "val/ece": 0.05, "val/loss": 0.4,
            "test/acc": test, "test/ece": 0.05, "test/loss": 0.4,
        }
        for step, valid, test in log
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def main() -> None:
    """Make the folders, run the command, print what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("methods", 10), ("losses", 4), ("labels", 5), ("seeds", 5), ("points", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, help="make the folders here, and keep them")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.keep or Path(temporary)
        runs = root / "runs"
        runs.mkdir(parents=True)
        count = 0
        settings = settings_from(["algorithm=pi_model", "dataset=digits", f"steps={STEPS}", "num_valid=20"])
        for method in range(args.methods + 1):
            for loss in LOSSES[: args.losses if method else 1]:
                for place in range(args.labels):
                    for seed in range(args.seeds):
                        write_run(runs, method, loss, 40 * 4**place, seed, args.points, settings)
                        count += 1
        outputs = {
            "--html": "r.html",
            "--out": "r.md",
            "--csv": "r.csv",
            "--table": "t.csv",
            "--latex": "t.tex",
        }
        words = [word for option, name in outputs.items() for word in (option, str(root / name))]
        command = [sys.executable, "-m", "sslbench.cli.report_command", str(runs), *words]
        started = time.perf_counter()
        with (root / "warnings").open("wb") as warnings:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=warnings)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if warned := (root / "warnings").read_text():
            sys.exit(f"not all runs are in the report: {warned.splitlines()[0]}")
        if process.returncode:
            sys.exit(f"the command ended with {process.returncode}")
        print(f"{count} runs, {args.points} log points: {seconds:.1f} s, processor {usage.ru_utime:.1f} s")
        print(f"peak resident memory {usage.ru_maxrss / 1024:.0f} MiB")  # Linux counts in KiB
        print(f"page {(root / outputs['--html']).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
