"""One run on each GPU, or `jobs_per_gpu`; the rest wait. Holds for all sweeps of a user on a machine."""

import math
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import final

from filelock import FileLock, Timeout

from sslbench.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")
_DRIVER_SECONDS = 60.0
_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


@cache
def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, found without touching CUDA; none where there is no driver.

    ``nvidia-smi`` counts GPUs as they are plugged in, and CUDA the fastest first. So they are named by their
    UUIDs, which ``CUDA_VISIBLE_DEVICES`` takes as well as numbers; where ``nvidia-smi`` does not answer, by
    what ``CUDA_VISIBLE_DEVICES`` lists.

    Raises:
        UserError: there are GPUs, and it cannot be found out which.
    """
    visible = os.environ.get(VISIBLE)
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_DRIVER_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        if visible is not None:
            return tuple(token for token in _tokens(visible) if token != "-1")
        if _DRIVER.is_dir() and any(_DRIVER.iterdir()):
            raise UserError(
                f"there are GPUs, but nvidia-smi does not list them ({error}): set {VISIBLE}, or device=cpu"
            ) from error
        return ()
    uuids = dict(line.split(", ") for line in done.stdout.splitlines() if ", " in line)
    return choose_visible(uuids, visible)


def choose_visible(uuids: dict[str, str], visible: str | None) -> tuple[str, ...]:
    """The UUIDs of the GPUs of ``CUDA_VISIBLE_DEVICES``, in its order, or of all where it is not set.

    `uuids` has them by index, as ``nvidia-smi`` counts.
    """
    if visible is None:
        return tuple(uuids.values())
    gpus = []
    for token in _tokens(visible):
        if token.lstrip("-").isdigit() and token not in uuids:
            break  # as CUDA does: what follows a number that does not exist is not seen
        gpus.append(uuids.get(token, token))
    return tuple(gpus)


def _tokens(visible: str) -> list[str]:
    return [token for token in map(str.strip, visible.split(",")) if token]


def cpu_cores() -> int:
    """The CPU cores that this process may use; a container's limit counts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no control group of version 2, or no limit ("max")
        quota, period = map(int, _CPU_LIMIT.read_text().split())
        cores = min(cores, math.ceil(quota / period))
    return cores


@final
class GpuSlots:
    """Places on GPUs for runs, `jobs_per_gpu` on each, across all sweeps of a user on this machine.

    The locks are in `folder`, by default one of the user's in the machine's temporary folder.
    """

    def __init__(self, gpus: Sequence[str], jobs_per_gpu: int, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"sslbench-gpus-{os.getuid()}"
        # The first place of every GPU comes before the second of any.
        self._places = [
            (gpu, FileLock(self._folder / f"{gpu}-{place}.lock", timeout=0))
            for place in range(jobs_per_gpu)
            for gpu in gpus
        ]

    def __len__(self) -> int:
        return len(self._places)

    def take(self) -> tuple[str, FileLock] | None:
        """Take a place on the emptiest GPU; None if no place is free.

        The lock holds the place until it is released or this process ends.
        """
        for gpu, lock in self._places:
            if lock.is_locked:  # by this sweep: the same lock could be acquired twice
                continue
            try:
                self._folder.mkdir(exist_ok=True)
                lock.acquire()
            except Timeout:
                continue
            except OSError as error:
                raise UserError(
                    f"{self._folder}, which says what GPUs are taken, cannot be written ({error.strerror}): "
                    f"move what is there, or set TMPDIR to another folder"
                ) from error
            return gpu, lock
        return None
