"""How much the tests notice: small random changes of the source, each tried against the tests of its folder.

cosmic-ray makes the changes: operators, comparisons, numbers, flags, loops that are left out. By itself it
tries all of them with all tests; here a sample with a fixed seed is drawn, and only the matching tests are
run. It is not among the project's dependencies:

    pip install cosmic-ray
    python benchmarks/mutations.py algorithms losses --sample 100

A change is noticed when a test fails, or when the tests take far longer than without it. Those that were
not noticed are printed as diffs: many change nothing that counts (the text of a message, a bound that is
never reached). The tests run on copies of the checkout, which is not touched.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
PACKAGE = Path("src/sslbench")

WITH_IMPORTS_DONE = multiprocessing.get_context("forkserver")  # what takes longest to import is imported once
WITH_IMPORTS_DONE.set_forkserver_preload(["torch", "scipy.stats", "hypothesis", "matplotlib.pyplot", "hydra"])


@dataclass(frozen=True)
class Mutation:
    """A change of one place of one file.

    Attributes:
        path: of the file, from the root of the checkout.
        mutated: its whole text with the change.
    """

    path: Path
    mutated: str

    @property
    def folder(self) -> str:
        """The folder of the package that the file lies in."""
        return self.path.relative_to(PACKAGE).parts[0]

    @property
    def diff(self) -> str:
        """The change, for people."""
        before, after = (ROOT / self.path).read_text().splitlines(), self.mutated.splitlines()
        return "\n".join(difflib.unified_diff(before, after, str(self.path), "mutated", n=1, lineterm=""))


def behaviour(source: str) -> str:
    """The syntax tree without annotations: a change in one of those changes nothing."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if hasattr(node, field):
                setattr(node, field, None)
    return ast.dump(tree)


def sample(folders: list[str], count: int, seed: int) -> list[Mutation]:
    """Up to `count` mutations of different places, each place as likely as any other."""
    operators = {name: get_operator(name) for name in sorted(operator_names())}
    operators = {name: operator() for name, operator in operators.items() if not operator.arguments()}
    places: dict[tuple[Path, tuple[int, int]], list[tuple[str, int]]] = {}
    for folder in folders:
        for path in sorted((ROOT / PACKAGE / folder).rglob("*.py")):
            nodes = list(ast_nodes(get_ast(path.read_text())))
            for name, operator in operators.items():
                positions = [place[0] for node in nodes for place in operator.mutation_positions(node)]
                for occurrence, start in enumerate(positions):
                    places.setdefault((path.relative_to(ROOT), start), []).append((name, occurrence))
    draw = random.Random(seed)
    found: list[Mutation] = []
    for path, start in draw.sample(sorted(places), len(places)):
        if len(found) == count:
            break
        name, occurrence = draw.choice(places[path, start])
        source = (ROOT / path).read_text()
        mutated = mutate_code(source, operators[name], occurrence)
        try:
            if mutated is not None and behaviour(mutated) != behaviour(source):
                found.append(Mutation(path, mutated))
        except SyntaxError:  # cosmic-ray negates the stars of `{**one, **other}` too
            continue
    return found


def copy_of_the_checkout(place: Path) -> Path:
    """The tracked files and the new ones, at `place`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    return place


def run_pytest(place: Path, arguments: list[str]) -> None:
    """Pytest on the copy at `place`, in a process of its own that ends with pytest's exit code."""
    os.setsid()
    os.chdir(place)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    sys.path.insert(0, str(place / "src"))
    os.environ |= {"PYTHONPATH": str(place / "src"), "OMP_NUM_THREADS": "1"}
    sys.exit(pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", *arguments]))


def tests_pass(place: Path, folder: str, first: str | None, limit: float | None) -> bool:
    """Whether the tests of `folder` pass on the copy at `place`; files named `first` are run first."""
    tests = [f"tests/{folder}"]
    if first is not None:
        tests = [str(path.relative_to(place)) for path in (place / tests[0]).rglob(first)] + tests
    process = WITH_IMPORTS_DONE.Process(target=run_pytest, args=(place, tests))
    process.start()
    process.join(limit)
    if process.exitcode is None:
        os.killpg(process.pid, 9)
        process.join()
    return process.exitcode == 0


def main() -> None:
    """Sample, try, and print what was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", help="folders of src/sslbench; the tests of each are in tests/")
    parser.add_argument("--sample", type=int, default=50, help="number of changes")
    parser.add_argument("--seed", type=int, default=0, help="draws them")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="changes that are tried side by side"
    )
    options = parser.parse_args()
    mutations = sample(options.folders, options.sample, options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        places: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            places.put(copy_of_the_checkout(Path(temporary) / str(number)))
        limits = {}
        for folder in sorted({mutation.folder for mutation in mutations}):
            place, began = places.get(), time.monotonic()
            if not tests_pass(place, folder, None, None):
                sys.exit(f"tests/{folder} fail without any change")
            places.put(place)
            limits[folder] = 60 + 4 * (time.monotonic() - began)

        def noticed(mutation: Mutation) -> bool:
            place = places.get()
            target, first = place / mutation.path, f"test_{mutation.path.name}"
            whole = target.read_text()
            target.write_text(mutation.mutated)
            passed = tests_pass(place, mutation.folder, first, limits[mutation.folder])
            target.write_text(whole)
            places.put(place)
            return not passed

        tried, found = Counter[str](), Counter[str]()
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutation, seen in zip(mutations, pool.map(noticed, mutations), strict=True):
                tried[mutation.folder] += 1
                found[mutation.folder] += seen
                print(
                    "." if seen else f"\nnot noticed:\n{mutation.diff}", end="" if seen else "\n", flush=True
                )
    for folder, count in sorted(tried.items()):
        print(f"\n{folder}: {found[folder]} of {count} noticed", end="")
    print(f"\nin all: {found.total()} of {tried.total()} noticed ({found.total() / tried.total():.0%})")


if __name__ == "__main__":
    main()
