"""The performance difference is an equality on finite MDPs, its surrogate agrees to first order, the bounds hold."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_rl.envs.finite_mdp import random_mdp
from lit_rl.functional.improvement import (
    discounted_occupancy,
    expected_advantage,
    finite_horizon_bound,
    improvement_bound,
    pinsker_bound,
    state_shift_bound,
    surrogate_gain,
    total_variation,
    trust_region_bound,
)

GAMMA = 0.9


class Pair(NamedTuple):
    """A random MDP, two policies at some distance, and exact quantities of both."""

    transition: Tensor
    reward: Tensor
    initial: Tensor
    old: Tensor  # [S, A]
    new: Tensor  # [S, A]
    advantage: Tensor  # [S, A], of the old one

    def performance(self, policy: Tensor) -> Tensor:
        """J = p_0ᵀ (I − γ P_π)⁻¹ r_π."""
        return self.initial @ value(self, policy)

    def occupancy(self, policy: Tensor) -> Tensor:
        return discounted_occupancy(self.transition, self.initial, policy, GAMMA)

    @property
    def surrogate(self) -> Tensor:
        return expected_advantage(self.occupancy(self.old), self.new, self.advantage)

    @property
    def difference(self) -> Tensor:
        return self.performance(self.new) - self.performance(self.old)


def value(pair: Pair, policy: Tensor) -> Tensor:
    step = torch.einsum("sa,sat->st", policy, pair.transition)
    eye = torch.eye(len(step), dtype=step.dtype)
    return torch.linalg.solve(eye - GAMMA * step, (policy * pair.reward).sum(-1))


def pair(seed: int, distance: float = 1.0) -> Pair:
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, int(rng.integers(2, 6)), int(rng.integers(2, 5)))
    transition, reward, initial = (torch.from_numpy(x) for x in (mdp.transition, mdp.reward, mdp.initial))
    logits = torch.from_numpy(rng.normal(size=reward.shape))
    old = logits.softmax(-1)
    new = (logits + distance * torch.from_numpy(rng.normal(size=reward.shape))).softmax(-1)
    found = Pair(transition, reward, initial, old, new, reward)
    v = torch.from_numpy(mdp.policy_value(old.numpy(), GAMMA))
    return found._replace(advantage=reward + GAMMA * transition @ v - v[:, None])


@pytest.mark.parametrize("seed", range(20))
def test_the_performance_difference_is_an_equality(seed: int) -> None:
    """8.0.1a: J(π') − J(π) = Σ_s d_π'(s) Σ_a π'(a|s) A_π(s, a)."""
    case = pair(seed)
    occupancy = case.occupancy(case.new)
    assert occupancy.sum().item() == pytest.approx(1 / (1 - GAMMA), abs=1e-10)
    identity = expected_advantage(occupancy, case.new, case.advantage)
    torch.testing.assert_close(identity, case.difference, atol=1e-12, rtol=1e-12)
    assert abs(case.surrogate - case.difference) > 1e-6, "the surrogate is something else"


@pytest.mark.parametrize("seed", range(5))
def test_the_surrogate_has_value_0_and_the_gradient_of_j(seed: int) -> None:
    """8.0.1b, 8.36: at π' = π."""
    case = pair(seed)
    logits = case.old.log().requires_grad_()
    policy = logits.softmax(-1)
    surrogate = expected_advantage(case.occupancy(case.old), policy, case.advantage)
    assert abs(surrogate.item()) < 1e-12
    (of_surrogate,) = torch.autograd.grad(surrogate, logits, retain_graph=True)
    (of_performance,) = torch.autograd.grad(case.performance(policy), logits)
    torch.testing.assert_close(of_surrogate, of_performance, atol=1e-10, rtol=1e-10)


def test_the_sampled_surrogate_is_the_table_s() -> None:
    """Every pair (s, a) as one row, weighted by how often π visits it: the mean of (ρ − 1) A is Ā (1 − γ)."""
    case = pair(1)
    log_ratio = (case.new.log() - case.old.log()).flatten()
    weight = ((1 - GAMMA) * case.occupancy(case.old)[:, None] * case.old).flatten() * log_ratio.numel()
    gain = surrogate_gain(log_ratio, weight * case.advantage.flatten())
    torch.testing.assert_close(gain, (1 - GAMMA) * case.surrogate, atol=1e-12, rtol=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("distance", [0.01, 0.1, 1.0])
def test_states_move_no_further_than_the_bound(distance: float) -> None:
    """8.0.1c, on 200 chains and 30 steps each."""
    tightest = 0.0
    for seed in range(200):
        case = pair(seed, distance)
        eps = total_variation(case.new, case.old).max().item()
        states = [case.initial, case.initial]
        steps = [torch.einsum("sa,sat->st", policy, case.transition) for policy in (case.old, case.new)]
        for t in range(30):
            shift = total_variation(*states).item()
            assert shift <= state_shift_bound(eps, t) + 1e-12 and state_shift_bound(eps, t) <= eps * t + 1e-12
            tightest = max(tightest, shift / state_shift_bound(eps, t) if t else 0.0)
            states = [step.T @ now for step, now in zip(steps, states, strict=True)]
    assert tightest > 0.3, "the bound says something"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("distance", [0.001, 0.1, 1.0, 5.0])
def test_improvement_is_at_least_the_bounds(distance: float) -> None:
    """8.0.2a, on 200 random MDPs."""
    useful = 0
    for seed in range(200):
        case = pair(seed, distance)
        eps = total_variation(case.new, case.old).max()
        for bound in (
            improvement_bound(case.surrogate, eps, case.new, case.advantage, GAMMA),
            trust_region_bound(case.surrogate, eps, case.advantage, GAMMA),
        ):
            assert case.difference >= bound - 1e-12
            useful += bool(bound > 0)
    assert useful or distance > 0.01, "close policies can be promised an improvement"


def test_improvement_over_a_finite_horizon_is_at_least_the_bound() -> None:
    for seed in range(100):
        case = pair(seed, 0.3)
        horizon, following = 6, torch.zeros_like(case.initial)
        advantages = []
        for _ in range(horizon):
            q = case.reward + GAMMA * case.transition @ following
            following = (case.old * q).sum(-1)
            advantages.insert(0, q - following[:, None])
        advantage, old, new = torch.stack(advantages), case.initial, case.initial
        surrogate = difference = torch.zeros((), dtype=torch.float64)
        for t in range(horizon):
            surrogate = surrogate + GAMMA**t * expected_advantage(old, case.new, advantage[t])
            difference = difference + GAMMA**t * (
                new @ (case.new * case.reward).sum(-1) - old @ (case.old * case.reward).sum(-1)
            )
            old = torch.einsum("s,sa,sat->t", old, case.old, case.transition)
            new = torch.einsum("s,sa,sat->t", new, case.new, case.transition)
        eps = total_variation(case.new, case.old).max()
        assert difference >= finite_horizon_bound(surrogate, eps, case.new, advantage, GAMMA) - 1e-12


def test_pinsker() -> None:
    """TV ≤ √(KL/2), nearly an equality for distributions near (½, ½)."""
    p, q = torch.rand(2, 500, 4, dtype=torch.float64).softmax(-1)
    for one, other in ((p, q), (q, p)):
        kl = (one * (one.log() - other.log())).sum(-1)
        assert (total_variation(p, q) <= pinsker_bound(kl)).all()
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.51, 0.49])
    kl = (p * (p.log() - q.log())).sum(-1)
    assert total_variation(p, q) == pytest.approx(0.01) and pinsker_bound(kl) == pytest.approx(0.01, rel=1e-3)
