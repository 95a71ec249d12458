"""Soft Q-learning: targets by hand, its fixed point that of planning, DQN where it is cold, a policy known exactly."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_rl import MLP, Env, Exponential, Linear, QNetwork, Replay, SoftQ, Table, TargetUpdate
from lit_rl.algorithms.q_learning.dqn import td_error
from lit_rl.algorithms.q_learning.soft_q import Prior, soft_td_error
from lit_rl.envs.finite_mdp import lottery, random_mdp
from lit_rl.functional.action_values import soft_value
from lit_rl.optimizer import Optimizer
from lit_rl.planning.inference import posterior_policy, soft_value_iteration, uniform_prior
from lit_rl.planning.model import Model
from tests.algorithms.stand_in import detached, learn, moved, parameters, transitions, with_gradient
from tests.algorithms.table_runs import WORLD, model_of

Q = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, -1.0]])
NEXT = torch.tensor([[4.0, 4.0], [8.0, 7.0], [9.0, 9.0]])
ACTION, REWARD, DISCOUNT = torch.tensor([0, 1, 0]), torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 0.0])


def test_td_errors_by_hand() -> None:
    """α = 2. V₀ = 2 log 2e² = 4 + 2 log 2, V₁ = 8 + 2 log(1 + e^−½) (truncated: it counts); row 2 terminated: 0 − 2."""
    first, second = 4 + 2 * math.log(2), 8 + 2 * math.log(1 + math.exp(-0.5))
    found = soft_td_error(Q, ACTION, REWARD, DISCOUNT, NEXT, 2.0)
    assert found.tolist() == pytest.approx([1 - (1 + first / 2), 5 - second / 2, -2])
    weighed = soft_td_error(Q, ACTION, REWARD, DISCOUNT, NEXT, 2.0, prior="uniform")
    assert weighed.tolist() == pytest.approx([-2, 5 - (second - 2 * math.log(2)) / 2, -2], abs=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 3.0])
def test_illegal_actions_are_left_out_of_the_sum_and_of_the_prior(alpha: float) -> None:
    """One legal action is worth itself, under either prior. A terminal row has none and stays finite."""
    mask = torch.tensor([[True, False], [False, True], [False, False]])
    for prior in ("none", "uniform"):
        found = soft_td_error(Q, ACTION, REWARD, DISCOUNT, NEXT, alpha, mask, prior)  # type: ignore[arg-type]
        assert found.tolist() == pytest.approx([1 - (1 + 2), 5 - 3.5, -2])


def test_cold_it_is_dqn() -> None:
    """α → 0: the error is at most γ α log A below that of DQN."""
    generator = torch.Generator().manual_seed(0)
    q, next_q = torch.randn(2, 50, 3, generator=generator, dtype=torch.float64)
    action, reward = torch.randint(3, (50,), generator=generator), torch.randn(50, generator=generator).double()
    arguments = (q, action, reward, torch.full_like(reward, 0.9), next_q)
    for alpha in (1.0, 0.1, 1e-3, 1e-6):
        gap = td_error(*arguments) - soft_td_error(*arguments, alpha)
        assert gap.min() >= -1e-12 and gap.max() <= 0.9 * alpha * math.log(3) + 1e-12
    torch.testing.assert_close(soft_td_error(*arguments, 1e-6), td_error(*arguments), atol=1e-6, rtol=0)


def test_no_gradient_reaches_the_target() -> None:
    q, next_q = Q.clone().requires_grad_(), NEXT.clone().requires_grad_()
    soft_td_error(q, ACTION, REWARD, DISCOUNT, next_q, 0.5).sum().backward()
    assert next_q.grad is None and q.grad.tolist() == [[1, 0], [0, 1], [1, 0]]


def every_transition(model: Model, q: torch.Tensor, alpha: float, gamma: float, prior: Prior) -> torch.Tensor:
    """q − E y [S, A] through the loss's own error, over all (s, a, s') by their probabilities; the rest terminates."""
    assert isinstance(model.transition, torch.Tensor)
    states, actions = model.reward.shape
    s, a, then = (
        index.flatten() for index in torch.meshgrid(*map(torch.arange, (states, actions, states)), indexing="ij")
    )
    reward, discount = model.reward[s, a], torch.full((len(s),), gamma, dtype=q.dtype)
    goes_on = soft_td_error(q[s], a, reward, discount, q[then], alpha, prior=prior).view(states, actions, states)
    ends = q - model.reward
    return (model.transition * goes_on).sum(-1) + (1 - model.transition.sum(-1)) * ends


@pytest.mark.parametrize("prior", ["none", "uniform"])
@pytest.mark.parametrize("alpha", [1.0, 0.2])
def test_the_fixed_point_is_that_of_soft_value_iteration(prior: Prior, alpha: float) -> None:
    """Formula sheet 15.6.1a, on a random MDP and on one whose episodes end; V = E_π[r − α log π + γ V']."""
    for mdp in (random_mdp(np.random.default_rng(0), 5, 3), lottery()):
        model, gamma = mdp.model(), 0.9
        p = uniform_prior(model) if prior == "uniform" else None
        exact = soft_value_iteration(model, gamma, alpha, p, 1e-12)
        q = torch.zeros_like(model.reward)
        for _ in range(400):
            q = q - every_transition(model, q, alpha, gamma, prior)
        torch.testing.assert_close(q, exact.q, atol=1e-6, rtol=0)
        policy = posterior_policy(q, alpha)  # a prior of equal weights leaves the softmax alone
        torch.testing.assert_close(policy, exact.policy, atol=1e-6, rtol=0)
        cost = policy.log() if p is None else policy.log() - p.log()
        value = (policy * (q - alpha * cost)).sum(-1)
        torch.testing.assert_close(value, exact.value, atol=1e-6, rtol=0)


def agent(**changes) -> SoftQ:
    torch.manual_seed(0)
    return detached(SoftQ("CartPole-v1", **{"net": QNetwork(MLP((8,))), "optimizer": Optimizer(lr=0.01)} | changes))


def batch(rows: int = 5):
    rng = torch.Generator().manual_seed(0)
    obs, next_obs = (torch.randn(rows, 4, generator=rng) for _ in range(2))
    action = torch.randint(2, (rows,), generator=rng)
    return transitions(obs, action, torch.randn(rows, generator=rng), torch.full((rows,), 0.9), next_obs)


def test_the_loss_is_the_weighted_mean_of_hubers() -> None:
    soft_q = agent(alpha=0.7, huber_delta=0.5)
    data = batch()._replace(weight=torch.tensor([1.0, 0.5, 0.2, 0.0, 0.3]))
    q, next_q = soft_q.q(data.obs), soft_q.q_target(data.next_obs)
    x = (q[torch.arange(5), data.action] - data.reward - 0.9 * soft_value(next_q, 0.7)).detach()
    huber = torch.where(x.abs() <= 0.5, x**2 / 2, 0.5 * x.abs() - 0.125)
    assert soft_q.loss(data)["td_loss"].item() == pytest.approx((data.weight * huber).mean().item(), rel=1e-5)
    torch.testing.assert_close(soft_q.experience.td_error, x)


def test_one_update_moves_q_alone() -> None:
    soft_q = agent()
    before = parameters(soft_q)
    soft_q.update(batch())
    assert moved(soft_q, before) == with_gradient(soft_q) == {name for name in before if name.startswith("policy.")}


def test_it_acts_by_a_boltzmann_policy_that_it_knows() -> None:
    soft_q = agent(alpha=0.3)
    soft_q.policy.refresh()
    obs = torch.randn(3, 4).repeat_interleave(20_000, 0)
    act = soft_q.policy.act(obs.numpy(), np.zeros((60_000, 0), np.float32), np.random.default_rng(0))
    pi = (soft_q.q(obs[::20_000]) / 0.3).softmax(-1).detach()
    often = np.stack([np.bincount(row, minlength=2) for row in act.action.reshape(3, -1)]) / 20_000
    np.testing.assert_allclose(often, pi, atol=5 * 0.5 / 20_000**0.5)
    expected = pi.repeat_interleave(20_000, 0)[torch.arange(60_000), torch.from_numpy(act.action)].log()
    np.testing.assert_allclose(act.log_prob, expected, atol=1e-5)


def test_the_temperature_may_fall_and_both_read_it() -> None:
    soft_q = agent(alpha=Linear(1.0, 0.1, 100))
    for steps, alpha in ((0, 1.0), (50, 0.55), (500, 0.1)):
        soft_q.policy.env_steps.fill_(steps)
        soft_q.policy.refresh()
        assert soft_q.policy.level == pytest.approx(alpha) and soft_q.alpha(soft_q.env_steps) == pytest.approx(alpha)
        assert soft_q.schedules() == {"temperature": pytest.approx(alpha)}


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"alpha": Linear(0.1, 0.0, 10)}, {"prior": "all"}, {"huber_delta": 0}]
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"SoftQ.{next(iter(wrong))} is"):
        agent(**wrong)


@pytest.mark.medium
@pytest.mark.parametrize("prior", ["none", "uniform"])
def test_a_table_learns_the_exact_soft_values(prior: Prior, tmp_path: Path) -> None:
    """A random MDP of 4 states, seen through its transitions: max |q − q*| < 0.1 where q* spreads over 2."""
    env = Env(WORLD + "RandomMDP-v0", num_envs=4, kwargs={"states": 4, "actions": 3})
    data = Replay(20_000, 512, 0.1, warmup=2_000, steps_per_epoch=20_000, steps_per_batch=5_000)
    descent = Optimizer(Exponential(0.1, 0.002, 20_000))
    net, target = QNetwork(Table()), TargetUpdate(tau=0.2)
    soft_q = SoftQ(env, data, net, descent, 0.8, alpha=0.5, prior=prior, target=target, huber_delta=100.0)
    learn(soft_q, tmp_path, 1)
    model = model_of(soft_q)
    exact = soft_value_iteration(model, 0.8, 0.5, uniform_prior(model) if prior == "uniform" else None)
    q = soft_q.q(torch.arange(4)).detach().double()
    assert float(exact.q.max() - exact.q.min()) > 2
    assert float((q - exact.q).abs().max()) < 0.1, q - exact.q
    pi = soft_q.policy.probabilities(q, None)
    torch.testing.assert_close(pi, exact.policy, atol=0.05, rtol=0)
