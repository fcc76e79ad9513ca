"""How fast the steps are, against the ordinary way to do them, and against what the machine can do.

    python benchmarks/speed.py
    python benchmarks/speed.py --networks mlp --algorithms vat,pi_model --rounds 5 --parts steps

`make bench` does all of it and writes docs/results/speed.md. Both ways train the same network with the same
algorithm, batch sizes and views, in this one process, and take turns, round by round, so that a busy machine
is busy for both. Ours is the run's own step. The other is that of `ordinary.py`, in float32, with the number
of DataLoader workers that is best for it. The images are random numbers in the sizes of MNIST and CIFAR-10:
what is in them makes no difference to speed, and nothing need be there.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from footprint import growth_rows, memory_rows
from sides import NETWORKS, Way, ordinary, ours, settings_of, synthetic
from together import together_rows
from whole_runs import overhead_rows, start_rows

from sslbench.engine.device import device_name, pick_device

ALGORITHMS = "supervised,pi_model,vat,mean_teacher,ict,mixmatch"
_LEAST_STEPS = 2
#: To compile for every algorithm would take as long as all the rest.
_COMPILED = ("supervised", "pi_model")


@dataclass(frozen=True)
class Measured:
    """One round: steps a second both ways, and what our step reaches of the matrix rate of that moment."""

    ours: float
    ordinary: float
    share: float
    passes_share: float


def matrix_rate(device: torch.device, precision: torch.dtype, seconds: float = 0.3) -> float:
    """Rate of a large matrix product, in 10^9 operations a second: the best of several."""
    size = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(size, size, device=device, dtype=precision) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2e-9 * size**3 / (time.perf_counter() - began))
    return best


def best_workers(make: Callable[[int], Way], steps: int) -> tuple[int, Way]:
    """The number of workers with which the ordinary way is fastest."""
    trials: dict[int, tuple[float, Way]] = {}
    for workers in sorted({0, 1, 2, min(4, os.cpu_count() or 1)}):
        way = make(workers)
        way.measure(max(2, steps // 8))  # the first batches start the workers
        trials[workers] = way.measure(max(_LEAST_STEPS, steps // 4)), way
    workers = max(trials, key=lambda count: trials[count][0])
    return workers, trials[workers][1]


def step_rows(
    data: Path, network: str, algorithm: str, device: str, options: list[str], rounds: int, seconds: float
) -> list[str]:
    """Rows of the table: one for each of our `options`, all beside the same ordinary way."""
    plain = settings_of(data, network, algorithm, device)
    ways = {words: ours(settings_of(data, network, algorithm, device, *words.split())) for words in options}
    # Counted on the plain form of each, as what is compiled or recorded hides its operations.
    gflop = {}
    for words in options:
        eager = [word for word in words.split() if word.startswith("precision=")]
        gflop[words] = ours(settings_of(data, network, algorithm, device, *eager)).gflop()
    steps = {}
    for words, way in ways.items():
        way.measure(_LEAST_STEPS)  # compiles, captures, fills caches
        steps[words] = max(_LEAST_STEPS, round(seconds * way.measure(_LEAST_STEPS)))
    workers, other = best_workers(lambda count: ordinary(plain, count), steps[options[0]])
    measured: dict[str, list[Measured]] = {words: [] for words in options}
    for _ in range(rounds):
        for words, way in ways.items():
            rate = matrix_rate(torch.device(device), way.autocast or torch.float32)
            mine = way.measure(steps[words])
            passes = way.passes(max(_LEAST_STEPS, steps[words] // 2))
            its = other.measure(max(_LEAST_STEPS, steps[options[0]] // 3))
            measured[words].append(
                Measured(mine, its, mine * gflop[words] / rate, passes * gflop[words] / rate)
            )
    images = ways[options[0]].state.batches.images_per_step
    rows = []
    for words, found in measured.items():
        mine, its, share, passes = (
            statistics.median(getattr(one, name) for one in found)
            for name in ("ours", "ordinary", "share", "passes_share")
        )
        ratios = [one.ours / one.ordinary for one in found]
        rows.append(
            f"| {network} | {algorithm} | {words or 'defaults'} | {mine:.2f} | {mine * images:,.0f} | "
            f"{its:.2f} | {workers} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f} to {max(ratios):.2f} | {share:.0%} | {passes:.0%} |"
        )
    return rows


def machine(device: torch.device) -> str:
    """What was measured on, in words."""
    name = device_name(device)
    if device.type == "cpu":
        models = [
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0].partition(":")[2].strip() if models else platform.processor()
    return (
        f"{name}, {os.cpu_count()} CPU cores, PyTorch {torch.__version__}, Python {platform.python_version()}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algorithms", default=ALGORITHMS, help="comma-separated (default: %(default)s)")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="comma-separated (default: all)")
    parser.add_argument("--parts", default=",".join(_TITLES), help="comma-separated (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both ways (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of each of our rounds (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    return parser.parse_args()


def options_of(network: str, algorithm: str, device: torch.device) -> list[str]:
    """The options that are measured beside the defaults where they can matter."""
    options = [""]
    if device.type == "cuda":
        return [*options, "graph=true", "precision=bf16", "precision=bf16 graph=true"]
    if network.startswith("wrn"):
        if algorithm in _COMPILED:
            options.append("compile=true")
        if torch.cpu._is_amx_tile_supported():  # without such units, bfloat16 is slower
            options.append("precision=bf16")
    return options


def main() -> None:
    """Measure, print, and write."""
    arguments = _arguments()
    networks = arguments.networks.split(",")
    device = pick_device(arguments.device)
    kind = device.type
    command = " ".join(["python", "benchmarks/speed.py", *sys.argv[1:]])
    head = ["# Speed", "", f"{machine(device)}.", ""]
    print("\n".join(head))
    sections: dict[str, list[str]] = {}

    def tell(*new: str) -> None:
        print("\n".join(new), flush=True)
        sections[title] += new

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in arguments.parts.split(","):
            title = _TITLES[part]
            sections[title] = []
            tell(f"## {title}", "")
            if part == "steps":
                tell(*_ABOUT_STEPS, "")
                tell(f"| {' | '.join(_COLUMNS)} |", f"| {' | '.join(['---'] * len(_COLUMNS))} |")
                for network in networks:
                    data = synthetic(folder, NETWORKS[network])
                    for algorithm in arguments.algorithms.split(","):
                        options = options_of(network, algorithm, device)
                        rounds, seconds = arguments.rounds, arguments.seconds
                        tell(*step_rows(data, network, algorithm, kind, options, rounds, seconds))
            elif part == "together":
                tell(*together_rows(folder, networks, kind))
            elif part == "memory":
                tell(*_ABOUT_MEMORY, "", *memory_rows(folder, networks, kind))
            elif part == "growth":
                tell("pi_model, mlp.", "", *growth_rows(folder, kind))
            elif part == "overhead":
                tell(*_ABOUT_OVERHEAD, "", *overhead_rows(folder, kind))
            else:
                tell(*start_rows(folder))
            tell("", f"Made by `{command}`.", "")
    if arguments.out:
        write(arguments.out, head, sections)


def write(path: Path, head: list[str], sections: dict[str, list[str]]) -> None:
    """Write the sections in their order; of a file that is there, those that are not new stay."""
    kept: dict[str, list[str]] = {}
    if path.exists():
        for text in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            kept[text.partition("\n")[0]] = f"## {text.rstrip()}\n".split("\n")
    lines = list(head)
    for title in _TITLES.values():
        lines += sections.get(title) or kept.get(title, [])
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


_TITLES = {
    "steps": "Steps",
    "together": "Several seeds at once",
    "memory": "Memory",
    "growth": "Size of the data set",
    "overhead": "Beside the steps",
    "start": "Start",
}
_COLUMNS = [
    *("network", "algorithm", "options", "steps/s", "images/s", "ordinary steps/s", "its workers"),
    *("ratio", "range", "of matrix rate", "its passes alone"),
]
_ABOUT_STEPS = [
    "Batches of 50 labelled and 50 unlabelled images (supervised: 50 labelled). Medians of the rounds; the",
    "range is that of the ratio. The share of the matrix rate is the arithmetic of a step's convolutions and",
    "matrix products against one large matrix product in the same precision, measured in every round; then",
    "the same for the forward and backward passes alone. Both ways run in one process, so that the ordinary",
    "one, too, profits from memory that is kept and from denormal numbers that are flushed.",
]
_ABOUT_MEMORY = [
    "Peak of a process that does five steps of pi_model, without the processes of the loaders; and the size",
    "of the images.",
]
_ABOUT_OVERHEAD = ["Shares of the time of the whole training loop in runs at default settings, without W&B."]


if __name__ == "__main__":
    main()
