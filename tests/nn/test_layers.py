"""The short way through layers: the same numbers, and every hook is heard."""

import copy

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from lit_rl import MLP
from lit_rl.nn.layers import Layers, run

KINDS = (nn.ReLU, nn.Tanh, nn.SiLU, nn.ELU, nn.LayerNorm)


def stack() -> list[nn.Module]:
    torch.manual_seed(0)
    activations = [kind(5) if kind is nn.LayerNorm else kind() for kind in KINDS]
    return [layer for activation in activations for layer in (nn.Linear(5, 5), activation)]


def test_the_same_numbers_and_gradients_as_torch_s_own_sequence() -> None:
    short = Layers(*stack(), Layers(nn.Linear(5, 2, bias=False)))
    long = nn.Sequential(*copy.deepcopy(list(short)))
    x = torch.randn(7, 5)
    assert torch.equal(short(x), long(x))
    for layers in (short, long):
        layers(x).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(short.parameters(), long.parameters(), strict=True))
    assert short.state_dict().keys() == long.state_dict().keys()
    assert torch.equal(Layers()(x), x)


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_are_heard(kind: str) -> None:
    layers, heard = Layers(*stack()), []
    hook = getattr(layers[0], f"register_{kind}_hook")(lambda *_: heard.append(kind))
    layers(torch.randn(7, 5, requires_grad=True)).sum().backward()
    assert heard == [kind]
    hook.remove()
    layers(torch.randn(7, 5, requires_grad=True)).sum().backward()
    assert heard == [kind]


def test_replaced_parameters_are_seen() -> None:
    layers, x = Layers(nn.Linear(5, 2)), torch.randn(7, 5)
    layers[0].weight = nn.Parameter(torch.zeros(2, 5))
    assert torch.equal(layers(x), layers[0].bias.expand(7, 2))
    swapped = torch.func.functional_call(layers, {"0.weight": torch.ones(2, 5), "0.bias": torch.zeros(2)}, (x,))
    torch.testing.assert_close(swapped, x.sum(1, keepdim=True).expand(7, 2))


def test_a_compiled_layer_runs_compiled() -> None:
    layer, calls = nn.Linear(5, 2), []
    layer._compiled_call_impl = calls.append
    run(layer, torch.randn(7, 5))
    assert len(calls) == 1


def test_bodies_take_it() -> None:
    body = MLP((3, 3)).build(gymnasium.spaces.Box(-np.inf, np.inf, (5,)))
    assert isinstance(body, Layers) and isinstance(body.layers, Layers)
