"""Trajectories under a known model, and what they cost: the ground that every planner stands on. Formula sheet: 9.0a.

    x₀ given,  x_{t+1} = f(x_t, u_t)                                          (1)
    J(U) = Σ_{t<H} γᵗ c(x_t, u_t) + γᴴ c_H(x_H)                               (2)

Costs are minimised. States are [*B, H+1, S] and actions [*B, H, A], whatever stands in front. A model steps all of its
problems, candidates and particles at once; the only loop is the one over H.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.bounds import refuse_below

Dynamics = Callable[[Tensor, Tensor], Tensor]  # [*B, S], [*B, A] → [*B, S]
Cost = Callable[[Tensor, Tensor], Tensor]  # [*B, S], [*B, A] → [*B]
TerminalCost = Callable[[Tensor], Tensor]  # [*B, S] → [*B]


def centre_of(low: Float[Tensor, " A"], high: Float[Tensor, " A"]) -> Float[Tensor, " A"]:
    """Middle of a box; 0 where it has none."""
    return torch.where(low.isfinite() & high.isfinite(), (low + high) / 2, torch.zeros_like(low))


def half_width_of(low: Float[Tensor, " A"], high: Float[Tensor, " A"]) -> Float[Tensor, " A"]:
    """Half of a box's width; 1 where it has no end."""
    return torch.where(low.isfinite() & high.isfinite(), (high - low) / 2, torch.ones_like(low))


def rollout(
    dynamics: Dynamics, state: Float[Tensor, "*B S"], actions: Float[Tensor, "*B H A"]
) -> Float[Tensor, "*B H1 S"]:
    """The states that ``actions`` lead through from ``state``, which stands first, (1)."""
    states = [state]
    for action in actions.unbind(-2):
        states.append(dynamics(states[-1], action))
    return torch.stack(states, -2)


def shift(actions: Float[Tensor, "*B H A"]) -> Float[Tensor, "*B H A"]:
    """The plan one step later: its first action is gone, its last one is repeated."""
    return torch.cat([actions[..., 1:, :], actions[..., -1:, :]], -2)


@dataclass(frozen=True, eq=False)
class ControlProblem:
    """What to plan for. Nothing here depends on the state to start from.

    Args:
        dynamics: f. A stochastic one draws anew in every call; a state that ends the episode must lead to itself.
        cost: c, called once for a whole trajectory, time being one more leading dimension.
        low: [A], the least action; −∞ where there is no bound. Its dtype and device are those of the plan.
        high: [A].
        horizon: H.
        terminal: c_H; none by default.
        gamma: γ of (2).
        particles: how many copies of each candidate are simulated, their costs averaged, where f is stochastic.

    Raises:
        ValueError: bounds that cross, a horizon or number of particles below 1.
    """

    dynamics: Dynamics
    cost: Cost
    low: Tensor
    high: Tensor
    horizon: int
    terminal: TerminalCost | None = None
    gamma: float = 1.0
    particles: int = 1

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or self.low.ndim != 1 or not (self.low < self.high).all():
            raise ValueError(
                f"ControlProblem: low {self.low.tolist()} must be [A] and below high {self.high.tolist()} everywhere"
            )
        refuse_below(self, 1, "horizon", "particles")

    @property
    def centre(self) -> Float[Tensor, " A"]:
        """Middle of the box; 0 where it has none."""
        return centre_of(self.low, self.high)

    @property
    def half_width(self) -> Float[Tensor, " A"]:
        """Half of the box's width, the unit in which planners measure deviations; 1 where it has no end."""
        return half_width_of(self.low, self.high)

    def trajectory_cost(self, states: Float[Tensor, "*B H1 S"], actions: Float[Tensor, "*B H A"]) -> Tensor:
        """J of a trajectory that is already there, (2), [*B]."""
        costs = self.cost(states[..., :-1, :], actions)
        if self.gamma != 1.0:
            costs = costs * self.gamma ** torch.arange(costs.shape[-1], dtype=costs.dtype, device=costs.device)
        total = costs.sum(-1)
        if self.terminal is not None:
            total = total + self.gamma ** actions.shape[-2] * self.terminal(states[..., -1, :])
        return total

    def total(self, state: Float[Tensor, "... S"], actions: Float[Tensor, "... H A"]) -> Tensor:
        """J(U) from ``state``, [*B], the mean over particles; +∞ where the model yields no number.

        ``state`` is expanded to the actions' leading dimensions, so that [B, 1, S] serves N candidates of each.
        """
        if self.particles > 1:
            state, actions = state.unsqueeze(-2), actions.unsqueeze(-3)
            actions = actions.expand(*actions.shape[:-3], self.particles, *actions.shape[-2:])
        state = state.expand(*actions.shape[:-2], state.shape[-1])
        total = self.trajectory_cost(rollout(self.dynamics, state, actions), actions)
        if self.particles > 1:
            total = total.mean(-1)
        return torch.where(total.isnan(), torch.full_like(total, torch.inf), total)
