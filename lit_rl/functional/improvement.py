"""How much better is a new policy? The performance difference, its surrogate, and bounds on the error between them.

Tables in any float dtype: S states, A actions, ``transition[s, a, s']``, ``policy[s, a]``. The old policy is π, the
new one π'. KL(p‖q) = E_p[log p − log q]; TV(p, q) = ½ Σ |p − q| lies in [0, 1], half of the L1 distance.
Formula sheet: 8.0.1a, 8.0.1b, 8.0.1c, 8.0.2a, 8.1a.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def discounted_occupancy(
    transition: Float[Tensor, "S A S"], initial: Float[Tensor, " S"], policy: Float[Tensor, "S A"], gamma: float
) -> Float[Tensor, " S"]:
    """d(s) = Σ_t γᵗ p(s_t = s) = (I − γ P_πᵀ)⁻¹ p_0, which sums to 1/(1 − γ). Formula sheet: 3.3.1a, 8.0.1a."""
    step = torch.einsum("sa,sat->st", policy, transition)
    identity = torch.eye(len(initial), dtype=step.dtype, device=step.device)
    return torch.linalg.solve(identity - gamma * step.T, initial)


def expected_advantage(
    occupancy: Float[Tensor, " S"], policy: Float[Tensor, "S A"], advantage: Float[Tensor, "S A"]
) -> Float[Tensor, ""]:
    """Σ_s d(s) Σ_a π'(a|s) A_π(s, a), the advantage always being the old policy's.

    With the occupancy d_π' of the new policy this is the performance difference J(π') − J(π), exactly; with d_π of
    the old one it is the surrogate Ā(π'), which is 0 and has the gradient of J at π' = π.
    Source: Kakade and Langford 2002. Formula sheet: 8.0.1a, 8.0.1b.
    """
    return occupancy @ (policy * advantage).sum(-1)


def surrogate_gain(log_ratio: Float[Tensor, " B"], advantage: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """The mean of (ρ − 1) A with ρ = π'(a|s)/π(a|s), from actions of π: what Ā gains over π' = π.

    The mean of ρ A but for a constant. γᵗ is dropped, as in practice. Formula sheet: 8.0.1b.
    """
    return (log_ratio.expm1() * advantage).mean()


def total_variation(p: Float[Tensor, "*batch A"], q: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch"]:
    """TV(p, q) = ½ Σ_a |p(a) − q(a)|. Formula sheet: 8.0.1c."""
    return (p - q).abs().sum(-1) / 2


def pinsker_bound(kl: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """TV ≤ √(KL/2), for either direction of the divergence. Formula sheet: 8.1a."""
    return (kl / 2).sqrt()


def state_shift_bound(tv: float, steps: int) -> float:
    """TV between the states after t steps ≤ 1 − (1 − ε)ᵗ ≤ ε t, where TV(π', π) ≤ ε in every state.

    Source: Ross, Gordon and Bagnell 2011; Schulman et al. 2015. Formula sheet: 8.0.1c.
    """
    return 1.0 - (1.0 - tv) ** steps


def finite_horizon_bound(
    surrogate: Float[Tensor, ""],
    tv: Float[Tensor, ""],
    policy: Float[Tensor, "S A"],
    advantage: Float[Tensor, "T S A"],
    gamma: float,
) -> Float[Tensor, ""]:
    """J(π') − J(π) ≥ Ā(π') − Σ_t 2 ε t C_t,  C_t = γᵗ max_s |E_{a∼π'} A_t(s, a)|.

    Args:
        surrogate: Ā(π') = Σ_t γᵗ E_{s∼p_t} E_{a∼π'} A_t(s, a), states from the old policy.
        tv: ε, the largest TV(π'(·|s), π(·|s)).
        policy: the new one.
        advantage: A_t of the old policy, t from 0.
        gamma: discount per step.
    """
    time = torch.arange(len(advantage), dtype=advantage.dtype, device=advantage.device)
    largest = (policy * advantage).sum(-1).abs().amax(-1)  # [T]
    return surrogate - (2.0 * tv * time * gamma**time * largest).sum()


def improvement_bound(
    surrogate: Float[Tensor, ""],
    tv: Float[Tensor, ""],
    policy: Float[Tensor, "S A"],
    advantage: Float[Tensor, "S A"],
    gamma: float,
) -> Float[Tensor, ""]:
    """J(π') − J(π) ≥ Ā(π') − 2 ε γ/(1 − γ)² max_s |E_{a∼π'} A(s, a)|; the infinite horizon of the bound above."""
    largest = (policy * advantage).sum(-1).abs().max()
    return surrogate - 2.0 * tv * gamma / (1.0 - gamma) ** 2 * largest


def trust_region_bound(
    surrogate: Float[Tensor, ""], tv: Float[Tensor, ""], advantage: Float[Tensor, "S A"], gamma: float
) -> Float[Tensor, ""]:
    """J(π') − J(π) ≥ Ā(π') − 4 ε² γ max|A| / (1 − γ)². Source: Schulman et al. 2015, theorem 1. Sheet: 8.0.2a."""
    return surrogate - 4.0 * tv**2 * gamma * advantage.abs().max() / (1.0 - gamma) ** 2
