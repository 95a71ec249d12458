"""The short way through Adam: torch's own numbers, whatever happens in between."""

import copy

import torch
from torch import nn

from lit_rl.optimizer import FusedAdam


def _two() -> list[tuple[nn.Sequential, FusedAdam]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    nets = net, copy.deepcopy(net)
    return [
        (
            net,
            FusedAdam([{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 1e-2}], 1e-3, fused=True),
        )
        for net in nets
    ]


def _equal(one: FusedAdam, other: FusedAdam) -> bool:
    pairs = zip(one.param_groups, other.param_groups, strict=True)
    parameters = [(p, q) for a, b in pairs for p, q in zip(a["params"], b["params"], strict=True)]
    states = [(one.state[p][name], other.state[q][name]) for p, q in parameters for name in one.state[p]]
    return all(torch.equal(a, b) for a, b in [*parameters, *states])


def test_both_ways_give_the_same_numbers() -> None:
    (long_net, long), (short_net, short) = _two()
    for count in range(8):
        if count == 4:  # the state moves to other tensors, as on resume
            long.load_state_dict(copy.deepcopy(long.state_dict()))
            short.load_state_dict(copy.deepcopy(short.state_dict()))
        for group in (*long.param_groups, *short.param_groups):
            group["lr"] = 1e-2 / (1 + count)
        x = torch.randn(5, 3)
        for net in (long_net, short_net):
            net.zero_grad()
            net(x).square().sum().backward()
            if count in (2, 6):  # a part that did not take part in the loss
                net[2].bias.grad = None
        long.step()
        short.step_directly()
        assert _equal(long, short)
    counts = [int(state["step"]) for state in short.state.values()]
    assert counts == [8, 8, 8, 6]


def test_a_parameter_that_never_has_a_gradient_stays_where_it_is() -> None:
    _, (net, optimizer) = _two()
    before = net[2].weight.clone()
    for _ in range(3):
        net[0](torch.randn(5, 3)).square().sum().backward()
        optimizer.step_directly()
    assert torch.equal(net[2].weight, before)
    assert int(optimizer.state[net[0].weight]["step"]) == 3
