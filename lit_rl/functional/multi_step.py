"""Multi-step targets of action values from windows of off-policy data: ignore, cut, weigh, or trace.

A window is L consecutive rows k = 0 … L−1 of one episode, [B, L]. ``valid`` says which rows belong to it: a
prefix, at least the first. ``discount`` [B, L] is γ(1 − terminated) of one step, ``next_value[k]`` is the
value of the state after row k, under the target policy π: max_a q(s', a) or Σ_a π(a|s') q(s', a). The first
action is given, so its ratio never appears. All targets are one backward recursion over the window. Formula
sheet: 7.4.2a, 7.4.3a.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Trace = Literal["retrace", "tree_backup", "q_lambda"]


@torch.no_grad()
def multi_step_target(
    reward: Float[Tensor, "B L"],
    discount: Float[Tensor, "B L"],
    next_value: Float[Tensor, "B L"],
    valid: Bool[Tensor, "B L"],
    ratio: Float[Tensor, "B L"] | None = None,
    goes_on: Bool[Tensor, "B L"] | None = None,
) -> Float[Tensor, " B"]:
    """The n-step return of each window, n as long as it is valid, then the value: fixes 1, 2 and 3.

        y_k = r_k + γ_k (ρ_{k+1} y_{k+1} where the window goes on to row k + 1, else V(s_{k+1}))

    * Ignore: neither of the two options. Biased where the data did not follow π, but for n = 1.
    * Cut: ``goes_on`` is false where a_k is not greedy: V stands in for the rest (Watkins 1989).
    * Importance sampling: ``ratio`` ρ_k = π(a_k|s_k)/μ(a_k|s_k): unbiased, of high variance (Precup et al. 2000).

    Args:
        reward, discount, next_value, valid: see the module.
        ratio: ρ_k, of which the first is not used.
        goes_on: whether row k continues the return of row k − 1; the first is not used.
    """
    going = valid if goes_on is None else valid & goes_on
    y = reward[:, -1] + discount[:, -1] * next_value[:, -1]
    for k in range(reward.shape[1] - 2, -1, -1):
        following = y if ratio is None else ratio[:, k + 1] * y
        y = reward[:, k] + discount[:, k] * torch.where(going[:, k + 1], following, next_value[:, k])
    return y


@torch.no_grad()
def traced_target(
    q: Float[Tensor, "B L"],
    reward: Float[Tensor, "B L"],
    discount: Float[Tensor, "B L"],
    next_value: Float[Tensor, "B L"],
    valid: Bool[Tensor, "B L"],
    coefficient: Float[Tensor, "B L"],
) -> Float[Tensor, " B"]:
    """q(s_0, a_0) + Σ_k γᵏ (Π_{1 ≤ j ≤ k} c_j) δ_k,  δ_k = r_k + γ_k V(s_{k+1}) − q(s_k, a_k).

    ``next_value`` must be the expectation under π, which for every c in [0, π/μ] keeps q^π the fixed point
    (Munos et al. 2016, theorem 2).

    Args:
        q: q(s_k, a_k), of the network that ``next_value`` comes from.
        reward, discount, next_value, valid: see the module.
        coefficient: c_k of :func:`trace_coefficient`; the first is not used.
    """
    delta = reward + discount * next_value - q
    total = delta[:, -1]
    for k in range(reward.shape[1] - 2, -1, -1):
        going = torch.where(valid[:, k + 1], coefficient[:, k + 1], 0.0)
        total = delta[:, k] + discount[:, k] * going * total
    return q[:, 0] + total


def trace_coefficient(
    trace: Trace, probability: Float[Tensor, "B L"], log_mu: Float[Tensor, "B L"], lam: float
) -> Float[Tensor, "B L"]:
    """c of the actions taken: Retrace λ min(1, π/μ), tree backup λ π, Q(λ) λ.

    Munos et al. 2016; Precup et al. 2000; Harutyunyan et al. 2016. Formula sheet: 7.4.3a. Q(λ) is safe only
    where π and μ are near each other, or λ small.

    Args:
        trace: which.
        probability: π(a|s).
        log_mu: log μ(a|s) of the behaviour that acted.
        lam: λ in [0, 1].
    """
    if trace == "retrace":
        return lam * (probability * (-log_mu).exp()).clamp(max=1.0)
    if trace == "tree_backup":
        return lam * probability
    return torch.full_like(probability, lam)
