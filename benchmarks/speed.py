"""How fast the steps are, against the ordinary way to do them, and against what the machine can do.

    python benchmarks/speed.py
    python benchmarks/speed.py --networks mlp --algorithms vat,pi_model --rounds 5

`make bench` does all of it and writes docs/results/speed.md. Both sides train the same network with the same
algorithm, batch sizes and views, in this one process, and take turns, round by round, so that a busy machine
is busy for both. Ours is the run's own step at default settings. The other is that of `ordinary.py`, in
float32, with the number of DataLoader workers that is best for it. The images are random numbers in the sizes
of MNIST and CIFAR-10: what is in them makes no difference to speed, and nothing need be there.

The share of the machine's rate is the arithmetic of a step's matrix products and convolutions, times steps a
second, over the rate of one large matrix product measured in the same run: of the whole step, so what the
forward and backward passes reach is higher.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from sides import NETWORKS, Sides, settings_of, synthetic

from sslbench.config import Settings
from sslbench.engine.device import device_name, pick_device, pick_precision

ALGORITHMS = "supervised,pi_model,vat,mean_teacher,ict,mixmatch"


@dataclass(frozen=True)
class Row:
    """One cell of the table: medians over the rounds, and the least and greatest ratio of a round."""

    network: str
    algorithm: str
    ours: float
    ordinary: float
    ratios: tuple[float, ...]
    images: int
    workers: int
    gflop: float
    peak: float

    def __str__(self) -> str:
        rate = f"{self.gflop * self.ours / self.peak:.0%}" if self.peak else "-"
        return (
            f"| {self.network} | {self.algorithm} | {self.ours:.1f} | {self.ours * self.images:,.0f} | "
            f"{self.ordinary:.1f} | {statistics.median(self.ratios):.2f} | {min(self.ratios):.2f} to "
            f"{max(self.ratios):.2f} | {self.workers} | {rate} |"
        )


def matrix_rate(device: torch.device, precision: torch.dtype, seconds: float = 1.0) -> float:
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


def compare(
    settings: Settings, network: str, algorithm: str, rounds: int, seconds: float, peak: float
) -> Row:
    """Measure one cell of the table."""
    sides = Sides(settings)
    ours, state = sides.side(None)
    ours(3)
    steps = max(3, round(seconds * ours(3)))
    candidates = sorted({0, 1, 2, min(4, os.cpu_count() or 1)})
    trials = {}
    for workers in candidates:
        measure, _ = sides.side(workers)
        measure(max(2, steps // 8))  # the first batches start the workers
        trials[workers] = measure, measure(max(3, steps // 4))
    workers = max(trials, key=lambda count: trials[count][1])
    ordinary = trials[workers][0]
    pairs = [(ours(steps), ordinary(max(3, steps // 2))) for _ in range(rounds)]
    return Row(
        network,
        algorithm,
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        tuple(one / other for one, other in pairs),
        state.batches.images_per_step,
        workers,
        sides.gflop(),
        peak,
    )


def seconds_until(words: list[str], ready: Callable[[], bool] | None = None) -> float:
    """Seconds from the command until it ends, or until `ready`; it is then killed."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "sslbench.cli", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not (ready and ready()):
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        process.kill()
    return seconds


def start_times(folder: Path) -> list[str]:
    """Rows on how long it takes until something happens, the median of three."""

    def first_step(number: int) -> float:
        curves = folder / f"start{number}" / "metrics.jsonl"
        words = ["algorithm=supervised", "logger=none", "device=cpu", "log_every=1", "steps=100000"]
        words += ["eval_every=100000", f"run_dir={curves.parent}"]
        return seconds_until(words, lambda: curves.exists() and curves.stat().st_size > 0)

    rows = {
        "`sslbench --help`": statistics.median(seconds_until(["--help"]) for _ in range(3)),
        "command to first step on digits, CPU": statistics.median(first_step(n) for n in range(3)),
    }
    return [f"| {name} | {seconds:.2f} s |" for name, seconds in rows.items()]


def growth(folder: Path, device: str) -> list[str]:
    """Rows on the time of a step over the number of images."""
    rows = []
    for count in (10_000, 60_000, 600_000):
        data = synthetic(folder, "mnist", count)
        measure, _ = Sides(settings_of(data, "mnist", "mlp", "pi_model", device)).side(None)
        measure(20)
        times = [1e3 / measure(100) for _ in range(5)]
        rows.append(
            f"| {count:,} | {statistics.median(times):.2f} ms | {min(times):.2f} to {max(times):.2f} |"
        )
        data.unlink()
    return rows


def memory(network: str, way: str, data: Path, device: str) -> float:
    """Peak memory of a process that does five steps one way, its workers included, in MiB."""
    words = [sys.executable, __file__, "--memory", way, "--networks", network, "--data", str(data)]
    done = subprocess.run([*words, "--device", device], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _print_memory(network: str, way: str, data: Path, device: str) -> None:
    sides = Sides(settings_of(data, NETWORKS[network], network, "pi_model", device))
    measure, _ = sides.side(2 if way == "ordinary" else None)
    measure(5)
    if sides.device.type == "cuda":
        print(torch.cuda.max_memory_allocated() / 2**20)
        return
    del measure  # ends the workers, whose peak is known only then
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / 2**10)


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


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algorithms", default=ALGORITHMS, help="comma-separated (default: %(default)s)")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="comma-separated (default: all)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both sides (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of each of our rounds (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--memory", choices=("ours", "ordinary"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    networks = arguments.networks.split(",")
    if arguments.memory:
        _print_memory(networks[0], arguments.memory, arguments.data, arguments.device)
        return

    device = pick_device(arguments.device)
    kind = device.type
    precision = pick_precision("auto", device) or torch.float32
    peak = matrix_rate(device, precision)
    lines: list[str] = []

    def tell(*new: str) -> None:
        lines.extend(new)
        print("\n".join(new), flush=True)

    tell("# Speed", "", f"{machine(device)}.", "")
    tell(f"Matrix products: {peak:.0f} GFLOP/s in {str(precision).removeprefix('torch.')}.", "")
    tell(
        "Batches of 50 labelled and 50 unlabelled images; medians of the rounds, and the range of the ratio.",
        "",
    )
    tell(
        "| network | algorithm | steps/s | images/s | ordinary steps/s | ratio | range | its workers | "
        "of matrix rate |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = {network: synthetic(folder, NETWORKS[network]) for network in networks}
        for network in networks:
            for algorithm in arguments.algorithms.split(","):
                settings = settings_of(paths[network], NETWORKS[network], network, algorithm, kind)
                tell(str(compare(settings, network, algorithm, arguments.rounds, arguments.seconds, peak)))
        tell("", "Peak memory of five steps of pi_model, without the processes of the loaders:", "")
        tell("| network | ours | ordinary |", "| --- | ---: | ---: |")
        for network in networks:
            used = partial(memory, network, data=paths[network], device=kind)
            tell(f"| {network} | {used(way='ours'):.0f} MiB | {used(way='ordinary'):.0f} MiB |")
        tell("", "Time of a step over the number of images (pi_model, mlp):", "")
        tell("| images | step | range |", "| ---: | ---: | --- |", *growth(folder, kind))
        tell("", "| start | time |", "| --- | ---: |", *start_times(folder))
    if arguments.out:
        command = " ".join(["python", "benchmarks/speed.py", *sys.argv[1:]])
        arguments.out.write_text("\n".join([*lines, "", f"Made by `{command}`.", ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
