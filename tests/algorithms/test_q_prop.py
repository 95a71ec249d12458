"""Q-Prop: unbiased whatever Q is, as an equality; its variance, exactly; what each part reaches."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_rl import MLP, Env, QProp, Rehearsal
from lit_rl.algorithms.actor_critic.off_policy_actor_critic import expected_q
from lit_rl.algorithms.actor_critic.q_prop import residual_loss, strength_of
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import detached, transitions, with_gradient
from tests.fixtures import finite_horizon_values, softmax
from tests.oracles.trajectories import mean_and_variance, problem


def returns_to_go(reward: Tensor) -> Tensor:
    return reward.flip(0).cumsum(0).flip(0)


def random_q(states: int = 2, actions: int = 2) -> Tensor:
    return torch.randn(3, states, actions, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def true_q(p: Any) -> Tensor:
    return torch.from_numpy(finite_horizon_values(p.m2.mdp, softmax(p.m2.logits), gamma=1.0)[1])


def parts(p: Any, q: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Ā and Σ_a π Q of every step of every path [T, P], Q being [T, S, A]."""
    q_here = torch.stack([q[t, p.paths.states[t]] for t in range(3)])  # [T, P, A]
    logits_here = logits[p.paths.states]
    expected = expected_q(logits_here.flatten(0, 1), q_here.flatten(0, 1)).view(3, -1)
    return q_here.gather(-1, p.paths.actions.unsqueeze(-1)).squeeze(-1) - expected.detach(), expected


@pytest.mark.parametrize("strength", [0.0, 1.0, -1.0, 0.37])
def test_it_is_unbiased_for_any_q_and_any_strength(strength: float) -> None:
    """5.6c: E over all 64 trajectories of −(4)−(5) with a random Q is −∇J; without (5) it is not (5.6b)."""
    p = problem()
    logits = p.logits.clone().requires_grad_()
    control, expected = parts(p, random_q(), logits)
    eta = torch.tensor(strength, dtype=torch.float64)
    probability = p.paths.probability(logits).detach()
    residual = residual_loss(p.paths.log_prob(logits), returns_to_go(p.paths.reward), control, eta)
    first = torch.autograd.grad(probability @ residual.sum(0), logits, retain_graph=True)[0].flatten()
    second = torch.autograd.grad(-strength * (probability @ expected.sum(0)), logits)[0].flatten()
    exact = -p.paths.gradient(p.logits)
    torch.testing.assert_close(first + second, exact, atol=1e-12, rtol=0)
    if strength:
        assert (first - exact).norm() > 0.05, "the action-dependent baseline alone is biased"


def estimates(p: Any, q: Tensor, strength: float) -> Tensor:
    """Each step's estimate on each path [T, P, S·A], from scores: ∇log π (G − V − ηĀ) + η ∇ Σ_a π Q."""
    control, _ = parts(p, q, p.logits)
    policy, exact = p.logits.softmax(-1), true_q(p)
    value = torch.stack([(policy * exact[t]).sum(-1)[p.paths.states[t]] for t in range(3)])
    residual = returns_to_go(p.paths.reward) - value - strength * control
    found = p.paths.scores(p.logits) * residual.unsqueeze(-1)
    for t in range(3):
        found[t] += strength * slope(p, q, t)
    return found


def slope(p: Any, q: Tensor, t: int) -> Tensor:
    """∂/∂logits of Σ_a π(a|s_t) Q(s_t, a) [P, S·A]."""
    s, policy = p.paths.states[t], p.logits.softmax(-1)
    found = torch.zeros(len(s), 2, 2, dtype=torch.float64)
    found[torch.arange(len(s)), s] = policy[s] * (q[t, s] - (policy[s] * q[t, s]).sum(-1, keepdim=True))
    return found.flatten(1)


@pytest.mark.parametrize("seed", range(4))
def test_with_the_true_q_each_step_varies_less_by_a_known_amount(seed: int) -> None:
    """5.6c, Q = Q^π: what goes is the variance that the action makes, E[(∇log π A)²] − E[(E[∇log π A | s])²] ≥ 0."""
    p = problem(seed)
    probability, q = p.paths.probability(p.logits), true_q(p)
    plain, with_q = estimates(p, q, 0.0), estimates(p, q, 1.0)
    advantage, _ = parts(p, q, p.logits)
    torch.testing.assert_close(probability @ with_q.sum(0), p.paths.gradient(p.logits), atol=1e-12, rtol=0)
    for t in range(3):
        mean, before = mean_and_variance(plain[t], probability)
        same, after = mean_and_variance(with_q[t], probability)
        torch.testing.assert_close(mean, same, atol=1e-12, rtol=0)
        by_action = probability @ (p.paths.scores(p.logits)[t] * advantage[t].unsqueeze(-1)).square()
        by_state = probability @ slope(p, q, t).square()
        torch.testing.assert_close(before - after, by_action - by_state, atol=1e-12, rtol=0)
        assert bool((by_action - by_state > 0).any()) and bool((by_action - by_state > -1e-12).all())


def test_with_the_true_q_the_residual_has_no_mean() -> None:
    """5.6c: E[G − Q^π(s, a) | s_t, a_t] = 0 for every step and pair, so that (4) has conditional mean V ∇log π."""
    p = problem()
    probability, q = p.paths.probability(p.logits), true_q(p)
    difference = returns_to_go(p.paths.reward) - torch.stack(
        [q[t, p.paths.states[t], p.paths.actions[t]] for t in range(3)]
    )
    for t in range(3):
        for s in range(2):
            for a in range(2):
                here = (p.paths.states[t] == s) & (p.paths.actions[t] == a)
                assert abs((probability * difference[t])[here].sum().item()) < 1e-12


def agent(env: Any = "CartPole-v1", **changes: Any) -> QProp:
    torch.manual_seed(0)
    small = {"net": ActorCritic(MLP((8,))), "critic": MLP((8,)), "optimizer": Optimizer(lr=0.1, name="sgd")}
    return detached(QProp(Env.of(env).replace(num_envs=3), **small | changes))


def test_the_gaussian_parts_cancel_for_any_q() -> None:
    """E_a[∇ log π Ā] = ∇_a Q(s, μ) ∇μ by Gauss–Hermite quadrature (exact: the integrand is a polynomial in a)."""
    q_prop = agent("Pendulum-v1").double()
    obs = torch.randn(1, 3, dtype=torch.float64)
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(12))
    weights = weights / weights.sum()
    rows = obs.expand(12, 3)
    with torch.no_grad():
        action = q_prop.policy.outputs(rows) + q_prop.policy.log_std.exp() * nodes.unsqueeze(-1)
    outputs = q_prop.policy.outputs(rows)
    control, expected = q_prop.control_variate(outputs, rows, action)
    log_prob = q_prop.policy.log_prob(outputs, rows, action)
    parameters = list(q_prop.policy.parameters())
    left = torch.autograd.grad((weights * log_prob * control).sum(), parameters, retain_graph=True)
    right = torch.autograd.grad((weights * expected).sum(), parameters, allow_unused=True)
    assert abs((weights * control).sum().item()) < 1e-12
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, atol=1e-12, rtol=0)


def test_strengths_by_hand() -> None:
    """Â = 1, −1, 2 and Ā = 2, 0, −2: Cov = (2 + 0 − 4)/3 = −2/3, mean Ā² = 8/3."""
    advantage, control = torch.tensor([1.0, -1.0, 2.0]), torch.tensor([2.0, 0.0, -2.0])
    found = {kind: strength_of(kind, advantage, control).item() for kind in KINDS}
    assert found == pytest.approx({"one": 1.0, "conservative": 0.0, "aggressive": -1.0, "adaptive": -0.25})
    assert strength_of("conservative", advantage, -control).item() == 1.0


KINDS = ("one", "conservative", "aggressive", "adaptive")


def test_the_strength_is_that_of_the_rollout_before() -> None:
    q_prop = agent(strength="adaptive")
    first, second = rollouts(q_prop, 2)
    assert q_prop.policy_losses(first)["expected_loss"].item() == 0.0, "nothing is known yet"
    strength = q_prop.strength_now.item()
    assert strength != 0.0
    obs = second.obs[:-1].flatten(0, 1)
    expected = q_prop.control_variate(q_prop.policy.outputs(obs), obs, second.action.flatten())[1].mean()
    assert q_prop.policy_losses(second)["expected_loss"].item() == pytest.approx(-strength * expected.item(), rel=1e-5)
    assert "strength_now" in q_prop.state_dict(), "it resumes with the weights"


def rollouts(q_prop: QProp, count: int) -> list[Any]:
    collector = open_collector(q_prop.env, q_prop.policy, seed=0, rank=0)
    found = [as_tensors(collector.collect(12)) for _ in range(count)]
    collector.close()
    return found


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_each_loss_reaches_its_own_parameters_alone(env: str) -> None:
    q_prop = agent(env, strength="one")
    (rollout,) = rollouts(q_prop, 1)
    for term in ("residual_loss", "expected_loss"):
        q_prop.zero_grad()
        q_prop.loss(rollout)[term].backward()
        reached = with_gradient(q_prop)
        assert reached and all(name.startswith(("policy.", "networks.policy.")) for name in reached)
    obs = rollout.obs[:-1].flatten(0, 1)
    count = len(obs)
    past = transitions(obs, rollout.action.flatten(0, 1), torch.ones(count), torch.full((count,), 0.9), obs)
    q_prop.zero_grad()
    q_prop.loss(past)["critic_loss"].backward()
    assert with_gradient(q_prop) == {name for name, _ in q_prop.named_parameters() if name.startswith("critic.")}


def test_what_is_remembered_is_older_than_the_rollout() -> None:
    """No row of ``past`` is of the rollout beside it: Q must know nothing of the actions it is subtracted from."""
    recipe = Rehearsal(steps=4, capacity=1000, batch_size=16, replay_ratio=0.5)
    q_prop = agent(data=recipe)
    experience = recipe.open(q_prop.env, q_prop.policy, 0.99, seed=0)
    seen: set[tuple[float, ...]] = set()
    for number in range(5):
        data, steps = experience.next_round()
        assert steps == 12 and len(data.past.reward) == (6 if number else 0)
        drawn = {tuple(row) for row in data.past.obs.reshape(-1, 4).tolist()}
        assert drawn <= seen
        seen |= {tuple(row) for row in data.rollout.obs[:-1].reshape(-1, 4).tolist()}
    experience.close()


@pytest.mark.parametrize("wrong", [{"lam": 1.1}, {"tau": 0.0}])
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(ValueError, match="QProp"):
        agent(**wrong)
    with pytest.raises(ValueError, match=r"Rehearsal.steps is 0"):
        Rehearsal(steps=0)
