"""DDPG: targets by hand, the actor's gradient by finite differences, truncation, a quadratic bandit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lit_rl import DDPG, MLP, GaussianNoise, Linear, Replay
from lit_rl.algorithms.actor_critic.ddpg import deterministic_actor_loss, deterministic_target
from lit_rl.functional.critics import critics_loss
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, transitions, with_gradient


def test_targets_and_losses_by_hand() -> None:
    """Row 1, truncated, bootstraps: 0 + ½·2; row 2, terminated, does not: 2. Losses ½ (q − y)²."""
    reward, discount = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 0.0])
    y = deterministic_target(reward, discount, torch.tensor([[4.0, 2.0, 9.0], [6.0, 3.0, 9.0]]))
    assert y.tolist() == [3.0, 1.0, 2.0], "the smaller of two critics"
    assert critics_loss(torch.tensor([[1.0, 1.0, 5.0], [3.0, 0.0, 2.0]]), y).tolist() == [2.0, 0.5, 4.5]


def agent(**changes) -> DDPG:
    torch.manual_seed(0)
    return detached(DDPG("Pendulum-v1", **{"net": MLP((8,)), "optimizer": Optimizer(lr=0.01)} | changes))


def batch(rows: int = 6, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    obs, next_obs = (torch.randn(rows, 3, generator=rng) for _ in range(2))
    action = 4 * torch.rand(rows, 1, generator=rng) - 2
    return transitions(obs, action, torch.randn(rows, generator=rng), torch.full((rows,), 0.9), next_obs)


def test_the_target_uses_both_slow_networks() -> None:
    ddpg, data = agent(), batch()
    with torch.no_grad():
        for parameter in [*ddpg.actor_target.parameters(), *ddpg.critics_target.parameters()]:
            parameter.add_(0.3)
    action = 2 * torch.tanh(ddpg.actor_target(data.next_obs))
    y = data.reward + 0.9 * ddpg.critics_target(data.next_obs, action)[0]
    error = ddpg.critics(data.obs, data.action)[0] - y
    assert ddpg.loss(data)["critic_loss"].item() == pytest.approx(0.5 * error.square().mean().item(), rel=1e-5)
    torch.testing.assert_close(ddpg.experience.td_error, error.abs().detach())


def test_the_actors_gradient_is_the_slope_of_the_critic() -> None:
    """Finite differences of −mean q(s, μ(s; φ)) over φ, in float64; the critic feels nothing of it."""
    ddpg, data = agent().double(), batch()
    data = data._replace(**{name: getattr(data, name).double() for name in ("obs", "action", "reward", "next_obs")})
    ddpg.loss(data)["actor_loss"].backward()
    assert all(p.grad is None for p in ddpg.critics.parameters())

    def objective() -> float:
        with torch.no_grad():
            return -ddpg.critics(data.obs, ddpg.policy.greedy(data.obs))[0].mean().item()

    for parameter in ddpg.policy.parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for i in range(0, len(flat), 5):
            kept, h = flat[i].item(), 1e-6
            flat[i] = kept + h
            above = objective()
            flat[i] = kept - h
            difference = (above - objective()) / (2 * h)
            flat[i] = kept
            assert gradient[i].item() == pytest.approx(difference, abs=1e-7)


def test_on_a_quadratic_the_gradient_is_known() -> None:
    """q = −(a − a*)²: the actor's gradient is −2 (a* − μ) dμ (formula sheet 7.5.3a)."""
    mean = torch.tensor([0.3, -0.2], requires_grad=True)
    deterministic_actor_loss(-((mean - torch.tensor([1.0, 0.5])) ** 2)).sum().backward()
    np.testing.assert_allclose(mean.grad, [-2 * 0.7, -2 * 0.7], rtol=1e-6)


def test_one_update_moves_actor_and_critic_and_draws_their_copies_after() -> None:
    ddpg = agent(tau=0.25)
    before = parameters(ddpg)
    ddpg.update(batch())
    learnt = {name for name in before if name.startswith(("policy.", "critics."))}
    slow = {name for name in before if "target" in name}
    assert with_gradient(ddpg) == learnt
    assert moved(ddpg, before) == learnt | slow == before.keys()
    for copy, online in ((ddpg.actor_target, ddpg.actor), (ddpg.critics_target, ddpg.critics)):
        for name, value in copy.slow.named_parameters():
            full = next(n for n, p in ddpg.named_parameters() if p is value)
            torch.testing.assert_close(value, 0.75 * before[full] + 0.25 * dict(online.named_parameters())[name])


@pytest.mark.medium
def test_truncation_bootstraps(tmp_path: Path) -> None:
    """Reward 1 for ever behind a time limit: q = 1/(1 − 0.8) = 5, not the 3.4 of 5 steps."""
    data = Replay(1500, 64, 0.5, warmup=100, steps_per_epoch=1500, steps_per_batch=1000)
    ddpg = DDPG("Level-v9", data, MLP((16,), "relu"), Optimizer(Linear(3e-3, 1e-4, 1500)), 0.8, 0.1)
    learn(ddpg, tmp_path, 1)
    value = ddpg.critics(torch.zeros(5, 1), torch.linspace(-1, 1, 5)[:, None])
    np.testing.assert_allclose(value.detach(), 5, atol=0.3)


@pytest.mark.medium
def test_a_quadratic_bandit_is_solved(tmp_path: Path) -> None:
    """Reward −(a − 0.3)²: the action is 0.3."""
    data = Replay(1500, 64, 0.5, warmup=200, steps_per_epoch=1500, steps_per_batch=1000)
    ddpg = DDPG(
        "Quadratic-v9", data, MLP((32,), "relu"), Optimizer(Linear(3e-3, 1e-4, 1500)), 0.9, 0.1, GaussianNoise(0.3)
    )
    learn(ddpg, tmp_path, 1)
    assert ddpg.policy.greedy(torch.zeros(1, 1)).item() == pytest.approx(0.3, abs=0.15)
