"""What a sweep costs beside the training: for each run, at its start, and for planning thousands of runs.

    python benchmarks/sweep_overhead.py        (some minutes; the extra `dev` has all launchers)

Times sweeps of 3 and of 11 runs of one step each, one run at a time, under each launcher. The difference,
by 8, is what one run takes; less what the same run takes when it is called in a process that has everything
imported, it is the overhead. What does not depend on the number of runs is the start. Then plans, without
running it, a sweep of 10,000 runs: composing, checking and naming every one, and looking for its result.
"""

from __future__ import annotations

import contextlib
import io
import resource
import subprocess
import sys
import tempfile
import time

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import open_dict

from sslbench.config import schema
from sslbench.run.train import run
from sslbench.sweep import task  # noqa: F401  (registers what the configuration refers to)
from sslbench.sweep.planning import plan_runs

FEW, MANY = 3, 11
TINY = ["algorithm=supervised", "model=mlp", "model.hidden=[16]", "steps=1", "eval_every=1"]
TINY += ["logger=none", "device=cpu", "threads=1"]
LAUNCHERS = {
    "none": [],
    "local": ["launcher=local", "hydra.launcher.n_jobs=1"],
    "ray": ["launcher=ray", "hydra.launcher.ray.init.num_cpus=1"],
    "slurm_local": ["launcher=slurm_local", "hydra.sweeper.max_batch_size=1"],
}
PLAN = ["algorithm=supervised,pi_model,mean_teacher,ict,vat", "loss=mse,l1,kl,js", "seed=range(0,100)"]
PLAN += ["optimizer.lr=1e-4,2e-4,5e-4,1e-3,2e-3", "logger=none"]


def _sweep(words: list[str], runs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sslbench", "-m", *TINY, *words, f"seed=range(0,{runs})"]
        began = time.perf_counter()
        subprocess.run([*command, f"output_root={folder}"], check=True, capture_output=True)
        return time.perf_counter() - began


def _in_process() -> float:
    """Seconds of one run, once all is imported."""
    with (
        tempfile.TemporaryDirectory() as folder,
        initialize_config_dir(str(schema.conf_dir()), version_base="1.3"),
    ):
        began = 0.0
        for seed in range(MANY + 1):
            if seed == 1:  # the first one imports
                began = time.perf_counter()
            words = [*TINY, f"output_root={folder}", f"seed={seed}"]
            composed = compose("config", overrides=words, return_hydra_config=True)
            choices = dict(composed.hydra.runtime.choices)
            with open_dict(composed):
                del composed["hydra"]
            with contextlib.redirect_stdout(io.StringIO()):
                run(schema.from_config(composed, choices, words))
        return (time.perf_counter() - began) / MANY


def _plan() -> None:
    with initialize_config_dir(str(schema.conf_dir()), version_base="1.3"):
        master = compose("config", return_hydra_config=True)
        with open_dict(master):
            master.hydra.job.config_name = "config"
        began = time.perf_counter()
        runs = plan_runs(PLAN, master, GlobalHydra.instance().config_loader())
        states = [run.state() for run in runs]
        seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"planning {len(states)} runs: {seconds:.0f} s, {1000 * seconds / len(states):.1f} ms a run, ", end=""
    )
    print(f"peak memory {memory:.2f} GiB")


def main() -> None:
    """Measure, and print a line each."""
    alone = _in_process()
    print(f"one run, called in a process: {alone:.2f} s", flush=True)
    for name, words in LAUNCHERS.items():
        few, many = _sweep(words, FEW), _sweep(words, MANY)
        each = (many - few) / (MANY - FEW)
        print(
            f"launcher={name}: {each:.2f} s a run, {each - alone:+.2f} s beside the run, "
            f"start {few - FEW * each:.1f} s",
            flush=True,
        )
    _plan()


if __name__ == "__main__":
    main()
