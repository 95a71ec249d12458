"""LQR about a point where a system can stay: the linear feedback that holds it there. Formula sheet: 9.1.1a.

    A, B = ∂f/∂x, ∂f/∂u;  [[Q, N], [Nᵀ, R]] = ½ ∇²c,  at x* and u = 0                                        (1)
    u = K(x − x*),  cost-to-go (x − x*)ᵀP(x − x*),  by the Riccati equation of √γ A, √γ B, Q, R, N          (2)

Exact where f is linear and c quadratic; else right near x*.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.derivatives import gradient_and_hessian, jacobian
from lit_rl.planning.lqr import StationaryPolicy, infinite_horizon_lqr
from lit_rl.planning.systems.system import System
from lit_rl.planning.trajectory import Cost, Dynamics

AT_REST = 1e-9


@dataclass(frozen=True, eq=False)
class CostToGo:
    """(x − x*)ᵀP(x − x*) without whole turns, as the terminal cost of a plan."""

    system: System
    riccati: Tensor  # P [S, S]
    goal: Tensor  # x* [S]

    def __call__(self, state: Float[Tensor, "*B S"]) -> Float[Tensor, "*B"]:
        """The cost of where it ends."""
        away = self.system.wrapped(state - self.goal.to(state))
        return ((away @ self.riccati.to(state)) * away).sum(-1)


def regulate(
    dynamics: Dynamics, cost: Cost, goal: Float[Tensor, " S"], actions: int, gamma: float = 1.0
) -> StationaryPolicy:
    """K and P of (2).

    Args:
        dynamics: f, without noise.
        cost: c, with a minimum at x* and u = 0.
        goal: x*.
        actions: A, numbers in an action.
        gamma: γ.

    Raises:
        ValueError: the system does not stay at x* without action, the cost is not least there, or it cannot be held.
    """
    size = len(goal)
    point = torch.cat([goal, goal.new_zeros(actions)])
    drift = (dynamics(goal, point[size:]) - goal).abs().max()
    if drift > AT_REST:
        raise ValueError(f"regulate: without action the system leaves {goal.tolist()} (by {drift:.2g} in a step)")
    slope, bend = gradient_and_hessian(lambda z: cost(z[..., :size], z[..., size:]), point)
    if slope.abs().max() > AT_REST:
        raise ValueError(
            f"regulate: the cost is not least at {goal.tolist()} without action: its slope is {slope.tolist()}"
        )
    linear = gamma**0.5 * jacobian(lambda z: dynamics(z[..., :size], z[..., size:]), point)  # (1)
    a, b, weight = linear[:, :size], linear[:, size:], 0.5 * bend
    return infinite_horizon_lqr(a, b, weight[:size, :size], weight[size:, size:], weight[:size, size:])  # (2)
