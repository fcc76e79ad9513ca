"""Where the time of a step goes: a trace of some steps, and the ten parts that take most of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sslbench.system.atomic_files import write_atomically, write_text_atomically

if TYPE_CHECKING:
    from torch.profiler import profile

#: Steps before the profiler starts (kernels are chosen, caches are filled), of its warm-up, and profiled.
_SKIPPED, _WARM_UP, _PROFILED = 10, 5, 10
_NEEDED = _SKIPPED + _WARM_UP + _PROFILED


@contextmanager
def profiled(folder: Path | None, device: torch.device) -> Iterator[Callable[[], None]]:
    """Profile the sixteenth to the twenty-fifth of the steps in this block.

    Writes ``trace.json``, which chrome://tracing and https://ui.perfetto.dev show, and a table, ``parts.md``;
    into `folder`, or prints that there were too few steps; without a folder, there is no profile. On a GPU,
    its own time is what counts. What is computed stays the same; the profiled steps take longer.

    Yields:
        A function to call after each step.
    """
    if folder is None:
        yield lambda: None
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it reports every start, and absent GPUs
    from torch.profiler import ProfilerActivity, profile, schedule

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    steps = 0

    def stepped() -> None:
        nonlocal steps
        steps += 1
        profiler.step()

    def write(done: profile) -> None:
        if steps >= _NEEDED:
            _write(done, folder, device)

    with profile(
        activities=activities,
        schedule=schedule(wait=_SKIPPED, warmup=_WARM_UP, active=_PROFILED, repeat=1),
        on_trace_ready=write,
    ) as profiler:
        yield stepped
    if steps < _NEEDED:
        print(f"sslbench: no profile was written: it takes {_NEEDED} steps", file=sys.stderr, flush=True)


def _write(profiler: profile, folder: Path, device: torch.device) -> None:
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "trace.json", lambda part: profiler.export_chrome_trace(str(part)))
    where = "cuda" if device.type == "cuda" else "cpu"
    table = profiler.key_averages().table(sort_by=f"self_{where}_time_total", row_limit=10)
    title = f"What took most of {_PROFILED} steps, by its own time on the {where.upper()}:"
    write_text_atomically(folder / "parts.md", f"{title}\n\n```\n{table}```\n")
