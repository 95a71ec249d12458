"""Where a policy spends its time, and what it earns there: the three objectives. Formula sheet: 3.2, 3.3.1a."""

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.markov_chain import stationary_distribution
from lit_rl.planning.model import Model, Successors, flow, policy_chain, policy_reward


def state_marginals(model: Model, policy: Float[Tensor, "..."], horizon: int) -> Float[Tensor, "T *batch S"]:
    """p(s_t = s) for t = 0 … T−1; rows sum to 1 while no episode has ended.

    Args:
        model: the world.
        policy: π [*batch, S, A], or one for each step [T, *batch, S, A].
        horizon: T.
    """
    timed = policy.ndim > model.reward.ndim
    marginal = model.initial
    rows = []
    for t in range(horizon):
        rows.append(marginal)
        at = policy[t] if timed else policy
        marginal = flow(model.transition, marginal.unsqueeze(-1) * at)
    return torch.stack(rows)


def discounted_occupancy(model: Model, policy: Float[Tensor, "S A"], gamma: float) -> Float[Tensor, " S"]:
    """d_π = (1 − γ)(I − γ P_πᵀ)⁻¹ p₀; J = ⟨d_π, r_π⟩/(1 − γ). It sums to 1 where no episode ends.

    Raises:
        ValueError: γ ≥ 1, where it is 0; see :func:`expected_visits`.
    """
    if gamma >= 1:
        raise ValueError(f"discounted_occupancy: gamma is {gamma}; it must be below 1 (expected_visits has no factor)")
    return (1.0 - gamma) * expected_visits(model, policy, gamma)


def expected_visits(model: Model, policy: Float[Tensor, "S A"], gamma: float = 1.0) -> Float[Tensor, " S"]:
    """Σ_t γᵗ p(s_t = s) = (I − γ P_πᵀ)⁻¹ p₀. At γ = 1 every episode must end."""
    if isinstance(model.transition, Successors) and len(model.reward) > 5_000:
        raise ValueError("expected_visits solves a dense system: more than 5,000 states are for state_marginals")
    step = policy_chain(model.transition, policy)
    identity = torch.eye(len(step), dtype=step.dtype, device=step.device)
    return torch.linalg.solve(identity - gamma * step.mT, model.initial)


def finite_horizon_return(model: Model, policy: Float[Tensor, "..."], horizon: int, gamma: float = 1.0) -> float:
    """J = Σ_{t<T} γᵗ E[r(s_t, a_t)], for π [S, A] or π_t [T, S, A]."""
    marginals = state_marginals(model, policy, horizon)
    rewards = (policy * model.reward).sum(-1)
    powers = gamma ** torch.arange(horizon, dtype=torch.float64, device=rewards.device)
    return float((powers.unsqueeze(-1) * marginals * rewards).sum())


def discounted_return(model: Model, policy: Float[Tensor, "S A"], gamma: float) -> float:
    """J = p₀ᵀ (I − γ P_π)⁻¹ r_π."""
    return float(expected_visits(model, policy, gamma) @ policy_reward(model.reward, policy))


def average_return(model: Model, policy: Float[Tensor, "S A"]) -> float:
    """J = Σ_s μ_π(s) r_π(s) with the stationary distribution of a chain with one recurrent class."""
    return float(stationary_distribution(policy_chain(model.transition, policy)) @ policy_reward(model.reward, policy))
