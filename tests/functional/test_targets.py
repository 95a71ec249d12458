import pytest
import torch
from torch import nn

from lit_rl.functional.targets import hard_update, polyak_update


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def test_polyak_closes_the_gap_geometrically():
    online, target = network(0), network(1)
    gap = [t.detach() - o.detach() for t, o in zip(target.parameters(), online.parameters(), strict=True)]
    for _ in range(5):
        polyak_update(target.parameters(), online.parameters(), tau=0.1)
    for g, t, o in zip(gap, target.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(t - o, 0.9**5 * g)  # (1 − τ)ᵏ (θ⁻₀ − θ)
        assert t.requires_grad and t.grad_fn is None


@pytest.mark.parametrize(("tau", "moved"), [(0.0, False), (1.0, True)])
def test_ends_of_tau(tau, moved):
    online, target = network(0), network(1)
    before = target[0].weight.clone()
    polyak_update(target.parameters(), online.parameters(), tau)
    assert torch.equal(target[0].weight, online[0].weight if moved else before)


def test_hard_update_copies_buffers_of_any_dtype_and_shares_nothing():
    online, target = network(0), network(1)
    online(torch.randn(8, 3))  # batch statistics and their int counter move
    hard_update(target.parameters(), online.parameters())
    hard_update(target.buffers(), online.buffers())
    assert target[1].num_batches_tracked == 1
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, online.state_dict()[name])
    with torch.no_grad():
        online[0].weight.zero_()
    assert target[0].weight.abs().sum() > 0


def test_networks_without_buffers_are_fine_and_unequal_ones_are_not():
    hard_update([], [])
    polyak_update([], [], 0.5)
    with pytest.raises(ValueError, match="1 target tensors for 2"):
        polyak_update([torch.zeros(1)], [torch.zeros(1), torch.zeros(1)], 0.5)
