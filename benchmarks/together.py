"""Several runs at once on one device, each a process of its own, against one that has it to itself."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from sides import NETWORKS, ours, settings_of, synthetic

_SECONDS = 8.0
_ROUNDS = 5
_ON_A_GPU = 8


class Worker:
    """A process that does steps of pi_model when it is told to."""

    def __init__(self, network: str, data: Path, device: str, threads: int) -> None:
        words = [sys.executable, __file__, network, str(data), device, str(threads)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a worker of the benchmark has ended")
        return line

    def begin(self) -> None:
        """Let it do steps for a while."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def rate(self) -> float:
        """Steps a second, once it has done them."""
        return float(self._answer())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def together_rows(folder: Path, networks: list[str], device: str) -> list[str]:
    """Steps a second of one run alone with all threads, and of several at once with a thread each."""
    count = _ON_A_GPU if device == "cuda" else os.cpu_count() or 1
    cores = os.cpu_count() or 1
    lines = [
        f"pi_model: one run with all {cores} threads, and {count} at once, each a process with "
        f"{max(1, cores // count)}; medians of {_ROUNDS} rounds in turn.",
        "",
        "| network | one, steps/s | together, steps/s | ratio | range |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for network in networks:
        data = synthetic(folder, NETWORKS[network])
        alone = Worker(network, data, device, cores)
        several = [Worker(network, data, device, max(1, cores // count)) for _ in range(count)]
        pairs = []
        for _ in range(_ROUNDS):
            alone.begin()
            one = alone.rate()
            for worker in several:
                worker.begin()
            pairs.append((one, sum(worker.rate() for worker in several)))
        for worker in (alone, *several):
            worker.close()
        ratios = [both / one for one, both in pairs]
        one, both = (statistics.median(pair[place] for pair in pairs) for place in range(2))
        lines.append(
            f"| {network} | {one:.2f} | {both:.2f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f} to {max(ratios):.2f} |"
        )
    return lines


def _work(network: str, data: Path, device: str, threads: int) -> None:
    way = ours(settings_of(data, network, "pi_model", device, f"threads={threads}"))
    way.measure(5)
    print("ready", flush=True)
    for _ in sys.stdin:
        steps, began = 0, time.perf_counter()
        while time.perf_counter() < began + _SECONDS:
            way.measure(1)
            steps += 1
        print(steps / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("data", type=Path)
    parser.add_argument("device", choices=("cpu", "cuda"))
    parser.add_argument("threads", type=int)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    _work(given.network, given.data, given.device, given.threads)
