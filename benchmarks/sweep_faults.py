"""Kill a sweep and runs of it, and check that nothing is lost and nothing differs.

    python benchmarks/sweep_faults.py                      4 algorithms x 4 distances x 3 seeds, 3 kills
    python benchmarks/sweep_faults.py --algorithms pi_model,ict --losses mse --seeds 2 --kills 1

Three sweeps over the same grid on digits, two runs at a time:

1. undisturbed;
2. killed with SIGKILL at random moments and started again each time. In the end every result must equal
   that of the undisturbed sweep in all but times, and no run may have reached its end twice;
3. with a further algorithm that raises, and with one run killed with SIGKILL. All others must finish with
   the results of the undisturbed sweep, the exit code must not be zero, and typing the command again must
   finish the killed run and leave the failed ones alone.

Exits with 1, and says why, where one of this does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# What a run may say differently each time it is run.
TIMES = ("train_seconds", "steps_per_second", "git_commit", "overrides")
END = "test acc at best val"  # in job.log, once for each time that the end was reached
END_SECONDS = 60  # that the processes of a killed sweep have to write down how they stand

BROKEN = """
from sslbench.algorithms.pi_model import PiModel


class Broken:
    def __init__(self, **arguments):
        self._inner = PiModel(**arguments)

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def step(self, models, batch, progress):
        raise RuntimeError("made to fail")
"""


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill sweeps on purpose and check what is left.")
    parser.add_argument("--algorithms", default="pi_model,mean_teacher,ict,vat")
    parser.add_argument("--losses", default="mse,l1,kl,js")
    parser.add_argument("--seeds", type=int, default=3, help="how many (%(default)s)")
    parser.add_argument("--steps", type=int, default=150, help="of each run (%(default)s)")
    parser.add_argument("--kills", type=int, default=3, help="of the whole sweep (%(default)s)")
    parser.add_argument("--random", type=int, default=0, help="seed of the moments to kill at (%(default)s)")
    return parser.parse_args()


def _command(args: argparse.Namespace, output: Path, algorithms: str) -> list[str]:
    seeds = ",".join(map(str, range(args.seeds)))
    return [
        *(sys.executable, "-m", "sslbench", "-m", "launcher=local", "hydra.launcher.n_jobs=2"),
        *(f"algorithm={algorithms}", f"loss={args.losses}", f"seed={seeds}", f"output_root={output}"),
        *("model=mlp", "model.hidden=[64]", f"steps={args.steps}", f"eval_every={args.steps // 10}"),
        f"checkpoint_every={args.steps // 10}",
        *("logger=none", "device=cpu", "threads=1"),
    ]


def _start(words: list[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        variables = {**os.environ, **environment}
        return subprocess.Popen(words, stdout=out, stderr=out, env=variables, start_new_session=True)


def _results(output: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in output.glob("*/result.json"):
        result = json.loads(path.read_text())
        found[path.parent.name] = {key: value for key, value in result.items() if key not in TIMES}
    return found


def _has_ended(sweep: int) -> bool:
    """Whether no process of the sweep, which had a session of its own, is left."""
    end = time.monotonic() + END_SECONDS
    while time.monotonic() < end:
        left = False
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ends in this moment
                state, _, _, session, *_ = path.read_text().rpartition(") ")[2].split()
                left = left or (int(session) == sweep and state != "Z")
        if not left:
            return True
        time.sleep(0.5)
    return False


def _check(holds: bool, what: str) -> None:
    print(f"{'ok' if holds else 'FAILED'}: {what}", flush=True)
    if not holds:
        sys.exit(1)


def _undisturbed(args: argparse.Namespace, output: Path, runs: int) -> dict[str, Any]:
    began = time.perf_counter()
    code = _start(_command(args, output, args.algorithms), output.with_suffix(".log")).wait()
    seconds = time.perf_counter() - began
    expected = _results(output)
    _check(code == 0 and len(expected) == runs, f"undisturbed: {runs} runs finished in {seconds:.0f} s")
    return expected


def _killed(args: argparse.Namespace, output: Path, expected: dict[str, Any]) -> None:
    chance = random.Random(args.random)
    log = output.with_suffix(".log")
    killed = []
    for number in range(1, args.kills + 1):
        sweep = _start(_command(args, output, args.algorithms), log)
        killed.append(sweep.pid)
        began = time.perf_counter()
        # Anywhere in its share of the grid, and anywhere within a run.
        finished = int(len(expected) * (number - 1 + chance.random()) / (args.kills + 1))
        while len(_results(output)) < finished and sweep.poll() is None:
            time.sleep(0.05)
        time.sleep(chance.random())
        ended = sweep.poll() is not None
        sweep.kill()
        sweep.wait()
        seconds, done = time.perf_counter() - began, len(_results(output))
        _check(not ended, f"kill {number} after {seconds:.1f} s, with {done} of {len(expected)} finished")
    code = _start(_command(args, output, args.algorithms), log).wait()
    found = _results(output)
    _check(code == 0 and found.keys() == expected.keys(), f"started again: all {len(found)} finished")
    _check(found == expected, "each result equals that of the undisturbed sweep in all but times")
    ends = {path.parent.name: path.read_text().count(END) for path in output.glob("*/job.log")}
    _check(set(ends.values()) == {1} and len(ends) == len(expected), "none reached its end twice")
    _check(not list(output.rglob("*.part")), "no half-written file is left")
    _check(all(map(_has_ended, killed)), "no process of a killed sweep is left")


def _failing(args: argparse.Namespace, output: Path, expected: dict[str, Any], own: Path) -> None:
    (own / "algorithm").mkdir(parents=True)
    (own / "broken_algorithm.py").write_text(BROKEN)
    pi_model = Path(__file__).parents[1] / "conf" / "algorithm" / "pi_model.yaml"
    node = pi_model.read_text().replace("sslbench.algorithms.pi_model.PiModel", "broken_algorithm.Broken")
    (own / "algorithm" / "broken.yaml").write_text(node)
    words = [*_command(args, output, f"broken,{args.algorithms}"), "--config-dir", str(own)]
    path = os.pathsep.join(filter(None, [str(own), os.environ.get("PYTHONPATH")]))
    sweep = _start(words, output.with_suffix(".log"), PYTHONPATH=path)
    victim = None
    while victim is None:
        if sweep.poll() is not None:
            _check(False, "a run is there to be killed")
        time.sleep(0.02)
        for status in output.glob("*/status.json"):
            found = json.loads(status.read_text())
            if found["status"] == "running" and found["run"]["algorithm"] != "broken":
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile: take another
                    os.kill(found["pid"], signal.SIGKILL)
                    victim = status.parent
                break
    code = sweep.wait()
    log = output.with_suffix(".log").read_text()
    finished = {name: result for name, result in expected.items() if name != victim.name}
    _check(code == 1, "with failures the exit code is 1")
    _check(_results(output) == finished, f"all others finished, {len(finished)}, with the expected results")
    _check(f"interrupted {victim.name}: killed by SIGKILL" in log, "the killed run is reported")
    broken = [json.loads(path.read_text()) for path in output.glob("broken-*/status.json")]
    runs = len(args.losses.split(",")) * args.seeds
    _check(
        len(broken) == runs
        and all(s["status"] == "failed" and "made to fail" in s["traceback"] for s in broken)
        and all("RuntimeError: made to fail" in p.read_text() for p in output.glob("broken-*/job.log"))
        and log.count("RuntimeError: made to fail [") >= runs,
        f"{runs} failures are printed, with tracebacks in status.json and job.log",
    )
    before = {path: path.stat().st_mtime_ns for path in output.glob("broken-*/status.json")}
    code = _start(words, output.with_suffix(".log"), PYTHONPATH=path).wait()
    _check(code == 1 and _results(output) == expected, "the same command again finished the killed run")
    after = {path: path.stat().st_mtime_ns for path in output.glob("broken-*/status.json")}
    _check(before == after, "and left those that failed alone")


def main() -> None:
    """Run the three sweeps."""
    args = _parse()
    runs = len(args.algorithms.split(",")) * len(args.losses.split(",")) * args.seeds
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        expected = _undisturbed(args, root / "undisturbed", runs)
        _killed(args, root / "killed", expected)
        _failing(args, root / "failing", expected, root / "own")
    print("all holds")


if __name__ == "__main__":
    main()
