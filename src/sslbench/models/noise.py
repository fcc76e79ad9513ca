"""Noise within a network, and passes that share it."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sslbench.checks import check_not_negative
from sslbench.errors import UserError

_ALPHA_DROPOUT = (functional.alpha_dropout, functional.feature_alpha_dropout)
_DROPOUT = (
    *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d),
    *_ALPHA_DROPOUT,
)
_DRAWS = (
    *(torch.rand, torch.randn, torch.rand_like, torch.randn_like, torch.bernoulli),
    *(Tensor.bernoulli, Tensor.bernoulli_, Tensor.normal_, Tensor.uniform_),
)


@final
class GaussianNoise(nn.Module):
    """Adds Gaussian noise in training mode, from the global random stream.

    Its standard deviation is `std`; a negative one raises `ValueError`.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        check_not_negative(noise=std)
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        # Not randn_like, which `SameNoise` cannot repeat in a compiled model.
        return x.add(torch.empty_like(x).normal_(), alpha=self.std) if self.training and self.std else x


@final
class SameNoise:
    """A model whose passes all have the noise of the first one: the same dropout masks, the same added noise.

    The first call draws the noise, exactly as the model alone would; every later call repeats it. So two
    outputs differ because of the images and not because of the noise. Make a new one in each step. All calls
    must have the same number of images; they may differ in precision.

    Repeated are dropout (``nn.Dropout``, ``Dropout1d`` to ``Dropout3d``, and the functions that these call)
    and what ``torch.rand``, ``randn``, ``rand_like``, ``randn_like``, ``bernoulli`` and the methods
    ``bernoulli``, ``bernoulli_``, ``normal_`` and ``uniform_`` draw, in any module of the model. Alpha
    dropout raises `UserError`, as it is no product with a mask. Out of reach are the dropout within a fused
    function, such as that of attention, and ``rand_like`` and ``randn_like`` in a compiled model: each call
    draws its own. The model may be compiled.
    """

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        self._model = model
        self._draws: list[Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._draws == []:
            return self._model(x)
        repeat, self._draws = self._draws is not None, self._draws or []
        with _Noise(self._draws, repeat=repeat):
            return self._model(x)


class _Noise(TorchFunctionMode):
    """Sees each random function that a pass calls, and draws into `draws` or repeats what is there."""

    def __init__(self, draws: list[Tensor], *, repeat: bool) -> None:
        super().__init__()
        self._draws, self._repeat, self._place = draws, repeat, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS:
            drawn = func(*args, **kwargs)
            if self._repeat:
                return drawn.copy_(self._next())
            self._draws.append(drawn.detach().clone())  # the model may change `drawn`
            return drawn
        if func in _DROPOUT:
            return self._dropout(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(
        self, func: Any, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return input
        if func in _ALPHA_DROPOUT:
            raise UserError("the model has alpha dropout, whose noise cannot be repeated: use nn.Dropout")
        if not self._repeat:
            self._draws.append(func(torch.ones_like(input), p))  # 0 or 1 / (1 - p)
        mask = self._next().to(input.dtype) if self._repeat else self._draws[-1]
        return input.mul_(mask) if inplace else input * mask

    def _next(self) -> Tensor:
        self._place += 1
        return self._draws[self._place - 1]
