"""A2C: its loss by hand, returns that bootstrap from the true successor, and the gradient of parallel workers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl import A2C, MLP, Env, Recurrent, Rollouts
from lit_rl.algorithms.actor_critic.a2c import advantage_actor_critic_loss
from lit_rl.batch import Rollout, map_tensors
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import detached, learn, moved, parameters


def test_loss_by_hand() -> None:
    """V = 1, 2 and G = 3, 1: A = 2, −1; −log π A with log π = −0.5, −2; (V − G)² = 4, 1."""
    log_prob = torch.tensor([-0.5, -2.0], requires_grad=True)
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    target = torch.tensor([3.0, 1.0], requires_grad=True)
    policy, critic = advantage_actor_critic_loss(log_prob, value, target)
    assert policy.tolist() == [1.0, -2.0] and critic.tolist() == [4.0, 1.0]
    (policy.sum() + critic.sum()).backward()
    assert log_prob.grad is not None and value.grad is not None and target.grad is None
    assert log_prob.grad.tolist() == [-2.0, 1.0], "−A"
    assert value.grad.tolist() == [-4.0, 2.0], "2 (V − G), nothing through the advantage"


def agent(env: Any = "CartPole-v1", envs: int = 3, **changes: Any) -> A2C:
    torch.manual_seed(0)
    return detached(A2C(Env.of(env).replace(num_envs=envs), net=ActorCritic(MLP((8,))), **changes))  # type: ignore


def rollout(a2c: A2C, steps: int) -> Rollout:
    collector = open_collector(a2c.env, a2c.policy, seed=0, rank=0)
    data = as_tensors(collector.collect(steps))
    collector.close()
    return data


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_returns_bootstrap_from_the_true_successor(lam: float) -> None:
    """Backwards by hand: V of the final observation where an episode was cut, nothing where it terminated."""
    a2c = agent(lam=lam, gamma=0.9)
    data = rollout(a2c, 60)
    assert len(data.final_index) > 3
    data = data._replace(truncated=data.terminated.clone(), terminated=data.terminated.clone())
    data.terminated[:, 0] = False  # environment 0 is cut by time, the others end
    final = dict(zip(data.final_index.tolist(), data.final_obs, strict=True))
    with torch.no_grad():
        value = a2c.networks.value(data.obs.flatten(0, 1)).view(61, 3)
        target = a2c.targets(data, value)
        for n in range(3):
            following = value[60, n]
            for t in range(59, -1, -1):
                place = t * 3 + n
                successor = a2c.networks.value(final[place][None])[0] if place in final else value[t + 1, n]
                ahead = successor if place in final or lam == 0 else following
                following = data.reward[t, n] + 0.9 * (not data.terminated[t, n]) * ahead
                torch.testing.assert_close(target[t, n], following, atol=1e-5, rtol=1e-5)


def test_the_gradient_is_the_mean_of_single_workers(tmp_path: Path) -> None:
    """5.5a: N environments at equal parameters, against N workers of one environment each."""
    a2c = agent(entropy_weight=0.01)
    data = rollout(a2c, 40)
    sum(a2c.loss(data).values()).backward()
    together = {name: p.grad.clone() for name, p in a2c.named_parameters()}
    a2c.zero_grad()
    for n in range(3):
        mine = data.final_index % 3 == n
        alone = map_tensors(lambda tensor, n=n: tensor[:, n : n + 1] if tensor.dim() > 1 else tensor, data)
        alone = alone._replace(
            final_obs=data.final_obs[mine], final_index=data.final_index[mine] // 3, state=data.state[n : n + 1]
        )
        (sum(a2c.loss(alone).values()) / 3).backward()
    for name, p in a2c.named_parameters():
        torch.testing.assert_close(p.grad, together[name], atol=1e-6, rtol=1e-4)


def test_updates_move_policy_and_critic() -> None:
    a2c = agent()
    before = parameters(a2c)
    (data,) = a2c.minibatches(rollout(a2c, 5))
    a2c.update(data)
    assert moved(a2c, before) == before.keys()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="lag"):
        A2C("CartPole-v1", Rollouts(workers=1))
    with pytest.raises(ValueError, match="memory"):
        A2C("CartPole-v1", net=ActorCritic(Recurrent()))


@pytest.mark.medium
@pytest.mark.parametrize("shared", [False, True])
def test_learns_a_short_task(shared: bool, tmp_path: Path) -> None:
    env = Env("lit_rl.envs.toy:lit_rl/Identity-v0", num_envs=8, kwargs={"horizon": 3})
    optimizer = Optimizer(lr=3e-3, name="rmsprop", eps=1e-5, max_grad_norm=0.5)
    a2c = A2C(env, Rollouts(5, steps_per_epoch=8_000, rollouts_per_batch=20), ActorCritic(shared=shared), optimizer)
    learn(a2c, tmp_path, 1)
    assert a2c.val_dataloader().play().returns.mean() > 2.7
