from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, relu

from sslbench.models import label_vector_networks
from sslbench.models.label_vector_networks import ClassNetworks, LabelVectorNetworks, codebook

CHANNELS, PADDINGS = (16, 8, 1), (1, 2, 2)


def convolutions(networks: ClassNetworks) -> list[nn.Conv2d]:
    return [layer for layer in networks.body if isinstance(layer, nn.Conv2d)]


def class_networks(shape: tuple[int, int, int] = (1, 28, 28), num_classes: int = 3) -> ClassNetworks:
    """In float64 and with biases above zero, so that no map is all zeros."""
    torch.manual_seed(0)
    networks = ClassNetworks(shape[0], shape[1:], num_classes).double()
    for layer in convolutions(networks):
        assert layer.bias is not None
        nn.init.uniform_(layer.bias, 0.1, 0.5)
    return networks


def images_of(count: int, shape: tuple[int, int, int] = (1, 28, 28)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def alone(networks: ClassNetworks, k: int, images: Tensor) -> Tensor:
    """The small network of class `k`, from its slices of the weights."""
    x = images
    for layer, channels, padding in zip(convolutions(networks), CHANNELS, PADDINGS, strict=True):
        assert layer.bias is not None
        own = slice(k * channels, (k + 1) * channels)
        x = max_pool2d(relu(conv2d(x, layer.weight[own], layer.bias[own], padding=padding)), 2)
    return x.flatten(1)


@pytest.mark.parametrize(
    ("num_classes", "length", "max_cosine", "seed"),
    [(10, 25, 0.5, 0), (10, 25, 0.5, 7), (3, 8, 0.4, 1), (20, 40, 0.4, 2), (2, 2, 1.0, 3)],
)
def test_codebook_keeps_its_promises(num_classes: int, length: int, max_cosine: float, seed: int) -> None:
    vectors = codebook(num_classes, length, max_cosine, seed)
    assert vectors.shape == (num_classes, length)
    assert vectors.dtype == torch.float32
    assert (vectors > 0).all()
    cosines = vectors.double().numpy() @ vectors.double().numpy().T
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-6)
    assert cosines[~np.eye(num_classes, dtype=bool)].max() <= max_cosine


def test_codebook_is_a_function_of_its_arguments() -> None:
    vectors = codebook(10, 25, 0.5, 3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert torch.equal(codebook(10, 25, 0.5, 3), vectors)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(codebook(10, 25, 0.5, 4), vectors)
    first = np.random.RandomState(3).standard_exponential(25) ** 2  # nothing before it to keep away from
    np.testing.assert_allclose(vectors[0].numpy(), first / np.linalg.norm(first), rtol=1e-6)


def test_an_impossible_codebook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_vector_networks, "_CANDIDATES", 200)
    message = r"found 1 vectors of 1 positive numbers .* 2 classes need one each: raise code_length or max_co"
    with pytest.raises(ValueError, match=message) as error:
        codebook(2, 1, 0.5, 0)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="10 classes need one each"):
        codebook(10, 2, 0.1, 0)


@pytest.mark.parametrize(("shape", "length"), [((1, 28, 28), 25), ((3, 8, 8), 4), ((2, 9, 12), 6)])
def test_class_networks_are_one_small_network_a_class(shape: tuple[int, int, int], length: int) -> None:
    networks, images = class_networks(shape), images_of(4, shape)
    codes = networks(images)
    assert codes.shape == (4, 3, length)
    assert networks.code_length == length
    assert codes.max() > 0
    for k in range(3):
        torch.testing.assert_close(codes[:, k], alone(networks, k, images))


def test_ten_networks_on_mnist_sized_images() -> None:
    networks = ClassNetworks(1, (28, 28), 10)
    assert networks(torch.randn(2, 1, 28, 28)).shape == (2, 10, 25)
    of_one = 16 * 9 + 16 + 8 * 16 * 9 + 8 + 8 * 9 + 1
    assert sum(parameter.numel() for parameter in networks.parameters()) == 10 * of_one


def test_no_gradient_from_one_class_to_the_network_of_another() -> None:
    networks = class_networks()
    networks(images_of(4))[:, 1].sum().backward()
    for layer, channels in zip(convolutions(networks), CHANNELS, strict=True):
        for parameter in layer.parameters():
            assert parameter.grad is not None
            first, own, last = parameter.grad.abs().split(channels)
            assert own.sum() > 0
            assert first.sum() == last.sum() == 0


def test_weights_start_xavier_uniform_for_each_class() -> None:
    torch.manual_seed(0)
    networks = ClassNetworks(2, (28, 28), 5)
    for layer, inputs, outputs in zip(convolutions(networks), (2, 16, 8), CHANNELS, strict=True):
        bound = (6 / (9 * inputs + 9 * outputs)) ** 0.5
        for weight in layer.weight.split(outputs):
            assert 0.85 * bound < weight.abs().max() <= bound
        assert layer.bias is not None
        assert not layer.bias.any()


def test_class_networks_refuse_images_that_are_too_small() -> None:
    with pytest.raises(ValueError, match=r"image_size 3x28 is too small .* at least 4x4"):
        ClassNetworks(1, (3, 28), 10)


SIZE, CLASSES, LENGTH = (1, 4, 4), 3, 4


def shared_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, LENGTH))


def small_class_networks() -> nn.Module:
    return ClassNetworks(SIZE[0], SIZE[1:], CLASSES)


KINDS = {"shared": shared_network, "per_class": small_class_networks}


def networks_of(kind: str, restarts: int = 2) -> LabelVectorNetworks:
    torch.manual_seed(2)
    vectors = codebook(CLASSES, LENGTH, 0.8, 0)
    return LabelVectorNetworks(KINDS[kind], restarts, vectors, temperature=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_similarities_are_cosines_with_each_classs_vector(kind: str) -> None:
    networks, images = networks_of(kind), images_of(5, SIZE).float()
    vectors = networks.vectors.double().numpy()
    expected = np.zeros((2, 5, CLASSES))
    for r, network in enumerate(networks.tries):
        codes = network(images).detach().double().numpy()
        for b in range(5):
            for k in range(CLASSES):
                code = codes[b, k] if kind == "per_class" else codes[b]
                length = np.linalg.norm(code)
                expected[r, b, k] = code @ vectors[k] / length if length else 0
    assert np.ptp(expected) > 0.1
    similarities = networks.similarities(images)
    np.testing.assert_allclose(similarities.detach().numpy(), expected, atol=1e-6)
    assert networks.codes(images).shape == (2, 5, CLASSES, LENGTH)
    assert not np.allclose(expected[0], expected[1])


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_best_restarts_similarities_over_the_temperature(kind: str) -> None:
    networks, images = networks_of(kind), images_of(5, SIZE).float()
    networks.loss.copy_(torch.tensor([[2.0] * CLASSES, [1.0] * CLASSES]))
    torch.testing.assert_close(networks(images), networks.similarities(images)[1] / 0.1)


def test_track_loss_is_a_running_mean_for_each_class_and_restart() -> None:
    networks = networks_of("shared")
    expected = np.zeros((2, CLASSES))
    for classes, seed in (([0, 0, 2, 0], 3), ([2, 1], 4), ([1, 1, 1], 5)):
        losses = torch.rand(2, len(classes), generator=torch.Generator().manual_seed(seed))
        networks.track_loss(losses.requires_grad_(), torch.eye(CLASSES)[classes], 0.9)
        for k in set(classes):  # the others stay as they were
            mean = losses.detach().numpy()[:, np.array(classes) == k].mean(axis=1)
            expected[:, k] = 0.9 * expected[:, k] + 0.1 * mean
        np.testing.assert_allclose(networks.loss.numpy(), expected, rtol=1e-6)
    assert not networks.loss.requires_grad


@pytest.mark.parametrize(("kind", "best"), [("shared", [1, 1, 1]), ("per_class", [0, 1, 0])])
def test_the_restart_with_the_lowest_loss_is_selected(kind: str, best: list[int]) -> None:
    """For each class where each has its own network; else on the mean, which is lower in the second here."""
    networks = networks_of(kind)
    networks.loss.copy_(torch.tensor([[1.0, 9.0, 1.0], [2.0, 2.0, 2.0]]))
    for shape in ((2, 5, CLASSES), (2, 5, CLASSES, LENGTH)):
        values = torch.rand(shape)
        expected = torch.stack([values[r][:, k] for k, r in enumerate(best)], dim=1)
        assert torch.equal(networks.select_best(values), expected)


def test_a_checkpoint_holds_the_vectors_and_the_choice() -> None:
    networks, other, images = networks_of("shared"), networks_of("shared"), images_of(3, SIZE).float()
    networks.loss.copy_(torch.tensor([[2.0] * CLASSES, [1.0] * CLASSES]))
    networks.vectors.copy_(networks.vectors.flip(0))
    assert not torch.equal(other(images), networks(images))
    other.load_state_dict(networks.state_dict())
    assert torch.equal(other(images), networks(images))


def test_zero_restarts_are_refused() -> None:
    with pytest.raises(ValueError, match="restarts=0 must be at least 1"):
        networks_of("shared", restarts=0)
