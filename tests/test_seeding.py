from __future__ import annotations

import hashlib

import pytest
import torch

from sslbench.seeding import stream, stream_seed


def test_seeds_are_equal_on_every_machine() -> None:
    # Written down once. If this fails, a seed no longer gives the run that was published.
    assert stream_seed(0, "init") == 6696366509346122710
    assert stream_seed(7, "order/labelled") == 1753349772270961421


def test_seed_is_63_bits_of_sha256() -> None:
    low = hashlib.sha256(b"init/0").digest()[:8][::-1].hex()
    assert stream_seed(0, "init") == int(low, 16) // 2
    assert all(0 <= stream_seed(seed, "init") < 2**63 for seed in range(100))


def test_names_and_seeds_have_streams_of_their_own() -> None:
    names = ("init", "algorithm", "order/labelled", "order/unlabelled", "augmentation/labelled")
    seeds = {stream_seed(seed, name) for seed in (0, 1, 2, 2**32 - 1) for name in names}
    assert len(seeds) == 20
    draws = torch.stack([torch.rand(1000, generator=stream(0, name)) for name in names])
    between = torch.corrcoef(draws) - torch.eye(len(names))
    assert between.abs().max() < 0.15


def test_drawing_from_one_stream_leaves_the_others_alone() -> None:
    before = torch.get_rng_state()
    expected = torch.rand(5, generator=stream(3, "b"))
    one, other = stream(3, "a"), stream(3, "b")
    torch.rand(100, generator=one)
    assert torch.equal(torch.rand(5, generator=other), expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_stream_is_on_its_device(device: torch.device | str) -> None:
    generator = stream(0, "init", device)
    assert generator.device.type == "cpu"
    assert generator.initial_seed() == stream_seed(0, "init")
