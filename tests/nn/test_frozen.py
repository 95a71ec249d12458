"""A frozen network gives gradients to its inputs alone, and stays the network it is."""

import pytest
import torch
from torch import nn

from lit_rl.nn.frozen import Frozen


def test_gradients_pass_through_and_none_stays() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    net[0].bias.requires_grad_(False)
    frozen, x = Frozen(net), torch.randn(5, 3, requires_grad=True)
    learning = net(torch.randn(5, 3)).sum()  # a graph made before
    (learning + frozen(x).sum()).backward()
    expected = torch.zeros(5, 3)
    for row in range(5):
        expected[row] = torch.autograd.functional.jacobian(net, x[row].detach())[0]
    torch.testing.assert_close(x.grad, expected)
    alone = torch.autograd.grad(net(torch.ones(1, 3)).sum(), net[2].bias)[0]
    assert torch.equal(net[2].bias.grad, 5 * alone), "of the first graph only"
    assert [p.requires_grad for p in net.parameters()] == [True, False, True, True]


def test_gradients_are_switched_on_again_after_an_error() -> None:
    net = nn.Linear(3, 1)
    with pytest.raises(RuntimeError):
        Frozen(net)(torch.ones(1, 2))
    assert all(p.requires_grad for p in net.parameters())


def test_it_sees_what_the_network_has_become() -> None:
    net = nn.Linear(1, 1, bias=False)
    frozen = Frozen(net)
    frozen(torch.ones(1, 1))
    with torch.no_grad():
        net.weight.fill_(7.0)
    assert frozen(torch.ones(1, 1)).item() == 7.0
