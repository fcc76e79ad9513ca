"""What a run takes beside its steps: until the first one, and for checkpoints, evaluation and logging."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose import settings_from

import sslbench.engine.loop
import sslbench.run.train
from sslbench.run.train import run
from sslbench.rundir.checkpoint import Checkpoints

#: Whole runs at default settings: the default one, one of fast steps and many weights, one of slow steps.
RUNS = [
    [],
    ["algorithm=supervised", "model=mlp"],
    ["algorithm=mean_teacher", "model=wrn_28_2", "steps=100"],
]


def start_rows(folder: Path) -> list[str]:
    """Seconds until the help is printed, and until the first step is logged; medians of five."""

    def first_step(number: int) -> float:
        curves = folder / f"start{number}" / "metrics.jsonl"
        words = ["logger=none", "device=cpu", "log_every=1", "steps=100000", "eval_every=100000"]
        words += [f"run_dir={curves.parent}"]
        return _seconds_until(words, lambda: curves.exists() and curves.stat().st_size > 0)

    rows = {
        "`sslbench --help`": [_seconds_until(["--help"]) for _ in range(5)],
        "command to first step on digits (the default run, CPU)": [first_step(n) for n in range(5)],
    }
    return [
        "| start | seconds | range |",
        "| --- | ---: | --- |",
        *(
            f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} |"
            for name, seconds in rows.items()
        ),
    ]


def _seconds_until(words: list[str], ready: Callable[[], bool] | None = None) -> float:
    """Seconds from the command until it ends, or until `ready`; it is then killed.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "sslbench", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and not (ready and ready()):
            time.sleep(0.002)
        seconds = time.perf_counter() - began
        if process.poll() or (ready and not ready()):
            raise RuntimeError(f"sslbench {' '.join(words)} ended with code {process.returncode}")
        process.kill()
    return seconds


@dataclass
class _Clock:
    """Seconds spent in functions, by name, while the block runs in which they are replaced by timed ones."""

    seconds: dict[str, float] = field(default_factory=dict)
    _replaced: list[tuple[Any, str, Any]] = field(default_factory=list)

    def watch(self, owner: Any, function: str, name: str) -> None:
        plain = getattr(owner, function)
        self.seconds[name] = 0.0
        self._replaced.append((owner, function, plain))

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return plain(*arguments, **named)
            finally:
                self.seconds[name] += time.perf_counter() - began

        setattr(owner, function, timed)

    def __enter__(self) -> _Clock:
        return self

    def __exit__(self, *_: object) -> None:
        for owner, function, plain in self._replaced:
            setattr(owner, function, plain)


def overhead_rows(folder: Path, device: str) -> list[str]:
    """Shares of the training loop's time that are not steps, in whole runs."""
    lines = [
        "| run | loop | checkpoints | evaluation | logging | together |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for words in RUNS:
        settings = settings_from([*words, "logger=none", f"device={device}", f"output_root={folder}"])
        with _Clock() as clock:
            clock.watch(sslbench.run.train, "train", "loop")
            clock.watch(sslbench.engine.loop, "evaluate_all", "evaluation")
            clock.watch(Checkpoints, "save", "checkpoints")
            result = run(settings)
        loop = clock.seconds["loop"]
        rest = 1 - result["train_seconds"] / loop
        saved, evaluated = (clock.seconds[name] / loop for name in ("checkpoints", "evaluation"))
        lines.append(
            f"| `{' '.join(['sslbench', *words])}` | {loop:.1f} s | {saved:.2%} | {evaluated:.2%} | "
            f"{rest - saved - evaluated:.2%} | {rest:.2%} |"
        )
    return lines
