"""Direct transcription: states and actions are both unknown, the dynamics are constraints; solved by SQP.

Paper: Betts 2010, chapters 3-4; Bock & Plitt 1984 (multiple shooting). Formula sheet: 9.1b.

    min_{X, U} Σ c(x_t, u_t) + c_H(x_H)   s.t.   h_t = f(x_t, u_t) − x_{t+1} = 0,  x_0 given                      (1)
    L = J + Σ λ_{t+1}ᵀ h_t                                                                                        (2)

Newton's step on (2) is a linear-quadratic problem in the changes δ, whose offsets are the defects h, so that the pass
of ``lqr`` solves its KKT system in time linear in H and its value's gradient is the multiplier:

    δx_{t+1} = F_t δz_t + h_t,  cost ½ δzᵀ(∇²c + Σ_i λ_{t+1,i} ∂²f_i) δz + δzᵀ∇c;  λ_t = V_t δx_t + v_t           (3)
    (X, U) ← (X, U) + α δ,  the first α ∈ {1, ½, ¼ …} by which J + σ Σ|h| falls enough, σ > max |λ|               (4)

The trajectory becomes feasible only in the end, and may begin anywhere: unstable dynamics do not explode on the way.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.planning.derivatives import Expansion, convex, dynamics_hessian, expand
from lit_rl.planning.line_search import first_good
from lit_rl.planning.lqr import LinearQuadratic, follow, lqr
from lit_rl.planning.planner import Memory, Planner
from lit_rl.planning.trajectory import ControlProblem, rollout


class Transcription(NamedTuple):
    """A solution of (1), where ``converged``."""

    states: Tensor  # [*B, H+1, S]
    actions: Tensor  # [*B, H, A]
    multipliers: Tensor  # λ_1 … λ_H [*B, H, S]
    cost: Tensor  # [*B]
    violation: Tensor  # max |h| [*B]
    iterations: Tensor  # [*B], steps that were taken
    converged: Tensor  # [*B], bool


def defects(
    problem: ControlProblem, states: Float[Tensor, "*B H1 S"], actions: Float[Tensor, "*B H A"]
) -> Float[Tensor, "*B H S"]:
    """h of (1): 0 where the trajectory obeys the dynamics."""
    return problem.dynamics(states[..., :-1, :], actions) - states[..., 1:, :]


@dataclass(frozen=True)
class Collocation(Planner):
    """Sequential quadratic programming on (1). As a planner it begins from where the last plan leads.

    Args:
        iterations: Newton steps at most.
        tolerance: done when no defect is larger, and a step promises less than this share of 1 + |J|.
        halvings: the smallest α tried is ½ to this power.
        armijo: the share of the promised descent that a step must keep.
    """

    iterations: int = 100
    tolerance: float = 1e-9
    halvings: int = 20
    armijo: float = 1e-4

    def __post_init__(self) -> None:
        refuse_below(self, 1, "iterations")
        refuse_below(self, 0, "tolerance")
        refuse_below(self, 0, "halvings")
        if not 0 < self.armijo < 1:
            raise ValueError(f"Collocation.armijo is {self.armijo}; it must lie in (0, 1)")

    def search(
        self, problem: ControlProblem, state: Float[Tensor, "B S"], memory: Memory, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "B H A"], Float[Tensor, "B K H A"]]:
        """See :meth:`Planner.search`."""
        states = rollout(problem.dynamics, state, memory.actions)
        return self.solve(problem, state, states, memory.actions).actions, memory.kept

    @torch.no_grad()
    def solve(
        self,
        problem: ControlProblem,
        start: Float[Tensor, "*B S"],
        states: Float[Tensor, "*B H1 S"],
        actions: Float[Tensor, "*B H A"],
    ) -> Transcription:
        """Solve from a guess of states and actions, every problem by itself.

        Args:
            problem: without bounds, its dynamics without noise.
            start: x_0.
            states: they need not obey the dynamics; the first one is replaced by ``start``.
            actions: first guess.

        Raises:
            ValueError: bounds, particles, or an action without a cost.
        """
        if (problem.low.isfinite() | problem.high.isfinite()).any() or problem.particles > 1:
            raise ValueError("Collocation: needs dynamics without noise and actions without bounds; ILQR keeps bounds")
        batch, count, horizon = start.shape[:-1], start.shape[:-1].numel(), actions.shape[-2]
        states = torch.cat([start.unsqueeze(-2), states[..., 1:, :]], -2).reshape(count, horizon + 1, -1)
        actions = actions.reshape(count, horizon, -1).clone()
        multipliers = torch.zeros_like(states[:, 1:])
        penalty, taken = torch.zeros_like(states[:, 0, 0]), torch.zeros(count, dtype=torch.long, device=states.device)
        active = torch.ones_like(taken, dtype=torch.bool)
        converged = ~active
        steps = 0.5 ** torch.arange(self.halvings + 1, dtype=states.dtype, device=states.device).unsqueeze(-1)
        for _ in range(self.iterations):
            rows = active.nonzero().squeeze(-1)
            if not len(rows):
                break
            x, u = states[rows], actions[rows]
            defect, expansion = defects(problem, x, u), expand(problem, x, u)
            dx, du, after = _newton_step(problem, x, u, multipliers[rows], defect, expansion)
            penalty[rows] = torch.maximum(penalty[rows], 1.0 + 1.1 * after.abs().amax((-2, -1)))
            total = defect.abs().sum((-2, -1))
            promised = (expansion.gradient * torch.cat([dx[:, :-1], du], -1)).sum((-2, -1))
            promised = promised + (expansion.terminal_gradient * dx[:, -1]).sum(-1) - penalty[rows] * total
            cost = problem.trajectory_cost(x, u)
            settled = (defect.abs().amax((-2, -1)) <= self.tolerance) & (
                -promised <= self.tolerance * (1.0 + cost.abs())
            )
            paths, plans = x + steps[..., None, None] * dx, u + steps[..., None, None] * du  # [halvings + 1, N, …]
            merit = problem.trajectory_cost(paths, plans)
            merit = merit + penalty[rows] * defects(problem, paths, plans).abs().sum((-2, -1))
            good = (merit <= cost + penalty[rows] * total + self.armijo * steps * promised) & ~settled  # (4)
            kept, chosen = first_good(good)
            moved = rows[kept]
            states[moved], actions[moved] = paths[chosen, kept], plans[chosen, kept]
            share = steps[chosen, 0][:, None, None]
            multipliers[moved] = torch.lerp(multipliers[moved], after[kept], share)
            multipliers[rows[settled]] = after[settled]
            taken[moved] += 1
            converged[rows], active[rows] = settled, good.any(0)
        found = (states, actions, multipliers, problem.trajectory_cost(states, actions))
        parts = (*found, defects(problem, states, actions).abs().amax((-2, -1)), taken, converged)
        return Transcription(*(part.reshape((*batch, *part.shape[1:])) for part in parts))


def _newton_step(
    problem: ControlProblem, states: Tensor, actions: Tensor, multipliers: Tensor, defect: Tensor, expansion: Expansion
) -> tuple[Tensor, Tensor, Tensor]:
    """δX, δU and the next multipliers, (3); where the Lagrangian is not convex its convex part is used."""
    bend = torch.einsum("nts,ntsij->ntij", multipliers, dynamics_hessian(problem, states, actions))
    quadratic = LinearQuadratic(
        expansion.dynamics,
        defect,
        convex(expansion.hessian + bend),
        expansion.gradient,
        convex(expansion.terminal_hessian),
        expansion.terminal_gradient,
    )
    policy = lqr(quadratic)
    dx, du = follow(quadratic, policy, torch.zeros_like(states[:, 0]))
    after = (policy.value.hessian @ dx.unsqueeze(-1)).squeeze(-1) + policy.value.gradient
    return dx, du, after[:, 1:]
