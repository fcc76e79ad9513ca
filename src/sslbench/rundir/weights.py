"""The weights that a run ends with, in a file that anyone can load."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sslbench.errors import UserError
from sslbench.system.atomic_files import write_atomically
from sslbench.system.safe_files import require_file


def cpu_copy(model: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of `model`, copied to the CPU in the plain memory layout."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()
    }


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors."""
    content = save(dict(weights))  # the library's own writer has errors and file modes of its own
    write_atomically(path, lambda part: part.write_bytes(content))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors that `save_weights` wrote.

    Raises:
        UserError: the file is absent or damaged.
    """
    require_file(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({_reason(error)})") from error


def load_weights(path: Path, model: nn.Module) -> None:
    """Load what `save_weights` wrote into `model`.

    Raises:
        UserError: the file is absent, damaged, or belongs to another model.
    """
    try:
        model.load_state_dict(load_tensors(path))
    except RuntimeError as error:
        raise UserError(f"{path} does not hold the weights of this run's model ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:2])
