r"""Global contrast normalisation and ZCA whitening, as CIFAR-10 is prepared by Oliver et al. (2018).

For an image as a vector :math:`x` of :math:`D = H W C` pixels, and over the images to fit on,

.. math::
    g &= s\,(x - \bar{x}) / \lVert x - \bar{x} \rVert_2 \\
    \mu &= \mathrm{mean}(g), \qquad \mathrm{cov}(g) = U\,\mathrm{diag}(\lambda)\,U^\top \\
    z &= W (g - \mu), \qquad W = U\,\mathrm{diag}\bigl(1/\sqrt{\lambda + b}\bigr)\,U^\top

where :math:`\bar{x}` is the mean over the pixels and channels of that one image. The norm :math:`s = 55`
(:math:`55/\sqrt{3072} = 0.992` standard deviation a pixel for CIFAR-10) and the bias :math:`b = 0.1`, which
keeps directions without variance from being blown up to noise, are those of ``lib/dataset_utils.py`` in
https://github.com/brain-research/realistic-ssl-evaluation, which has them from Goodfellow et al. (2013,
arXiv:1302.4389). ZCA for CIFAR-10: Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny
Images", appendix A.

The original fits on all 50,000 training images, those that become validation images included. An image
is whitened as it is, before any augmentation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Norm of an image after contrast normalisation.
GCN_NORM = 55.0
#: Added to the eigenvalues of the covariance.
ZCA_BIAS = 0.1
#: An image whose pixels deviate less than this from their mean (as a norm) is flat: it becomes zeros.
FLAT = 1e-10

_CHUNK = 2_000  # images; 50 MB in float64 for 32x32x3


@final
@dataclass(frozen=True, eq=False)
class GcnZca:
    """A fitted transform; make it with `fit`.

    Attributes:
        mean: mean of the contrast-normalised images, float64 ``[D]``.
        whiten: the symmetric matrix ``W``, float64 ``[D, D]``.
    """

    mean: Tensor
    whiten: Tensor

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Whiten uint8 ``[N, H, W, C]`` to float32 of that shape, on the device of the fit."""
        out = np.empty(images.shape, dtype=np.float32)
        done = 0
        for chunk in _normalised(images, self.mean.device):
            white = (chunk - self.mean).matmul(self.whiten).float().cpu().numpy()
            out[done : done + len(chunk)] = white.reshape(-1, *images.shape[1:])
            done += len(chunk)
        return out


def fit(images: NDArray[np.uint8], device: torch.device | str = "cpu", bias: float = ZCA_BIAS) -> GcnZca:
    """Fit the whitening matrix.

    All sums are in float64 and in a fixed order, so that a device repeats its own result, and devices agree
    to float32 precision whatever their float32 matmul setting. Memory beyond the images: a few matrices
    ``[D, D]`` (75 MB each for CIFAR-10) and one chunk.

    Args:
        images: uint8 ``[N, H, W, C]``, N at least 2; the training images.
        device: where to compute, and where the result stays.
        bias: ``b`` in the module's formula, above 0 unless N > D and no direction is flat.
    """
    size = images[0].size
    total = torch.zeros(size, dtype=torch.float64, device=device)
    outer = torch.zeros(size, size, dtype=torch.float64, device=device)
    for chunk in _normalised(images, total.device):
        total += chunk.sum(dim=0)
        outer.addmm_(chunk.T, chunk)
    mean = total / len(images)
    covariance = outer.addr_(mean, mean, alpha=-len(images)).div_(len(images) - 1)
    # numpy's eigh on every device: for a matrix of this size torch's on the CPU is far slower
    values, vectors = np.linalg.eigh(covariance.cpu().numpy())
    # rounding can leave an eigenvalue of -1e-16 where the true one is 0
    root = vectors * (np.maximum(values, 0) + bias) ** -0.25
    return GcnZca(mean=mean, whiten=torch.from_numpy(root @ root.T).to(device))


def _normalised(images: NDArray[np.uint8], device: torch.device) -> Iterator[Tensor]:
    """Contrast-normalised images in chunks, float64 ``[<=_CHUNK, D]``."""
    for start in range(0, len(images), _CHUNK):
        flat = torch.from_numpy(images[start : start + _CHUNK]).to(device).flatten(start_dim=1).double()
        flat -= flat.mean(dim=1, keepdim=True)
        norm = flat.norm(dim=1, keepdim=True)
        yield flat.mul_(GCN_NORM / norm.where(norm >= FLAT, torch.ones_like(norm)))
