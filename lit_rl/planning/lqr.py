"""Linear-quadratic control: exact, in one pass backwards and one forwards.

Paper: Anderson & Moore, Optimal Control: Linear Quadratic Methods, 1990. Formula sheet: 9.1.1a, 9.2a, G6.

    x' = F_t z + f_t + w_t,  z = [x; u],  w_t ~ (0, Σ_t);  cost Σ_t ½ zᵀC_t z + zᵀc_t, then ½ xᵀVx + xᵀv        (1)
    Q = C + FᵀV'F,  q = c + Fᵀ(V'f + v')                                                                         (2)
    K = −Q_uu⁻¹ Q_ux,  k = −Q_uu⁻¹ q_u,  u = Kx + k                                                              (3)
    V = Q_xx + Q_xu K + KᵀQ_ux + KᵀQ_uu K,  v = q_x + Q_xu k + Kᵀq_u + KᵀQ_uu k                                  (4)
    const = const' + ½ fᵀV'f + fᵀv' + kᵀq_u + ½ kᵀQ_uu k + ½ tr(V'Σ)                                             (5)
    V_t(x) = ½ xᵀV x + xᵀv + const                                                                               (6)

Noise of mean 0, independent over time and of where the system is, changes (5) alone. Shapes: any leading batch, H
steps, S dimensions of the state, A of the action, Z = S + A. Use float64.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class LinearQuadratic(NamedTuple):
    """A problem (1). ``hessian`` is symmetric, and Q_uu must come out positive definite at every step."""

    dynamics: Tensor  # F [*batch, H, S, Z]
    offset: Tensor  # f [*batch, H, S]
    hessian: Tensor  # C [*batch, H, Z, Z]
    gradient: Tensor  # c [*batch, H, Z]
    terminal_hessian: Tensor  # V_H [*batch, S, S]
    terminal_gradient: Tensor  # v_H [*batch, S]


class QuadraticValue(NamedTuple):
    """Cost-to-go (6) of every step, the end included."""

    hessian: Tensor  # V [*batch, H+1, S, S]
    gradient: Tensor  # v [*batch, H+1, S]
    constant: Tensor  # [*batch, H+1]


class LinearPolicy(NamedTuple):
    """The optimal u = Kx + k, and what it costs from anywhere."""

    gain: Tensor  # K [*batch, H, A, S]
    feedforward: Tensor  # k [*batch, H, A]
    value: QuadraticValue


class StationaryPolicy(NamedTuple):
    """The optimal u = Kx over an infinite horizon, of cost xᵀPx."""

    riccati: Tensor  # P [*batch, S, S]
    gain: Tensor  # K [*batch, A, S]


def backup(
    value_hessian: Float[Tensor, "*batch S S"],
    value_gradient: Float[Tensor, "*batch S"],
    dynamics: Float[Tensor, "*batch S Z"],
    offset: Float[Tensor, "*batch S"],
    hessian: Float[Tensor, "*batch Z Z"],
    gradient: Float[Tensor, "*batch Z"],
) -> tuple[Float[Tensor, "*batch Z Z"], Float[Tensor, "*batch Z"]]:
    """Q and q of one step from the next step's V and v, (2)."""
    pulled = dynamics.mT @ value_hessian
    shifted = _apply(pulled, offset) + _apply(dynamics.mT, value_gradient)
    return hessian + pulled @ dynamics, gradient + shifted


def policy_backup(
    hessian: Float[Tensor, "*batch Z Z"],
    gradient: Float[Tensor, "*batch Z"],
    gain: Float[Tensor, "*batch A S"],
    feedforward: Float[Tensor, "*batch A"],
) -> tuple[Float[Tensor, "*batch S S"], Float[Tensor, "*batch S"], Float[Tensor, "*batch"]]:
    """V, v and kᵀq_u + ½ kᵀQ_uu k under any u = Kx + k, best or not, (4)-(5). V is made symmetric."""
    size = gain.shape[-1]
    q_xx, q_ux, q_uu = hessian[..., :size, :size], hessian[..., size:, :size], hessian[..., size:, size:]
    q_x, q_u = gradient[..., :size], gradient[..., size:]
    pushed = _apply(q_uu, feedforward)  # Q_uu k
    value_hessian = q_xx + q_ux.mT @ gain + gain.mT @ (q_ux + q_uu @ gain)
    value_gradient = q_x + _apply(q_ux.mT, feedforward) + _apply(gain.mT, q_u + pushed)
    gained = (feedforward * (q_u + 0.5 * pushed)).sum(-1)
    return 0.5 * (value_hessian + value_hessian.mT), value_gradient, gained


def lqr(problem: LinearQuadratic, noise: Float[Tensor, "*batch H S S"] | None = None) -> LinearPolicy:
    """The optimal policy, (2)-(5).

    Args:
        problem: (1).
        noise: Σ, the covariance of w; without it the system is deterministic. The policy is the same.

    Raises:
        ValueError: Q_uu is not positive definite somewhere: an action is free of cost, or earns without end.
    """
    hessian, gradient = problem.terminal_hessian, problem.terminal_gradient
    constant = torch.zeros_like(gradient[..., 0])
    size, horizon = gradient.shape[-1], problem.dynamics.shape[-3]
    values, policies = [(hessian, gradient, constant)], []
    for t in range(horizon - 1, -1, -1):
        offset = problem.offset[..., t, :]
        constant = constant + (offset * (0.5 * _apply(hessian, offset) + gradient)).sum(-1)
        if noise is not None:
            constant = constant + 0.5 * (hessian * noise[..., t, :, :]).sum((-2, -1))
        step_hessian, step_gradient = backup(
            hessian,
            gradient,
            problem.dynamics[..., t, :, :],
            offset,
            problem.hessian[..., t, :, :],
            problem.gradient[..., t, :],
        )
        factor, failed = torch.linalg.cholesky_ex(step_hessian[..., size:, size:])
        if failed.any():
            raise ValueError(f"lqr: Q_uu of step {t} is not positive definite; give every action a cost")
        right = torch.cat([step_hessian[..., size:, :size], step_gradient[..., size:, None]], -1)
        solved = -torch.cholesky_solve(right, factor)
        gain, feedforward = solved[..., :-1], solved[..., -1]
        hessian, gradient, gained = policy_backup(step_hessian, step_gradient, gain, feedforward)
        constant = constant + gained
        policies.append((gain, feedforward))
        values.append((hessian, gradient, constant))
    gains, feedforwards = (list(parts) for parts in zip(*reversed(policies), strict=True))
    hessians, gradients, constants = (list(parts) for parts in zip(*reversed(values), strict=True))
    value = QuadraticValue(torch.stack(hessians, -3), torch.stack(gradients, -2), torch.stack(constants, -1))
    return LinearPolicy(torch.stack(gains, -3), torch.stack(feedforwards, -2), value)


def value_at(value: QuadraticValue, states: Float[Tensor, "*batch H1 S"]) -> Float[Tensor, "*batch H1"]:
    """The cost-to-go from a state per step, (6)."""
    return (states * (0.5 * _apply(value.hessian, states) + value.gradient)).sum(-1) + value.constant


def follow(
    problem: LinearQuadratic,
    policy: LinearPolicy,
    start: Float[Tensor, "*#batch S"],
    noise: Float[Tensor, "*#batch H S"] | None = None,
) -> tuple[Float[Tensor, "*out H1 S"], Float[Tensor, "*out H A"]]:
    """States and actions under the policy from ``start``; with ``noise`` w added to every next state."""
    *batch, horizon, _, _ = problem.dynamics.shape
    batch = torch.broadcast_shapes(batch, start.shape[:-1], () if noise is None else noise.shape[:-2])
    states, actions = [start.expand(*batch, -1)], []
    for t in range(horizon):
        action = _apply(policy.gain[..., t, :, :], states[-1]) + policy.feedforward[..., t, :]
        both = torch.cat([states[-1], action], -1)
        following = _apply(problem.dynamics[..., t, :, :], both) + problem.offset[..., t, :]
        states.append(following if noise is None else following + noise[..., t, :])
        actions.append(action)
    return torch.stack(states, -2), torch.stack(actions, -2)


def trajectory_cost(
    problem: LinearQuadratic, states: Float[Tensor, "*batch H1 S"], actions: Float[Tensor, "*batch H A"]
) -> Float[Tensor, "*batch"]:
    """What (1) charges for a trajectory."""
    both, last = torch.cat([states[..., :-1, :], actions], -1), states[..., -1, :]
    steps = (both * (0.5 * _apply(problem.hessian, both) + problem.gradient)).sum((-2, -1))
    return steps + (last * (0.5 * _apply(problem.terminal_hessian, last) + problem.terminal_gradient)).sum(-1)


def state_marginals(
    problem: LinearQuadratic,
    policy: LinearPolicy,
    mean: Float[Tensor, "*batch S"],
    covariance: Float[Tensor, "*batch S S"],
    noise: Float[Tensor, "*batch H S S"],
) -> tuple[Float[Tensor, "*batch H1 S"], Float[Tensor, "*batch H1 S S"]]:
    """Mean and covariance of every state under the policy: S' = (F_x + F_u K) S (F_x + F_u K)ᵀ + Σ."""
    means, _ = follow(problem, policy, mean)
    size = mean.shape[-1]
    closed = problem.dynamics[..., :size] + problem.dynamics[..., size:] @ policy.gain
    covariances = [covariance]
    for t in range(closed.shape[-3]):
        step = closed[..., t, :, :]
        covariances.append(step @ covariances[-1] @ step.mT + noise[..., t, :, :])
    return means, torch.stack([covariances[0].expand_as(covariances[-1]), *covariances[1:]], -3)


def infinite_horizon_lqr(
    a: Float[Tensor, "*#batch S S"],
    b: Float[Tensor, "*#batch S A"],
    q: Float[Tensor, "*#batch S S"],
    r: Float[Tensor, "*#batch A A"],
    cross: Float[Tensor, "*#batch S A"] | None = None,
    doublings: int = 60,
) -> StationaryPolicy:
    """min Σ_t xᵀQx + 2xᵀNu + uᵀRu over x' = Ax + Bu, t = 0, 1, …: the limit of the finite horizons.

    By doubling: iteration i holds the Riccati recursion of 2ⁱ steps (Chu, Fan, Lin & Wang 2004), so that a dozen
    suffice even where one step contracts little.

        W = I + G P;  A ← A W⁻¹ A,  G ← G + A W⁻¹ G Aᵀ,  P ← P + Aᵀ P W⁻¹ A
        from A − B R⁻¹ Nᵀ,  B R⁻¹ Bᵀ,  Q − N R⁻¹ Nᵀ

    Args:
        a: A.
        b: B; (A, B) must be stabilisable.
        q: Q.
        r: R, positive definite.
        cross: N; 0 by default.
        doublings: at most so many.

    Raises:
        ValueError: R is not positive definite, or nothing settles: (A, B) cannot be stabilised.
    """
    cross = torch.zeros_like(b) if cross is None else cross
    factor, failed = torch.linalg.cholesky_ex(r)
    if failed.any():
        raise ValueError("infinite_horizon_lqr: r must be positive definite")
    step = a - b @ torch.cholesky_solve(cross.mT, factor)
    reach = b @ torch.cholesky_solve(b.mT, factor)
    riccati = q - cross @ torch.cholesky_solve(cross.mT, factor)
    step, reach, riccati = torch.broadcast_tensors(step, reach, riccati)
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for _ in range(doublings):
        solved = torch.linalg.solve(identity + reach @ riccati, torch.cat([step, reach], -1))
        ahead, spread = solved[..., : a.shape[-1]], solved[..., a.shape[-1] :]
        change = step.mT @ riccati @ ahead
        reach = reach + step @ spread @ step.mT
        riccati, step = riccati + 0.5 * (change + change.mT), step @ ahead
        if not riccati.isfinite().all():
            break
        if (change.abs().amax((-2, -1)) <= torch.finfo(a.dtype).eps * riccati.abs().amax((-2, -1))).all():
            gain = -torch.linalg.solve(r + b.mT @ riccati @ b, b.mT @ riccati @ a + cross.mT)
            return StationaryPolicy(riccati, gain)
    raise ValueError("infinite_horizon_lqr: the Riccati recursion does not settle; can these actions stabilise it?")


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
