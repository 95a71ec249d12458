"""The base class: arguments, counters, clipping, and errors that name the culprit."""

import copy
import pickle

import pytest
import torch

from lit_rl import DQN, MLP, PPO, SAC, Linear
from lit_rl.agent import unstack
from lit_rl.batch import Transition, map_tensors
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, transitions


def batch() -> Transition:
    torch.manual_seed(1)
    obs = torch.randn(3, 4)
    return transitions(obs, [0, 1, 1], [1.0, 2.0, 3.0], [0.9, 0.9, 0.0], obs + 1)


def dqn(**changes) -> DQN:
    torch.manual_seed(0)
    return detached(DQN("CartPole-v1", net=MLP((8,)), **changes))


def test_unstack_takes_the_leading_axis_of_everything() -> None:
    data = batch()._replace(obs={"a": torch.arange(6).view(3, 2), "b": torch.arange(3)})
    rows = list(unstack(data))
    assert [row.obs["a"].tolist() for row in rows] == [[0, 1], [2, 3], [4, 5]]
    assert [row.reward.item() for row in rows] == [1, 2, 3]
    without = data._replace(weight=None)
    assert [row.weight for row in unstack(without)] == [None] * 3
    (single,) = unstack(map_tensors(lambda tensor: tensor[2:], without))
    assert single.obs["a"].tolist() == [4, 5] and single.reward == 3 and single.weight is None
    assert list(unstack(Transition(*(torch.zeros(0, 4) for _ in Transition._fields)))) == [], "K = 0: no update"


@pytest.mark.parametrize("limit", [None, 0.01, 1e9])
def test_gradients_are_scaled_to_the_norm(limit: float | None) -> None:
    free, agent = dqn(), dqn(optimizer=Optimizer(max_grad_norm=limit))
    sum(free.loss(batch()).values()).backward()
    free_norm = torch.cat([p.grad.flatten() for p in free.parameters() if p.grad is not None]).norm()
    assert agent.descent.step(sum(agent.loss(batch()).values())) == pytest.approx(free_norm.item(), rel=1e-5)
    norm = torch.cat([p.grad.flatten() for p in agent.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(min(free_norm.item(), limit or 1e9), rel=1e-3)


@pytest.mark.parametrize("limit", [None, 1.0])
def test_a_gradient_that_is_not_finite_is_named_before_it_does_harm(limit: float | None) -> None:
    agent = dqn(optimizer=Optimizer(max_grad_norm=limit))
    agent.policy.head.bias.register_hook(lambda gradient: gradient * torch.inf)
    before = [p.clone() for p in agent.parameters()]
    with pytest.raises(FloatingPointError, match=r"gradient of policy\.head\.bias is not finite after 0 updates"):
        agent.update(batch())
    assert all(torch.equal(p, old) for p, old in zip(agent.parameters(), before, strict=True))


def test_the_learning_rate_follows_the_env_steps() -> None:
    agent = dqn(optimizer=Optimizer(Linear(1.0, 0.0, 100)))
    agent.policy.env_steps += 75
    agent.descent.set_learning_rate(agent.learning_rate(agent.env_steps))
    assert [group["lr"] for group in agent.optimizers().param_groups] == [0.25]


def test_arguments_are_those_given() -> None:
    agent = PPO("CartPole-v1", gamma=0.5)
    assert agent.arguments()["gamma"] == 0.5 and agent.arguments()["lam"] == 0.95
    assert agent.arguments()["env"].spaces is not None
    for duplicate in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert duplicate.arguments() == agent.arguments()


@pytest.mark.parametrize(
    ("kind", "env", "wrong"),
    [
        (PPO, "CartPole-v1", {"gamma": 1.1}),
        (PPO, "CartPole-v1", {"lam": -0.1}),
        (PPO, "CartPole-v1", {"epochs": 0}),
        (PPO, "CartPole-v1", {"minibatch_size": 0}),
        (PPO, "CartPole-v1", {"target_kl": 0.0}),
        (DQN, "CartPole-v1", {"target_update_every": 0}),
        (DQN, "CartPole-v1", {"huber_delta": 0.0}),
        (SAC, "Pendulum-v1", {"gamma": -1.0}),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(kind, env, wrong) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{name} is {value}: "):
        kind(env, **wrong)
