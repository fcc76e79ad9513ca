from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sslbench.data import order
from sslbench.data.order import IndexStream
from sslbench.seeding import stream

CPU = torch.device("cpu")


def pool_of(count: int) -> Tensor:
    """Positions that are not 0..n-1, so that a place in the pool is not taken for a position."""
    return torch.arange(count) * 3 + 100


def index_stream(count: int, batch: int, seed: int = 0, name: str = "order/labelled") -> IndexStream:
    return IndexStream(pool_of(count), batch, stream(seed, name), CPU)


def draw(source: IndexStream, times: int) -> Tensor:
    return torch.stack([source.next() for _ in range(times)])


def assert_whole_passes(drawn: Tensor, count: int) -> None:
    """Cut into stretches of the pool's length, each holds every element once."""
    flat = drawn.flatten()
    whole = flat[: len(flat) // count * count].reshape(-1, count)
    assert torch.equal(whole.sort(dim=1).values, pool_of(count).expand(len(whole), -1))
    rest = flat[whole.numel() :]
    assert len(set(rest.tolist())) == len(rest)
    assert torch.isin(rest, pool_of(count)).all()


@pytest.mark.parametrize(
    ("count", "batch"),
    [
        (1, 1),
        (1, 3),
        (10, 10),
        (7, 3),
        (50, 50),
        (7, 20),
        (30, 7),
        (4095, 64),
        (4096, 64),
        (4097, 64),
        (10, 5000),
    ],
)
def test_each_element_once_a_pass(count: int, batch: int) -> None:
    times = 3 * max(count, batch, 4096) // batch + 2  # over several blocks
    drawn = draw(index_stream(count, batch), times)
    assert drawn.shape == (times, batch)
    assert drawn.dtype == torch.int64
    assert_whole_passes(drawn, count)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 40), batch=st.integers(1, 90), block=st.integers(1, 64), times=st.integers(1, 30))
def test_each_element_once_a_pass_whatever_the_sizes(count: int, batch: int, block: int, times: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_BLOCK", block)
        assert_whole_passes(draw(index_stream(count, batch), times), count)


def test_passes_are_shuffled_anew() -> None:
    drawn = draw(index_stream(20, 20), 300)  # over a block border, where a repeat would show
    assert len({tuple(one) for one in drawn.tolist()}) == 300
    first = torch.bincount((drawn[:, 0] - 100) // 3, minlength=20)
    assert first.min() > 0, "some element never comes first"


def test_drawn_batches_keep_their_values_when_more_are_drawn() -> None:
    source = index_stream(7, 3)
    early = source.next()
    copy = early.clone()
    draw(source, 3000)
    assert torch.equal(early, copy)


@pytest.mark.parametrize("batch", [1, 3, 7, 30])
def test_state_goes_on_from_any_position(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_BLOCK", 16)  # three passes of 7: a border every 21 elements
    whole = draw(index_stream(7, batch), 70)
    for position in range(45):
        source = index_stream(7, batch)
        for _ in range(position):
            source.next()
        content = io.BytesIO()
        torch.save(source.state_dict(), content)
        content.seek(0)
        fresh = index_stream(7, batch, seed=99)
        draw(fresh, 2)
        fresh.load_state_dict(torch.load(content, weights_only=True))
        assert torch.equal(draw(fresh, 25), whole[position : position + 25]), position


def test_state_is_a_copy_of_its_moment() -> None:
    source = index_stream(7, 3)
    draw(source, 2)
    state = source.state_dict()
    expected = draw(source, 3000)
    source.load_state_dict(state)
    assert torch.equal(draw(source, 3000), expected)


def test_streams_of_other_names_or_seeds_differ() -> None:
    draws = [
        draw(index_stream(100, 10, seed, name), 5)
        for seed, name in ((0, "order/labelled"), (0, "order/unlabelled"), (1, "order/labelled"))
    ]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0], draw(index_stream(100, 10), 5))


def test_positions_lie_on_the_device_whatever_its_kind() -> None:
    source = IndexStream(pool_of(7), 3, stream(0, "order/labelled"), torch.device("meta"))
    assert source.next().device.type == "meta"


def test_the_global_stream_is_left_alone() -> None:
    before = torch.get_rng_state()
    draw(index_stream(7, 3), 2000)
    assert torch.equal(torch.get_rng_state(), before)
