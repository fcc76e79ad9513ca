"""Memory of a run against the ordinary way, and the time of a step over the size of the data set."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from sides import NETWORKS, ordinary, ours, settings_of, synthetic

_STEPS = 5
_WORKERS = 2
_SIZES = (10_000, 60_000, 600_000)


def memory_rows(folder: Path, networks: list[str], device: str) -> list[str]:
    """Peak memory of processes that do a few steps one way or the other."""
    lines = ["| network | images | ours | ordinary | ratio |", "| --- | ---: | ---: | ---: | ---: |"]
    for network in networks:
        data = synthetic(folder, NETWORKS[network])
        used = {}
        for way in ("ours", "ordinary"):
            words = [sys.executable, __file__, way, network, str(data), device]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            used[way] = float(done.stdout.split()[-1])
        size = data.stat().st_size / 2**20
        lines.append(
            f"| {network} | {size:.0f} MiB | {used['ours']:.0f} MiB | {used['ordinary']:.0f} MiB | "
            f"{used['ours'] / used['ordinary']:.2f} |"
        )
    return lines


def _peak(way: str, network: str, data: Path, device: str) -> float:
    """Peak memory of this process after a few steps, in MiB; on a GPU, of what it has on the GPU."""
    settings = settings_of(data, network, "pi_model", device)
    side = ours(settings) if way == "ours" else ordinary(settings, _WORKERS)
    side.measure(_STEPS)
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # Not ru_maxrss, in which that of the process which started this one lives on.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [kilobytes] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kilobytes) / 2**10


def growth_rows(folder: Path, device: str) -> list[str]:
    """Time of a step over the number of images: pi_model with the MLP, the fastest step."""
    lines = ["| images | ms a step | range |", "| ---: | ---: | --- |"]
    for count in _SIZES:
        data = synthetic(folder, NETWORKS["mlp"], count)
        side = ours(settings_of(data, "mlp", "pi_model", device))
        side.measure(20)
        times = [1e3 / side.measure(100) for _ in range(7)]
        lines.append(f"| {count:,} | {statistics.median(times):.1f} | {min(times):.1f} to {max(times):.1f} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("ours", "ordinary"))
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("data", type=Path)
    parser.add_argument("device", choices=("cpu", "cuda"))
    given = parser.parse_args()
    print(_peak(given.way, given.network, given.data, given.device))
