"""Model-predictive path integral control (MPPI). Formula sheet: H6.

Williams et al. 2017: candidates around the last plan are averaged, the cheap ones counting most.

    e_k ~ N(0, Σ),  J_k = J(U + e_k) + λ Uᵀ Σ⁻¹ e_k                          (1)
    w_k ∝ exp(−(J_k − min J) / λ),  U ← U + Σ_k w_k e_k                      (2)

The second term of J_k makes (2) the mean of N(0, Σ) exp(−J/λ), whatever U the samples came from: actions far from 0
are improbable beforehand. Without it, as in most code, U is the prior's mean itself and only J pulls.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.planning.planner import Memory, Planner, clip, colour, objective, standard_normal
from lit_rl.planning.trajectory import ControlProblem


def path_integral_update(
    mean: Float[Tensor, "*B D"],
    noise: Float[Tensor, "*B N D"],
    cost: Float[Tensor, "*B N"],
    deviation: Float[Tensor, " D"],
    temperature: float,
    control_cost: bool = True,
) -> Float[Tensor, "*B D"]:
    """U + Σ_k w_k e_k, (1)-(2). Candidates of infinite cost have no weight; where all are such, U stays.

    Args:
        mean: U, relative to the prior's mean.
        noise: e_k.
        cost: J(U + e_k).
        deviation: √Σ, diagonal.
        temperature: λ.
        control_cost: whether J_k has its second term.
    """
    if control_cost:
        cost = cost + temperature * (noise @ (mean / deviation.square()).unsqueeze(-1)).squeeze(-1)
    weight = torch.softmax(-cost / temperature, -1).nan_to_num(nan=0.0)
    return mean + (weight.unsqueeze(-2) @ noise).squeeze(-2)


@dataclass(frozen=True)
class MPPI(Planner):
    """Path integral control (H6), from the last plan moved on by one step.

    Args:
        samples: N.
        iterations: of (1)-(2) for each plan; the paper's is 1.
        temperature: λ, in units of the cost: towards 0 the cheapest candidate counts alone.
        deviation: √Σ, in halves of the box's width.
        exponent: of the noise's colour over the steps; 0, white, is the paper's, and the only one that
            ``control_cost`` is right for.
        control_cost: whether actions far from the middle of the box are improbable beforehand.
    """

    samples: int = 500
    iterations: int = 1
    temperature: float = 1.0
    deviation: float = 0.5
    exponent: float = 0.0
    control_cost: bool = False

    def __post_init__(self) -> None:
        refuse_below(self, 1, "samples", "iterations")
        refuse_below(self, 0, "exponent")
        for name in ("temperature", "deviation"):
            if not getattr(self, name) > 0:
                raise ValueError(f"MPPI.{name} is {getattr(self, name)}; it must be positive")
        if self.control_cost and self.exponent > 0:
            raise ValueError("MPPI: control_cost is right for white noise only; set exponent to 0")

    @torch.no_grad()
    def search(
        self, problem: ControlProblem, state: Float[Tensor, "B S"], memory: Memory, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "B H A"], Float[Tensor, "B K H A"]]:
        """See :meth:`Planner.search`."""
        steps, actions = memory.actions.shape[1:]
        deviation = self.deviation * problem.half_width
        centre, plan = problem.centre, memory.actions
        for _ in range(self.iterations):
            white = standard_normal(problem, generator, len(state), self.samples, steps, actions)
            candidates = clip(problem, plan[:, None] + deviation * colour(white, self.exponent))
            cost = -objective(problem, state, candidates)
            updated = path_integral_update(
                (plan - centre).flatten(1),
                (candidates - plan[:, None]).flatten(-2),
                cost,
                deviation.repeat(steps),
                self.temperature,
                self.control_cost,
            )
            plan = centre + updated.unflatten(-1, (steps, actions))
        return plan, memory.kept
