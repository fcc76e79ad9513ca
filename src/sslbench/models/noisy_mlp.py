"""A fully connected network with noise in every layer: Improved-GAN's discriminator for MNIST."""

from collections.abc import Sequence

from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sslbench.checks import check_counts, check_not_negative
from sslbench.models.classifier import Classifier
from sslbench.models.noise import GaussianNoise


def NoisyMLP(
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int,
    hidden: Sequence[int] = (1000, 500, 250, 250, 250),
    input_noise: float = 0.3,
    noise: float = 0.5,
) -> Classifier:
    """Dense layers with weight normalisation, ReLU and Gaussian noise on every layer's input.

    The default is the network of Salimans et al. 2016 (arXiv:1606.03498, section 5.1, and its code). It
    has no batch normalisation, whose statistics would tell a batch of generated images from one of real ones.
    Deviations: the weights start as PyTorch's dense layers do, where the code scales them by the data; every
    layer's scale is trained, in the code the last one's alone; `features` include the noise on the last
    hidden layer, which the code adds after it has matched them.

    Args:
        hidden: width of each hidden layer, one at least.
        input_noise: standard deviation of the noise on the images, in their units.
        noise: standard deviation of the noise on each hidden layer.
    """
    check_counts(**{"number of hidden layers": len(hidden)})
    check_not_negative(input_noise=input_noise)
    layers: list[nn.Module] = [nn.Flatten()]
    size = in_channels * image_size[0] * image_size[1]
    for i, width in enumerate(hidden):
        check_counts(**{f"hidden[{i}]": width})
        layers += [
            GaussianNoise(noise if i else input_noise),
            weight_norm(nn.Linear(size, width)),
            nn.ReLU(inplace=True),
        ]
        size = width
    body = nn.Sequential(*layers, GaussianNoise(noise))
    return Classifier(body, weight_norm(nn.Linear(size, num_classes)))
