"""Returns, advantages and value targets of rollouts [T, N]: pure, without gradient, on any device.

Every estimator is one linear recursion backwards in time, so that all share one fast routine:

    x_t = a_t + b_t x_{t+1}                                                    (1)

Three tensors say how experience ends, and γ enters once, in the first of them:

* ``discount`` = γ(1 − terminated): what one step multiplies the value of its successor with;
* ``done`` = terminated | truncated: no sum reaches beyond it. As done ⊇ terminated, the factor of the
  recursion is ``discount · (1 − done)`` = γ(1 − done);
* ``next_value[t]`` = V of the true successor of step t: of the final observation where done, of the
  observation after the rollout at t = T−1. The end of a rollout therefore needs no flag of its own.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class VTrace(NamedTuple):
    """What V-trace gives."""

    target: Tensor  # [T, N], regression target of the value
    advantage: Tensor  # [T, N], weight of ∇ log π, truncated ratio included
    rho: Tensor  # [T, N], min(ρ̄, π/μ)


@torch.no_grad()
def linear_recursion(
    a: Float[Tensor, "T N"], b: Float[Tensor, "T N"], last: Float[Tensor, " N"] | None = None
) -> Float[Tensor, "T N"]:
    """Solve x_t = a_t + b_t x_{t+1} backwards from x_T = ``last`` (0 if None), in about 2√T tensor operations.

    Time is cut into √T blocks of √T steps. All blocks are solved side by side as if 0 followed them, then
    the true successors travel from block to block, then into the blocks: x_t = local_t + (Π b) x_{next block}.
    Products are never divided by, so that b = 0 is exact and long products only underflow to 0.
    A two-level prefix scan: Blelloch 1990.
    """
    steps, envs = a.shape
    length = max(1, round(steps**0.5))
    blocks = -(-steps // length)
    padded = a.new_zeros((3, blocks * length, envs))  # x, Π b from here to the block's end, b
    padded[0, :steps], padded[2, :steps] = a, b
    if last is not None:
        padded[0, steps - 1] += b[-1] * last
    rows = padded.view(3, blocks, length, envs).movedim(2, 0)  # [length, 3, blocks, N]
    rows[-1, 1] = rows[-1, 2]

    solved, factor = rows[:, :2].unbind(), rows[:, 2].unbind()
    for row in range(length - 2, -1, -1):
        solved[row].addcmul_(factor[row], solved[row + 1])
    x, product = rows[:, 0], rows[:, 1]
    head, head_product = x[0].unbind(), product[0].unbind()
    for block in range(blocks - 2, -1, -1):
        head[block].addcmul_(head_product[block], head[block + 1])
    x[1:, :-1].addcmul_(product[1:, :-1], x[0, 1:])
    return padded[0, :steps]


@torch.no_grad()
def generalized_advantage(
    reward: Float[Tensor, "T N"],
    value: Float[Tensor, "T N"],
    next_value: Float[Tensor, "T N"],
    discount: Float[Tensor, "T N"],
    done: Bool[Tensor, "T N"],
    *,
    lam: float,
) -> Float[Tensor, "T N"]:
    """GAE(λ) advantages; ``value`` + these are the TD(λ) targets of the value.

        δ_t = r_t + γ(1 − terminated_t) V(s_{t+1}) − V(s_t)
        A_t = δ_t + γλ(1 − done_t) A_{t+1}

    Source: Schulman et al. 2016, eq. 16. Formula sheet: 5.6.2a.
    """
    delta = reward + discount * next_value - value
    return linear_recursion(delta, lam * discount * ~done)


@torch.no_grad()
def lambda_returns(
    reward: Float[Tensor, "T N"],
    next_value: Float[Tensor, "T N"],
    discount: Float[Tensor, "T N"],
    done: Bool[Tensor, "T N"],
    *,
    lam: float,
) -> Float[Tensor, "T N"]:
    """TD(λ) returns from the values of successors alone.

        G_t = r_t + γ(1 − terminated_t) [(1 − λ_t) V(s_{t+1}) + λ_t G_{t+1}],  λ_t = λ(1 − done_t),  G_T = V(s_T)

    Equal to :func:`generalized_advantage` + V(s_t) where V(s_{t+1}) is one number in both its roles.
    Source: Sutton and Barto 2018, eq. 12.18. Formula sheet: 5.6.1b, 5.6.2a.
    """
    trace = lam * discount * ~done
    return linear_recursion(reward + (discount - trace) * next_value, trace, next_value[-1])


def discounted_returns(
    reward: Float[Tensor, "T N"],
    next_value: Float[Tensor, "T N"],
    discount: Float[Tensor, "T N"],
    done: Bool[Tensor, "T N"],
) -> Float[Tensor, "T N"]:
    """Monte-Carlo returns: the sum of rewards to the episode's end, bootstrapped only where it was cut.

        G_t = r_t + γ[(1 − done_t) G_{t+1} + (1 − terminated_t) done_t V(s_{t+1})],  G_T = V(s_T)

    With ``next_value`` = 0 truncated episodes are biased towards 0. Formula sheet: 0.2, 4.1a.
    """
    return lambda_returns(reward, next_value, discount, done, lam=1.0)


@torch.no_grad()
def n_step_returns(
    reward: Float[Tensor, "T N"],
    next_value: Float[Tensor, "T N"],
    discount: Float[Tensor, "T N"],
    done: Bool[Tensor, "T N"],
    *,
    n: int,
) -> Float[Tensor, "T N"]:
    """n-step returns; windows stop early, and bootstrap there, at an episode's or the rollout's end.

        G⁽¹⁾_t = r_t + γ(1 − terminated_t) V(s_{t+1})
        G⁽ᵏ⁾_t = r_t + γ(1 − terminated_t) [V(s_{t+1}) if done_t else G⁽ᵏ⁻¹⁾_{t+1}]

    Minus V(s_t) these are the n-step advantages. Formula sheet: 5.6.1a, 7.4.2a.

    Raises:
        ValueError: ``n`` < 1.
    """
    if n < 1:
        raise ValueError(f"n_step_returns: n is {n}; it must be 1 or more")
    returns = reward + discount * next_value
    for _ in range(min(n, len(reward)) - 1):
        successor = torch.where(done[:-1], next_value[:-1], returns[1:])
        returns = torch.cat([reward[:-1] + discount[:-1] * successor, returns[-1:]])
    return returns


@torch.no_grad()
def vtrace(
    reward: Float[Tensor, "T N"],
    value: Float[Tensor, "T N"],
    next_value: Float[Tensor, "T N"],
    discount: Float[Tensor, "T N"],
    done: Bool[Tensor, "T N"],
    *,
    log_ratio: Float[Tensor, "T N"],
    lam: float = 1.0,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
) -> VTrace:
    """V-trace targets and advantages for data of a policy μ that lags behind π.

        ρ_t = min(ρ̄, π/μ),  c_t = λ min(c̄, π/μ)
        δ_t = ρ_t [r_t + γ(1 − terminated_t) V(s_{t+1}) − V(s_t)]
        v_t = V(s_t) + x_t,  x_t = δ_t + γ(1 − done_t) c_t x_{t+1}
        A_t = ρ_t [r_t + γ(1 − terminated_t) v'_t − V(s_t)],  v'_t = v_{t+1}, or V(s_{t+1}) at an end

    With π = μ and both bars at least 1, v − V is GAE(λ). Source: Espeholt et al. 2018, eq. 1. Formula sheet: H1.

    Args:
        log_ratio: log π(a_t|s_t) − log μ(a_t|s_t).
        rho_bar: truncation of the ratio of the TD errors; decides which policy's value is learnt.
        c_bar: truncation of the ratio of the trace, ≤ ``rho_bar``; decides only how fast.

    Raises:
        ValueError: ``c_bar`` > ``rho_bar``.
    """
    if c_bar > rho_bar:
        raise ValueError(f"vtrace: c_bar {c_bar} is larger than rho_bar {rho_bar}; lower it")
    ratio = log_ratio.exp()
    rho = ratio.clamp(max=rho_bar)
    delta = rho * (reward + discount * next_value - value)
    target = value + linear_recursion(delta, lam * ratio.clamp(max=c_bar) * discount * ~done)
    next_target = torch.where(done[:-1], next_value[:-1], target[1:])
    next_target = torch.cat([next_target, next_value[-1:]])
    return VTrace(target, rho * (reward + discount * next_target - value), rho)
