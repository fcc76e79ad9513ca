"""One job a GPU, or as many as are wanted; the rest wait. Holds for all sweeps of a user on a machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from sslbench.errors import UserError

_DRIVER = Path("/proc/driver/nvidia/gpus")
_DRIVER_SECONDS = 60.0
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        token: what `VISIBLE` calls it.
        uuid: its name for every process on the machine, whatever that process can see.
    """

    token: str
    uuid: str


@cache
def visible_gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use, found without touching CUDA; none where there is no driver.

    A list of numbers in ``CUDA_VISIBLE_DEVICES`` is respected, and so is one of UUIDs.

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
            tokens = [token.strip() for token in visible.split(",")]
            return tuple(Gpu(token, token) for token in tokens if token not in ("", "-1"))
        if _DRIVER.is_dir() and any(_DRIVER.iterdir()):
            raise UserError(
                f"there are GPUs, but nvidia-smi does not tell which ({error}): set {VISIBLE}, or device=cpu"
            ) from error
        return ()
    uuids = dict(line.split(", ") for line in done.stdout.splitlines() if ", " in line)
    return chosen(uuids, visible)


def chosen(uuids: dict[str, str], visible: str | None) -> tuple[Gpu, ...]:
    """The GPUs of `visible`, in its order.

    Args:
        uuids: by index, as the driver counts.
        visible: the value of ``CUDA_VISIBLE_DEVICES``; None, where it is not set, for all of them.
    """
    if visible is None:
        return tuple(Gpu(index, uuid) for index, uuid in uuids.items())
    gpus = []
    for token in filter(None, map(str.strip, visible.split(","))):
        if token.lstrip("-").isdigit() and token not in uuids:
            break  # as CUDA does: what follows a number that does not exist is not seen
        gpus.append(Gpu(token, uuids.get(token, token)))
    return tuple(gpus)


def workers(device: str, jobs_per_gpu: int) -> int:
    """How many jobs this machine takes at once: one a place on its GPUs, or, without any, one a CPU core."""
    from joblib import cpu_count  # which knows of containers and affinity

    gpus = visible_gpus() if device != "cpu" else ()
    return len(gpus) * jobs_per_gpu or int(cpu_count())


@contextmanager
def gpu_slot(
    gpus: Sequence[Gpu], jobs_per_gpu: int, pause: Callable[[], object], folder: Path | None = None
) -> Iterator[Gpu | None]:
    """Wait for a place on one of `gpus` and hold it; the operating system frees it, should the process die.

    Args:
        gpus: to choose from; with none, there is nothing to wait for.
        jobs_per_gpu: places on each, at least 1.
        pause: called while all places are taken, before looking again; may raise to give up.
        folder: of the locks; by default one of the user's on this machine.

    Yields:
        The GPU, the emptiest first; None if there are none.

    Raises:
        UserError: the folder cannot be written.
    """
    if not gpus:
        yield None
        return
    folder = folder or Path(tempfile.gettempdir()) / f"sslbench-gpus-{os.getuid()}"
    with _writing(folder):
        folder.mkdir(exist_ok=True)
    # The first place of every GPU comes before the second of any.
    places = [
        (gpu, FileLock(folder / f"{gpu.uuid}-{place}.lock", timeout=0))
        for place in range(jobs_per_gpu)
        for gpu in gpus
    ]
    while True:
        for gpu, lock in places:
            try:
                with _writing(folder):
                    lock.acquire()
            except Timeout:
                continue
            try:
                yield gpu
            finally:
                lock.release()
            return
        pause()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise UserError(
            f"{folder}, which says what GPUs are taken, cannot be written ({error.strerror}): "
            f"move what is there, or set TMPDIR to another folder"
        ) from error
