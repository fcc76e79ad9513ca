from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from sslbench.engine.memory import keep_freed_memory
if {kept}:
    keep_freed_memory()
def step():
    one = torch.ones(2**22)  # 16 MiB
    other = one + 1
    del one
    return other.sum()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the allocator of glibc")
def test_freed_memory_is_not_fetched_from_the_system_again() -> None:
    faults = {}
    for kept in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(kept=kept)], capture_output=True, text=True, check=True
        )
        faults[kept] = int(done.stdout)
    assert faults[False] > 1000, "the system hands out pages in every step"
    assert faults[True] < 100
