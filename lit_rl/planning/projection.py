"""Linear value functions: projections, and why fitting after a backup may diverge. Formula sheet: 6.1.4a, 6.3a."""

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.dynamic_programming import bellman
from lit_rl.planning.model import Model, policy_chain, policy_reward


def projection(features: Float[Tensor, "S D"], weight: Float[Tensor, " S"]) -> Float[Tensor, "S S"]:
    """Π = Φ(Φᵀ D Φ)⁻¹ Φᵀ D onto the span of the features: nearest in the D-weighted L2 norm, a non-expansion there."""
    weighted = features.mT * weight
    return features @ torch.linalg.solve(weighted @ features, weighted)


def projected_bellman(
    model: Model, features: Float[Tensor, "S D"], weight: Float[Tensor, " S"], value: Float[Tensor, " S"], gamma: float
) -> Float[Tensor, " S"]:
    """Π B V: one step of fitted value iteration. It need not contract in any norm."""
    return projection(features, weight) @ bellman(model, value, gamma)


def projected_policy_operator(
    model: Model,
    policy: Float[Tensor, "S A"],
    features: Float[Tensor, "S D"],
    weight: Float[Tensor, " S"],
    gamma: float,
) -> tuple[Float[Tensor, "S S"], Float[Tensor, " S"]]:
    """(M, b) of Π B^π V = M V + b.

    With ``weight`` the stationary distribution of π, ‖M‖_D ≤ γ and on-policy linear TD converges; with other
    weights the spectral radius of M may exceed 1, for a bootstrapped critic as for value iteration.
    """
    onto = projection(features, weight)
    return gamma * onto @ policy_chain(model.transition, policy), onto @ policy_reward(model.reward, policy)


def weighted_norm(value: Float[Tensor, "*batch S"], weight: Float[Tensor, " S"]) -> Float[Tensor, "*batch"]:
    """‖V‖_D = √(Σ_s D(s) V(s)²)."""
    return (weight * value.square()).sum(-1).sqrt()


def two_state_counterexample() -> tuple[Model, Float[Tensor, "2 1"]]:
    """V = [w, 2w], both states go to the second, no reward: w ← (6/5) γ w under even weights.

    Diverges for γ > 5/6 although V = 0 is exact. Tsitsiklis & Van Roy 1996.
    """
    transition = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]], dtype=torch.float64)
    model = Model(transition, torch.zeros(2, 1, dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64))
    return model, torch.tensor([[1.0], [2.0]], dtype=torch.float64)
