from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from sslbench.system.memory import keep_freed_memory

SCRIPT = """
import resource, torch
from sslbench.system.memory import keep_freed_memory
if {kept}:
    keep_freed_memory()
def step():
    one = torch.ones(2**24)  # 64 MiB, which glibc never keeps by itself
    other = one + 1
    del one
    return other.sum()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""


class Library:
    """A glibc of some age."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.set: list[tuple[int, int]] = []

    def gnu_get_libc_version(self) -> bytes:
        return b"2.31"

    def malloc_trim(self, pad: int) -> int:
        return 1

    def mallopt(self, parameter: int, value: int) -> int:
        accepted = parameter != -3 or value <= self.largest
        if accepted:
            self.set.append((parameter, value))
        return int(accepted)


@pytest.mark.parametrize(
    ("largest", "thresholds"),
    [
        (2**62, [(-3, 2**30), (-1, 2**30)]),
        (2**25, [(-3, 2**25), (-1, 2**30)]),
        (0, []),  # alone, the other would make it worse
    ],
)
def test_thresholds_are_those_that_the_library_takes(largest: int, thresholds: list[tuple[int, int]]) -> None:
    library = Library(largest)
    keep_freed_memory(library)
    assert library.set == thresholds


def test_another_library_is_left_alone() -> None:
    keep_freed_memory(object())


LIBRARY, VERSION = platform.libc_ver()


@pytest.mark.thorough
@pytest.mark.skipif(
    LIBRARY != "glibc" or [int(part) for part in VERSION.split(".")] < [2, 35], reason="needs glibc 2.35"
)
def test_freed_memory_is_not_fetched_from_the_system_again() -> None:
    faults = {}
    for kept in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(kept=kept)], capture_output=True, text=True, check=True
        )
        faults[kept] = int(done.stdout)
    assert faults[False] > 1000, "the system hands out pages in every step"
    assert faults[True] < 100
