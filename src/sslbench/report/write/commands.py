"""The shell lines that repeat a group of runs."""

import shlex
from collections.abc import Sequence

from sslbench.report.compare.groups import Group, collected
from sslbench.system.text import escape_control

# Left out of commands: seeds, which are listed together, folders of one machine, and how a sweep was run.
_NOT_REPEATED = (
    *("seed", "split_seed", "run_dir", "output_root", "data_root"),
    *("launcher", "retry_failed", "fail_fast", "jobs_per_gpu"),
)


def _is_repeated(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return key not in _NOT_REPEATED and not key.startswith(("hydra.", "hydra/"))


def _sweep(typed: Sequence[str], split_seeds: Sequence[int], seeds: Sequence[int]) -> str:
    sweep = ["-m"] if len(split_seeds) > 1 or len(seeds) > 1 else []
    draws = {"split_seed": split_seeds, "seed": seeds}
    values = [f"{key}={','.join(map(str, drawn))}" for key, drawn in draws.items() if drawn]
    return escape_control(shlex.join(["sslbench", *sweep, *typed, *values]))


def commands(group: Group) -> list[str]:
    """The shell lines that run the group again, quoted.

    The folders ``run_dir``, ``output_root`` and ``data_root`` are left out: they change no number. Split
    seeds are listed unless each run's is its seed, which is the default. One line is enough, unless the runs
    were typed in more than one way, or their seeds and split seeds are not the full grid that a sweep runs.
    A group without a finished run has none: only results hold what was typed.
    """
    lines = []
    by_typed = collected(group.runs, lambda run: tuple(filter(_is_repeated, run.overrides)))
    for typed, runs in by_typed.items():
        if all(run.split_seed == run.seed for run in runs):
            lines.append(_sweep(typed, [], [run.seed for run in runs]))
            continue
        by_split = collected(runs, lambda run: run.split_seed)
        seeds_of = {split_seed: tuple(run.seed for run in by_split[split_seed]) for split_seed in by_split}
        grids = collected(sorted(by_split), seeds_of.__getitem__)
        lines += [_sweep(typed, split_seeds, seeds) for seeds, split_seeds in grids.items()]
    return lines
