"""Forward passes that leave batch-norm statistics alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_batch_stats(model: nn.Module) -> Iterator[None]:
    """Batch-norm layers in train mode use the batch's statistics and leave their running ones unmoved.

    For auxiliary passes (the power iteration of VAT, strongly augmented views): they are normalised as in
    training, but the statistics that evaluation uses must come from ordinary images only. VAT's authors do
    the same (``update_batch_stats=False`` in their code). Layers in eval mode are as they were. All are set
    back on leaving, also after an exception.
    """
    # Without track_running_stats a layer in train mode hands no buffers to the kernel.
    layers = [
        module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
