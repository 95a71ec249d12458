"""The descent that iLQR and DDP share: a quadratic model backwards, a line search forwards.

Paper: Tassa, Erez & Todorov 2012; bounds on the actions as in Tassa, Mansard & Todorov 2014.
Formula sheet: 9.2.1a, 9.2.1b, G7. In deviations from the last trajectory (x̂, û), steps backwards as in ``lqr``:

    K, k   from  min_k ½ kᵀ(Q_uu + μI)k + kᵀq_u,  low − û ≤ k ≤ high − û                          (1)
    u      = clip(û + αk + K(x − x̂)),  x' = f(x, u),  α ∈ {1, ½, ¼ …}                             (2)
    ΔJ(α)  = α Σ kᵀq_u + ½ α² Σ kᵀQ_uu k                                                          (3)

The first α with J_new − J ≤ c₁ ΔJ(α) is taken and μ falls; without one, or where Q_uu + μI is not positive definite, μ
grows. V and v are those of the policy (1) under Q without μ. N problems run together, each with its own μ and α.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.planning.box_qp import box_qp
from lit_rl.planning.derivatives import Expansion
from lit_rl.planning.line_search import first_good
from lit_rl.planning.lqr import backup, policy_backup
from lit_rl.planning.planner import Memory, Planner, clip, colour, standard_normal
from lit_rl.planning.trajectory import ControlProblem, rollout


class Solution(NamedTuple):
    """A trajectory that no small change improves, where ``converged``."""

    states: Tensor  # [*B, H+1, S]
    actions: Tensor  # [*B, H, A], within the bounds
    cost: Tensor  # [*B]
    gain: Tensor  # K [*B, H, A, S], of the last pass backwards: u = û + K(x − x̂) near the trajectory
    iterations: Tensor  # [*B], steps that were taken
    converged: Tensor  # [*B], bool
    costs: Tensor  # [I+1, *B], of the trajectory after every iteration, the first one included


class Direction(NamedTuple):
    """What a pass backwards proposes."""

    gain: Tensor  # [N, H, A, S]
    feedforward: Tensor  # [N, H, A]
    slope: Tensor  # Σ kᵀq_u [N]
    bend: Tensor  # Σ kᵀQ_uu k [N]
    failed: Tensor  # [N], bool


def backward_pass(
    expansion: Expansion,
    curvature: Float[Tensor, "N H S Z Z"] | None,
    damping: Float[Tensor, " N"],
    low: Float[Tensor, "N H A"],
    high: Float[Tensor, "N H A"],
) -> Direction:
    """(1) for every step, the last one first.

    Args:
        expansion: of the problem about the trajectory.
        curvature: second derivatives of the dynamics, weighed by the gradient of the value; none in Gauss-Newton.
        damping: μ.
        low: bounds of the change k.
        high: likewise.
    """
    hessian, gradient = expansion.terminal_hessian, expansion.terminal_gradient
    size, horizon = gradient.shape[-1], low.shape[-2]
    slope = torch.zeros_like(damping)
    bend, failed = slope, torch.zeros_like(slope, dtype=torch.bool)
    identity = torch.eye(low.shape[-1], dtype=low.dtype, device=low.device)
    level, bounded = torch.zeros_like(gradient), bool((low.isfinite() | high.isfinite()).any())
    gains, feedforwards = [], []
    for t in range(horizon - 1, -1, -1):
        q, q_gradient = backup(
            hessian, gradient, expansion.dynamics[:, t], level, expansion.hessian[:, t], expansion.gradient[:, t]
        )
        if curvature is not None:
            q = q + torch.einsum("ns,nsij->nij", gradient, curvature[:, t])
        damped = q[:, size:, size:] + damping[:, None, None] * identity
        factor, bad = torch.linalg.cholesky_ex(damped)
        failed = failed | (bad > 0)
        if failed.any():  # those rows are thrown away in the end; as zeros they do not disturb the others
            damped, factor = (torch.where(failed[:, None, None], identity, part) for part in (damped, factor))
            q, q_gradient = q.masked_fill(failed[:, None, None], 0.0), q_gradient.masked_fill(failed[:, None], 0.0)
        q_u, q_ux = q_gradient[:, size:], q[:, size:, :size]
        if bounded:
            feedforward, free, factor = box_qp(damped, q_u, low[:, t], high[:, t])
            gain = -torch.cholesky_solve(q_ux * free.unsqueeze(-1), factor)
        else:
            feedforward = -torch.cholesky_solve(q_u.unsqueeze(-1), factor).squeeze(-1)
            gain = -torch.cholesky_solve(q_ux, factor)
        along = (feedforward * q_u).sum(-1)
        hessian, gradient, gained = policy_backup(q, q_gradient, gain, feedforward)
        slope, bend = slope + along, bend + 2.0 * (gained - along)
        gains.append(gain)
        feedforwards.append(feedforward)
    return Direction(torch.stack(gains[::-1], 1), torch.stack(feedforwards[::-1], 1), slope, bend, failed)


def forward_pass(
    problem: ControlProblem,
    states: Float[Tensor, "N H1 S"],
    actions: Float[Tensor, "N H A"],
    direction: Direction,
    steps: Float[Tensor, " L"],
) -> tuple[Float[Tensor, "L N H1 S"], Float[Tensor, "L N H A"], Float[Tensor, "L N"]]:
    """(2) for every α at once: states, actions and costs."""
    state = states[:, 0].expand(len(steps), -1, -1)
    after, taken = [state], []
    wanted = actions + steps[:, None, None, None] * direction.feedforward
    for t in range(actions.shape[-2]):
        away = (state - states[:, t]).unsqueeze(-1)
        action = clip(problem, wanted[:, :, t] + (direction.gain[:, t] @ away).squeeze(-1))
        state = problem.dynamics(state, action)
        after.append(state)
        taken.append(action)
    path, plan = torch.stack(after, -2), torch.stack(taken, -2)
    return path, plan, problem.trajectory_cost(path, plan)


@dataclass(frozen=True)
class SecondOrder(Planner):
    """Newton-like descent on the actions, from the last plan moved on by one step and from others around it.

    Args:
        iterations: attempts at a step, at most.
        tolerance: done when the quadratic model promises less than this share of 1 + |J|.
        starts: how many first plans are descended from for each problem; the cheapest result counts. It helps against
            local minima.
        guesses: Gaussian random walks around the last plan, of which the cheapest become the further first plans.
        deviation: of these walks, in halves of the box's width.
        halvings: the smallest α tried is ½ to this power.
        armijo: c₁, the share of the promised descent that a step must keep.
        damping: the smallest μ above 0; it moves in factors of 10, and 1e10 gives up.
    """

    iterations: int = 100
    tolerance: float = 1e-9
    starts: int = 1
    guesses: int = 500
    deviation: float = 1.0
    halvings: int = 10
    armijo: float = 1e-4
    damping: float = 1e-6

    def __post_init__(self) -> None:
        refuse_below(self, 1, "iterations", "starts")
        refuse_below(self, 0, "halvings", "tolerance", "deviation")
        refuse_below(self, self.starts - 1, "guesses")
        if not (self.damping > 0 and 0 < self.armijo < 1):
            raise ValueError(
                f"{type(self).__name__}: damping {self.damping} must be positive, armijo {self.armijo} in (0, 1)"
            )

    @abstractmethod
    def model(
        self, problem: ControlProblem, states: Float[Tensor, "N H1 S"], actions: Float[Tensor, "N H A"]
    ) -> tuple[Expansion, Float[Tensor, "N H S Z Z"] | None]:
        """The quadratic model about a trajectory, and the second derivatives of the dynamics if they are used."""

    def search(
        self, problem: ControlProblem, state: Float[Tensor, "B S"], memory: Memory, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "B H A"], Float[Tensor, "B K H A"]]:
        """See :meth:`Planner.search`."""
        return self.best(problem, state, memory.actions, generator).actions, memory.kept

    def best(
        self,
        problem: ControlProblem,
        state: Float[Tensor, "B S"],
        actions: Float[Tensor, "B H A"],
        generator: torch.Generator | None = None,
    ) -> Solution:
        """The cheapest that is found for each problem, from ``actions`` and from others around them."""
        first, row = actions.unsqueeze(1), torch.arange(len(state), device=state.device)
        if self.starts > 1:
            normals = standard_normal(problem, generator, len(state), self.guesses, *actions.shape[1:])
            noise = colour(normals, 2.0)  # white noise would average out
            guess = clip(problem, first + self.deviation * problem.half_width * noise)
            cheap = problem.total(state.unsqueeze(1), guess).topk(self.starts - 1, largest=False).indices
            first = torch.cat([first, guess[row.unsqueeze(-1), cheap]], 1)
        found = self.solve(problem, state.unsqueeze(1).expand(-1, self.starts, -1), first)
        which = found.cost.argmin(-1)
        return Solution._make([*(part[row, which] for part in found[:-1]), found.costs[:, row, which]])

    @torch.no_grad()
    def solve(
        self, problem: ControlProblem, start: Float[Tensor, "*B S"], actions: Float[Tensor, "*B H A"]
    ) -> Solution:
        """Descend from ``actions``, every problem by itself.

        Raises:
            ValueError: the first actions lead to a cost that is not finite, or the dynamics are said to be stochastic.
        """
        if problem.particles > 1:
            raise ValueError(
                f"{type(self).__name__}: needs dynamics without noise, and particles is {problem.particles}"
            )
        batch, count = start.shape[:-1], start.shape[:-1].numel()
        actions = clip(problem, actions).reshape(count, *actions.shape[-2:])
        states = rollout(problem.dynamics, start.reshape(count, -1), actions)
        cost = problem.trajectory_cost(states, actions)
        if not cost.isfinite().all():
            raise ValueError(f"{type(self).__name__}: the first actions lead to a cost that is not finite")
        damping, taken = torch.zeros_like(cost), torch.zeros_like(cost, dtype=torch.long)
        active = torch.ones_like(cost, dtype=torch.bool)
        converged, costs = ~active, [cost]
        gain = actions.new_zeros(*actions.shape, states.shape[-1])
        steps = 0.5 ** torch.arange(self.halvings + 1, dtype=cost.dtype, device=cost.device)
        model: tuple[Expansion, Tensor | None] | None = None
        for _ in range(self.iterations):
            rows = active.nonzero().squeeze(-1)
            if not len(rows):
                break
            near = states[rows], actions[rows]
            model = self.model(problem, *near) if model is None else model
            direction = backward_pass(*model, damping[rows], problem.low - near[1], problem.high - near[1])
            usable = ~direction.failed
            gain[rows[usable]] = direction.gain[usable]
            promised = steps[:, None] * direction.slope + 0.5 * steps[:, None].square() * direction.bend  # (3)
            done = usable & (damping[rows] <= self.damping)
            done = done & (-promised[0] <= self.tolerance * (1.0 + cost[rows].abs()))
            paths, plans, tried = forward_pass(problem, *near, direction, steps)
            good = (tried - cost[rows] <= self.armijo * promised) & (promised < 0) & usable & ~done
            kept, chosen = first_good(good)
            moved, cost = rows[kept], cost.clone()
            states[moved], actions[moved] = paths[chosen, kept], plans[chosen, kept]
            cost[moved] = tried[chosen, kept]
            taken[moved] += 1
            converged[rows] = done
            damping[rows] = self._adapt(damping[rows], good.any(0))
            active[rows] = ~done & (damping[rows] <= 1e10)
            costs.append(cost)
            if len(kept) or not active[rows].all():
                model = None
        parts = (states, actions, cost, gain, taken, converged)
        shaped = [part.reshape((*batch, *part.shape[1:])) for part in parts]
        return Solution(*[*shaped, torch.stack(costs).reshape(-1, *batch)])

    def _adapt(self, damping: Float[Tensor, " N"], moved: Bool[Tensor, " N"]) -> Float[Tensor, " N"]:
        """μ/10 after a step, 0 below the smallest; 10 μ without one."""
        less = torch.where(damping / 10.0 < self.damping, torch.zeros_like(damping), damping / 10.0)
        return torch.where(moved, less, (10.0 * damping).clamp_min(self.damping))
