import numpy as np
import pytest
import torch
from gymnasium import spaces

from lit_rl.nn.body import CNN, MLP, Recurrent
from lit_rl.nn.heads import Critics, DiscreteCritics, DuellingHead, QFunction
from tests.nn.test_body import MIXED, PLANES, SPACES, VECTOR, sample, tensors

ACTIONS = spaces.Box(np.array([0.0, -4.0], np.float32), np.array([10.0, 4.0], np.float32))


def test_duelling_identities():
    head = DuellingHead(6, 4, gain=None)
    features = torch.randn(5, 6)
    q = head(features)
    assert q.shape == (5, 4)
    torch.testing.assert_close(q.mean(-1), head.value(features).squeeze(-1))  # the mean over actions is V
    torch.testing.assert_close(q - q.mean(-1, keepdim=True), (a := head.advantage(features)) - a.mean(-1, keepdim=True))
    with torch.no_grad():
        head.advantage.bias.add_(3.0)
    torch.testing.assert_close(head(features), q)  # a constant added to A changes nothing


@pytest.mark.parametrize(
    ("body", "space"),
    [(MLP((8,)), space) for space, _ in SPACES.values()] + [(CNN("small", 32), PLANES), (CNN("small", 32), MIXED)],
)
def test_q_function_of_every_space(body, space):
    torch.manual_seed(0)
    q = QFunction(body, space, ACTIONS)
    obs, action = tensors(sample(space, 4)), tensors(sample(ACTIONS, 4)).requires_grad_()
    value = q(obs, action)
    assert value.shape == (4,)
    value.sum().backward()
    assert action.grad is not None and (action.grad.abs().sum(0) > 0).all()


def test_actions_are_scaled_to_one():
    q = QFunction(MLP(()), VECTOR, ACTIONS)  # no hidden layer: linear in (action, observation)
    obs = torch.zeros(1, 3)
    q.head.weight.data[:] = torch.tensor([1.0, 100.0, 0.0, 0.0, 0.0])
    # the corners of the box are ±1: 0 → −1, 10 → 1 and −4 → −1, 4 → 1; its centre is (5, 0)
    for action, expected in (((0.0, -4.0), -101.0), ((10.0, 4.0), 101.0), ((5.0, 0.0), 0.0), ((10.0, -4.0), -99.0)):
        assert q(obs, torch.tensor([action])).item() == pytest.approx(expected)


def test_critics_are_independent():
    critics = Critics(MLP((8,)), VECTOR, ACTIONS, n=3)
    obs, action = tensors(sample(VECTOR, 4)), tensors(sample(ACTIONS, 4))
    values = critics(obs, action)
    assert values.shape == (3, 4)
    for member, row in zip(critics.members, values, strict=True):
        assert torch.equal(member(obs, action), row)
    assert not torch.equal(values[0], values[1])
    assert critics(obs.expand(2, 4, 3), action.expand(2, 4, 2)).shape == (3, 2, 4)
    values[1].sum().backward()
    assert not any(p.grad.any() for p in critics.members[0].parameters())
    assert all(p.grad.any() for p in critics.members[1].parameters())


def test_critics_normalise_observation_and_action():
    critics = Critics(MLP((8,), normalize=True), VECTOR, ACTIONS)
    critics.update_statistics(tensors(sample(VECTOR, 9)), tensors(sample(ACTIONS, 9)))
    assert [int(member.body.normalizer.count) for member in critics.members] == [9, 9]


@pytest.mark.parametrize(
    ("body", "actions", "message"),
    [
        (MLP(), spaces.Discrete(3), "bounded Box"),
        (MLP(), spaces.Box(-np.inf, np.inf, (2,)), "bounded Box"),
        (Recurrent(), ACTIONS, "no memory"),
    ],
)
def test_what_does_not_fit_is_refused(body, actions, message):
    with pytest.raises(ValueError, match=message):
        QFunction(body, VECTOR, actions)


def test_critics_need_a_member():
    with pytest.raises(ValueError, match="n=0"):
        Critics(MLP(), VECTOR, ACTIONS, n=0)


def test_discrete_critics_are_independent():
    critics = DiscreteCritics(MLP((8,), normalize=True), VECTOR, 5, n=3)
    obs = tensors(sample(VECTOR, 4))
    critics.update_statistics(obs)
    values = critics(obs)
    assert values.shape == (3, 4, 5) and not torch.equal(values[0], values[1])
    values[1].sum().backward()
    assert not any(p.grad.any() for p in critics.members[0].parameters())
    assert all(p.grad.any() for p in critics.members[1].parameters())
    for wrong, arguments in (("at least one", (MLP(), VECTOR, 5, 0)), ("no memory", (Recurrent(), VECTOR, 5))):
        with pytest.raises(ValueError, match=wrong):
            DiscreteCritics(*arguments)
