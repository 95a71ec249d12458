"""First and second derivatives of models along whole trajectories, by torch.func, all rows of a batch at once.

A row of a model's output depends on that row of its input alone, so that one derivative of the sum over rows holds
those of all rows. Formula sheet: 9.1.1a, 9.2.1a, 9.2.1b.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap

from lit_rl.planning.trajectory import ControlProblem


class Expansion(NamedTuple):
    """A problem to second order about a trajectory, in z = [x; u]: N problems, Z = S + A."""

    dynamics: Tensor  # ∂f/∂z [N, H, S, Z]
    gradient: Tensor  # ∇c [N, H, Z], discounted
    hessian: Tensor  # ∇²c [N, H, Z, Z], discounted
    terminal_gradient: Tensor  # [N, S]
    terminal_hessian: Tensor  # [N, S, S]


def jacobian(function: Callable[[Tensor], Tensor], point: Float[Tensor, "*B n"]) -> Float[Tensor, "*B m n"]:
    """∂function/∂point of every row, by reverse differentiation. ``function`` maps [*B, n] to [*B, m]."""
    output, pullback = vjp(function, point)[:2]  # no third: the function has no further outputs
    basis = torch.eye(output.shape[-1], dtype=output.dtype, device=output.device)
    return vmap(lambda row: pullback(row.expand_as(output))[0])(basis).movedim(0, -2)


def derivative_along(function: Callable[[Tensor], Tensor], point: Float[Tensor, "*B n"]) -> Float[Tensor, "... n"]:
    """The same by forward differentiation, for outputs [*B, ...] of any shape; the new axis is the last."""
    basis = torch.eye(point.shape[-1], dtype=point.dtype, device=point.device)
    return vmap(lambda row: jvp(function, (point,), (row.expand_as(point),))[1])(basis).movedim(0, -1)


def gradient_and_hessian(
    function: Callable[[Tensor], Tensor], point: Float[Tensor, "*B n"]
) -> tuple[Float[Tensor, "*B n"], Float[Tensor, "*B n n"]]:
    """∇ and ∇² of a function from [*B, n] to [*B]."""
    slope = grad(lambda z: function(z).sum())
    hessian = derivative_along(slope, point)
    return slope(point), 0.5 * (hessian + hessian.mT)


def expand(problem: ControlProblem, states: Float[Tensor, "N H1 S"], actions: Float[Tensor, "N H A"]) -> Expansion:
    """Dynamics to first order and costs to second about a trajectory."""
    size, horizon = states.shape[-1], actions.shape[-2]
    point = torch.cat([states[:, :-1], actions], -1)
    dynamics = jacobian(lambda z: problem.dynamics(z[..., :size], z[..., size:]), point)
    gradient, hessian = gradient_and_hessian(lambda z: problem.cost(z[..., :size], z[..., size:]), point)
    last = states[:, -1]
    final_gradient, final_hessian = torch.zeros_like(last), last.new_zeros(*last.shape, size)
    if problem.terminal is not None:
        final_gradient, final_hessian = gradient_and_hessian(problem.terminal, last)
    if problem.gamma != 1.0:
        weight = problem.gamma ** torch.arange(horizon + 1, dtype=states.dtype, device=states.device)
        gradient, hessian = gradient * weight[:-1, None], hessian * weight[:-1, None, None]
        final_gradient, final_hessian = final_gradient * weight[-1], final_hessian * weight[-1]
    return Expansion(dynamics, gradient, hessian, final_gradient, final_hessian)


def dynamics_hessian(
    problem: ControlProblem, states: Float[Tensor, "N H1 S"], actions: Float[Tensor, "N H A"]
) -> Float[Tensor, "N H S Z Z"]:
    """∂²f_i/∂z² of every dimension i of the next state."""
    size = states.shape[-1]
    point = torch.cat([states[:, :-1], actions], -1)
    return derivative_along(lambda y: jacobian(lambda z: problem.dynamics(z[..., :size], z[..., size:]), y), point)


def convex(hessian: Float[Tensor, "*B n n"]) -> Float[Tensor, "*B n n"]:
    """The nearest positive semidefinite matrix; one that is so already is left as it is, bit for bit."""
    values, vectors = torch.linalg.eigh(hessian)
    bent = values[..., 0] < 0
    if not bent.any():
        return hessian
    projected = (vectors * values.clamp_min(0.0).unsqueeze(-2)) @ vectors.mT
    return torch.where(bent[..., None, None], projected, hessian)
