"""Wide residual networks."""

from collections.abc import Callable
from functools import partial
from typing import final

from torch import Tensor, nn

from sslbench.checks import check_counts
from sslbench.models.classifier import Classifier, GlobalAveragePooling

_SLOPE = 0.1


def WideResNet(
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int,
    depth: int = 28,
    width: int = 2,
    bn_momentum: float = 0.01,
    bn_eps: float = 1e-3,
) -> Classifier:
    """WRN-depth-width, in the variant of the realistic-evaluation benchmark.

    Zagoruyko & Komodakis 2016 (arXiv:1605.07146) as changed by Oliver et al. 2018 (arXiv:1804.09170): leaky
    ReLU of slope 0.1, no dropout, and only the first unit activates its input before the shortcut. WRN-28-2
    has 1,467,610 parameters for 3 channels and 10 classes.

    Initialisation, as in their code: convolutions He normal over the fan-out with gain sqrt(2), classifier
    Glorot normal with zero bias, batch norm 1 and 0.

    Deviations: strided 3x3 convolutions pad both sides, where TensorFlow pads one; ``bn_momentum`` is 0.01 by
    default and not the 0.001 of those 500,000-step runs, because with 0.001 the running statistics still hold
    37 % of their initial values after 1,000 steps.

    Args:
        depth: number of convolutions on the longest path, 6n + 4 for n units in each of the three groups.
        width: the groups have 16, 32 and 64 times this many channels.
        bn_momentum: share of the running statistics that each batch replaces (torch's convention: 1 - decay).
        bn_eps: added to the variance.
    """
    check_counts(width=width)
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"depth is {depth}: it must be 6n + 4, such as 10, 16, 22 or 28")
    if not 0 < bn_momentum <= 1:
        raise ValueError(f"bn_momentum is {bn_momentum}: set it above 0 and at most 1")
    if bn_eps <= 0:
        raise ValueError(f"bn_eps is {bn_eps}: set it above 0, such as 0.001")
    norm = partial(nn.BatchNorm2d, eps=bn_eps, momentum=bn_momentum)
    units: list[nn.Module] = []
    channels = 16
    for group, group_channels in enumerate((16 * width, 32 * width, 64 * width)):
        for position in range((depth - 4) // 6):
            stride = 2 if group > 0 and position == 0 else 1
            units.append(_Unit(channels, group_channels, stride, norm, first=not units))
            channels = group_channels
    body = nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
        *units,
        norm(channels),
        nn.LeakyReLU(_SLOPE, inplace=True),
        GlobalAveragePooling(),
    )
    classifier = nn.Linear(channels, num_classes)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    nn.init.xavier_normal_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    return Classifier(body, classifier)


@final
class _Unit(nn.Module):
    """Pre-activation residual unit of two 3x3 convolutions; the first activates its input for both paths."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        norm: Callable[[int], nn.Module],
        *,
        first: bool,
    ) -> None:
        super().__init__()
        self.activate_shortcut = first
        self.activation = nn.Sequential(norm(channels_in), nn.LeakyReLU(_SLOPE, inplace=True))
        self.residual = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
            norm(channels_out),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        )
        self.shortcut = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(x)
        shortcut: Tensor = self.shortcut(activated if self.activate_shortcut else x)
        residual: Tensor = self.residual(activated)
        return shortcut + residual
