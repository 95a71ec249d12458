import os
import socket

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_rl.nn.body import MLP
from lit_rl.nn.normalizer import Normalizer, ReturnNormalizer
from tests.nn.test_body import VECTOR


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    offset=st.sampled_from([0.0, 1e4]),
)
def test_batches_give_the_statistics_of_all_data_in_any_order(sizes, seed, offset):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(offset, 3.0, (n, 2)) for n in sizes]
    rows = np.concatenate(batches)
    forward, backward = Normalizer(2), Normalizer(2)
    for batch in batches:
        forward.update(torch.from_numpy(batch))
    for batch in reversed(batches):
        backward.update(torch.from_numpy(batch).unsqueeze(0))  # any leading axes
    if len(rows) == 0:
        assert forward.count == 0
        return
    for normalizer in (forward, backward):
        assert normalizer.count == len(rows)
        np.testing.assert_allclose(normalizer.mean.numpy(), rows.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(normalizer.variance.numpy(), rows.var(0), rtol=1e-8, atol=1e-8)


def test_forward_by_hand():
    normalizer = Normalizer(1)
    x = torch.tensor([[1000.0], [-3.0]])
    assert torch.equal(normalizer(x), x)  # the identity, unclipped, until there is data
    normalizer.update(torch.tensor([[1.0], [3.0]]))  # mean 2, variance 1
    torch.testing.assert_close(
        normalizer(torch.tensor([[2.5], [1000.0], [-1000.0]])), torch.tensor([[0.5], [10.0], [-10.0]])
    )


def test_numpy_twin_sees_updates():
    normalizer = Normalizer(3)
    twin = normalizer.numpy()
    x = np.random.default_rng(0).normal(1.0, 5.0, (50, 3)).astype(np.float32)
    for _ in range(3):
        before = x.copy()
        np.testing.assert_array_equal(twin(x), normalizer(torch.from_numpy(x)).numpy())
        np.testing.assert_array_equal(x, before)
        normalizer.update(torch.from_numpy(x))


def test_statistics_travel_in_the_state_dict_and_keep_their_precision():
    normalizer = Normalizer(2)
    normalizer.update(torch.randn(9, 2) + 1e3)
    again = Normalizer(2)
    again.load_state_dict(normalizer.state_dict())
    x = torch.randn(4, 2) + 1e3
    assert torch.equal(again(x), normalizer(x))
    again.to(torch.bfloat16)
    assert again.mean.dtype == torch.float64 and torch.equal(again.mean, normalizer.mean)
    assert again.shift.dtype == torch.bfloat16


def test_bodies_normalise_their_flat_observation():
    module = MLP((4,), normalize=True).build(VECTOR)
    data = torch.randn(200, 3) * 7 + 5
    module.update_statistics(data)
    assert module.normalizer is not None and module.normalizer.count == 200
    standard = (data - data.mean(0)) / data.std(0, unbiased=False)
    torch.testing.assert_close(module(data), module.layers(standard), rtol=1e-4, atol=1e-5)


def test_returns_by_hand():
    # one env, γ = ½: R = 2, then ½·2 + 1 = 2, the episode ends, then R = 4. Mean 8/3, variance 8/9.
    normalizer = ReturnNormalizer(1, 0.5)
    reward = torch.tensor([[2.0], [1.0], [4.0]])
    assert torch.equal(normalizer(reward), reward)
    normalizer.update(reward, torch.tensor([[False], [True], [False]]))
    torch.testing.assert_close(normalizer(reward), reward / (8 / 9) ** 0.5)
    torch.testing.assert_close(normalizer(torch.tensor([100.0])), torch.tensor([10.0]))


def test_returns_go_on_over_calls():
    generator = torch.Generator().manual_seed(0)
    reward, done = torch.randn(20, 3, generator=generator), torch.rand(20, 3, generator=generator) < 0.2
    whole, parts = ReturnNormalizer(3, 0.9), ReturnNormalizer(3, 0.9)
    whole.update(reward, done)
    parts.update(reward[:7], done[:7])
    restored = ReturnNormalizer(3, 0.9)
    restored.load_state_dict(parts.state_dict())
    restored.update(reward[7:], done[7:])
    torch.testing.assert_close(restored.state_dict(), whole.state_dict())


def _rank(rank: int, port: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    normalizer = Normalizer(2)
    for batch in _batches(rank):
        normalizer.update(batch)
    torch.save(normalizer.state_dict(), os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


def _batches(rank: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(n + rank, 2, generator=generator) * (1 + rank) + 4 * rank for n in (3, 8)]


def test_ranks_agree(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(_rank, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    rows = torch.cat([*_batches(0), *_batches(1)]).double()
    assert first["count"] == len(rows)
    torch.testing.assert_close(first["mean"], rows.mean(0))
    torch.testing.assert_close(first["m2"], (rows - rows.mean(0)).square().sum(0))


@pytest.mark.parametrize("shape", [(2,), (5, 2), (3, 4, 2)])
def test_shapes(shape):
    normalizer = Normalizer(2)
    normalizer.update(torch.randn(shape))
    assert normalizer(torch.randn(shape)).shape == shape
