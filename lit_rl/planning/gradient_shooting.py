"""Shooting with gradients: descend the cost of a plan through the model, from several starts. Formula sheet: 9.1a.

    p_H = ∇c_H(x_H),  p_t = ∂_x c_t + (∂_x f_t)ᵀ p_{t+1},  dJ/du_t = ∂_u c_t + (∂_u f_t)ᵀ p_{t+1}        (1)

which is what reverse differentiation of the rollout computes (Bryson & Ho 1975). The early actions move everything
after them and so have by far the largest gradients: Adam's step for each number by itself is what makes first order
usable here. Second order is better (iLQR, DDP).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.planning.planner import Memory, Planner, clip, objective, standard_normal
from lit_rl.planning.trajectory import ControlProblem


def plan_gradient(
    problem: ControlProblem, state: Float[Tensor, "... S"], actions: Float[Tensor, "*B H A"]
) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B H A"]]:
    """J and dJ/dU of every plan, (1). Nothing but the actions is differentiated."""
    with torch.enable_grad():
        actions = actions.detach().requires_grad_()
        cost = problem.total(state, actions)
        (slope,) = torch.autograd.grad(cost.sum(), actions)
    return cost.detach(), slope


@dataclass(frozen=True)
class GradientShooting(Planner):
    """Adam on the actions through the model, projected onto the box; the cheapest plan on the way is kept.

    The first start is the last plan moved on by one step, the others are Gaussian around it.

    Args:
        starts: N.
        steps: of each.
        step_size: Adam's at first, in halves of the box's width; it falls linearly to 0.
        deviation: of the further starts, in the same unit.
    """

    starts: int = 4
    steps: int = 100
    step_size: float = 0.1
    deviation: float = 0.5

    def __post_init__(self) -> None:
        refuse_below(self, 1, "starts", "steps")
        refuse_below(self, 0, "deviation")
        if not self.step_size > 0:
            raise ValueError(f"GradientShooting.step_size is {self.step_size}; it must be positive")

    def search(
        self, problem: ControlProblem, state: Float[Tensor, "B S"], memory: Memory, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "B H A"], Float[Tensor, "B K H A"]]:
        """See :meth:`Planner.search`."""
        unit, last = problem.half_width, memory.actions[:, None]
        shape = (len(state), self.starts - 1, *memory.actions.shape[1:])
        further = last + self.deviation * unit * standard_normal(problem, generator, *shape)
        actions = clip(problem, torch.cat([last, further], 1))
        first, second = torch.zeros_like(actions), torch.zeros_like(actions)
        best_cost, best = torch.full_like(actions[..., 0, 0], torch.inf), actions
        start = state.unsqueeze(1)
        for step in range(self.steps):
            cost, slope = plan_gradient(problem, start, actions)
            better = cost < best_cost
            best = torch.where(better[..., None, None], actions, best)
            best_cost = torch.minimum(cost, best_cost)
            slope = (slope * unit).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            first = torch.lerp(slope, first, 0.9)
            second = torch.lerp(slope.square(), second, 0.999)
            mean, square = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
            length = self.step_size * (1.0 - step / self.steps)
            actions = clip(problem, actions - length * unit * mean / (square.sqrt() + 1e-12))
        last_cost = -objective(problem, state, actions.detach())
        best = torch.where((last_cost < best_cost)[..., None, None], actions, best)
        which = torch.minimum(last_cost, best_cost).argmin(-1)
        return best[torch.arange(len(state), device=which.device), which], memory.kept
