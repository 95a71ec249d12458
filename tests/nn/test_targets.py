"""Target networks: begin equal, learn nothing, follow by (1 − τ) θ⁻ + τ θ, and survive moving and copying."""

import copy
import pickle

import torch
from torch import nn

from lit_rl.nn.normalizer import Normalizer
from lit_rl.nn.targets import TargetNetwork


def changed(online: nn.Module) -> None:
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(1.0)


def test_it_follows_by_tau() -> None:
    online = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    target, x = TargetNetwork(online), torch.randn(4, 2)
    assert torch.equal(target(x), online(x)) and not any(p.requires_grad for p in target.parameters())
    old = [p.clone() for p in target.parameters()]
    changed(online)
    assert all(torch.equal(p, before) for p, before in zip(target.parameters(), old, strict=True))
    target.follow(0.25)
    for p, before in zip(target.parameters(), old, strict=True):
        torch.testing.assert_close(p, before + 0.25)
    target.follow()
    assert torch.equal(target(x), online(x))


def test_both_networks_see_an_observation_alike_from_the_first_statistics_on() -> None:
    pair = nn.ModuleDict({"online": nn.Sequential(Normalizer(2), nn.Linear(2, 1))})
    pair["target"] = TargetNetwork(pair["online"])
    x = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
    for twin in (pair, copy.deepcopy(pair), pickle.loads(pickle.dumps(pair)), copy.deepcopy(pair).to(torch.float32)):
        before = twin["target"](x)
        twin["online"][0].update(x)
        assert torch.equal(twin["target"](x), twin["online"](x)) and not torch.equal(twin["target"](x), before)


def test_it_is_no_second_home_of_the_online_network() -> None:
    """A copied, pickled or converted pair stays a pair, and the online network is saved once."""
    pair = nn.ModuleDict({"online": nn.Linear(2, 2)})
    pair["target"] = TargetNetwork(pair["online"])
    assert set(pair.state_dict()) == {"online.weight", "online.bias", "target.slow.weight", "target.slow.bias"}
    pair["target"].follow(0.5)
    for twin in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair)), copy.deepcopy(pair).double()):
        changed(twin["online"])
        twin["target"].follow()
        assert torch.equal(twin["target"].slow.weight, twin["online"].weight)
    assert torch.equal(pair["target"].slow.weight, pair["online"].weight)  # the original did not move
