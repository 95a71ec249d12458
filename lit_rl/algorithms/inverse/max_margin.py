"""Apprenticeship by feature matching: maximum margin, its soft form, and projection.

Paper    Abbeel & Ng 2004, sections 3 and 3.1; Ratliff, Bagnell & Zinkevich 2006.       Formula sheet: 16.0.2a, 16.0.2b
Update   μ(π) = E Σ_t γᵗ f(s_t, a_t), |μ(π) − μ_E| ≤ ε and |ψ| ≤ 1 ⇒ |J − J_E| ≤ ε              (1)
         qp:          max m with |ψ| ≤ 1 and ψ·μ_E ≥ ψ·μ_j + m for all policies found           (2)
         svm:         min ½|ψ|² + C ξ with ψ·μ_E ≥ ψ·μ_j + |μ_E − μ_j|₁ − ξ                      (3)
         projection:  ψ = μ_E − μ̄, μ̄ the nearest point on the way to each new μ                 (4)
         π ← optimal for ψ·f, and its μ joins those found                                       (5)
Data     Demonstrations: the expert's visits, and the dynamics of the world; the reward is never read.
Differs  (5) plans for the horizon T with γ, as μ_E is cut there. Of the mixture that matches the expert, the agent
         acts by the one policy that comes nearest, with T steps to go; the mixture's distance is plotted as ``gap``.
"""

from typing import Literal

import torch
from torch import Tensor

from lit_rl.algorithms.tabular.table_agent import TableAgent
from lit_rl.data.demonstrations import Demonstrations, Expert
from lit_rl.data.episodes import Episodes
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import horizon_value_iteration
from lit_rl.planning.evaluation import greedy
from lit_rl.planning.margin import max_margin, project, soft_margin
from lit_rl.planning.model import Model
from lit_rl.planning.occupancy import state_marginals
from lit_rl.policies.table import TablePolicy


def feature_expectation(visits: Tensor, gamma: float, per_pair: bool) -> Tensor:
    """(1) of visits [T, S, A]: [S] for a feature per state, [S·A] for one per pair."""
    powers = gamma ** torch.arange(len(visits), dtype=torch.float64, device=visits.device)
    weighted = (powers[:, None, None] * visits).sum(0)
    return weighted.flatten() if per_pair else weighted.sum(-1)


class MaxMargin(TableAgent):
    """Looks for a reward under which the expert stands out, plans for it, and looks again.

    Args:
        env: environment recipe, or its id: a finite MDP, or FrozenLake, Taxi, CliffWalking.
        data: demonstrations; an update is one new policy.
        gamma: weight per step.
        method: ``projection``, ``qp`` or ``svm``.
        features: one per ``state``, or per ``pair`` (s, a).
        cost: C of (3).
        policies: the most that are found; later updates change nothing.
        evaluation: greedy episodes under the true reward, at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy
    found: Tensor
    reached: Tensor
    psi: Tensor
    nearest: Tensor
    count: Tensor

    def __init__(
        self,
        env: Env | str,
        data: Demonstrations = Demonstrations(steps_per_epoch=10),
        gamma: float = 0.95,
        method: Literal["projection", "qp", "svm"] = "projection",
        features: Literal["state", "pair"] = "state",
        cost: float = 10.0,
        policies: int = 100,
        evaluation: Episodes = Episodes(max_steps=1_000),
    ) -> None:
        super().__init__(env, data, gamma, evaluation)
        self.require(method in ("projection", "qp", "svm"), "method", method, "it is projection, qp or svm")
        self.require(features in ("state", "pair"), "features", features, "it is state or pair")
        self.require(cost > 0, "cost", cost, "it is positive")
        self.require(policies >= 1, "policies", policies, "it counts policies, from 1")
        self.method, self.per_pair, self.cost = method, features == "pair", cost
        self.policy = TablePolicy(self.env.observation_space, self.actions)
        size = self.states * (self.actions if self.per_pair else 1)
        for name, shape in (("found", (policies, size)), ("reached", (size,)), ("psi", (size,))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("nearest", torch.full((), torch.inf, dtype=torch.float64))

    def sweep(self, data: Expert) -> dict[str, float]:
        """(2), (3) or (4), and then (5)."""
        expert = feature_expectation(data.visits, self.gamma, self.per_pair)
        count = int(self.count)
        if count == len(self.found):
            return {"gap": float((expert - self.reached).norm()), "policies": float(count)}
        if count == 0:
            self._add(data, expert)  # optimal for no reward: any policy will do to begin with
            self.reached.copy_(self.found[0])
            count = 1
        known = self.found[:count]
        if self.method == "projection":
            self.psi.copy_(expert - self.reached)  # (4)
        else:
            arrays = expert.cpu().numpy(), known.cpu().numpy()
            best = max_margin(*arrays)  # (2)
            self.reached.copy_(known.new_tensor(best.weight) @ known)
            if self.method == "svm":
                distance = (expert - known).abs().sum(-1)
                best = soft_margin(*arrays, distance.cpu().numpy(), self.cost)  # (3)
            self.psi.copy_(torch.from_numpy(best.psi))
        gap = float((expert - self.reached).norm())
        if count < len(self.found):
            self._add(data, expert)
            if self.method == "projection":
                nearer = project(*(part.cpu().numpy() for part in (expert, self.reached, self.found[count])))
                self.reached.copy_(torch.from_numpy(nearer))
        return {"gap": gap, "nearest_policy": float(self.nearest), "policies": float(self.count)}

    def _add(self, data: Expert, expert: Tensor) -> None:
        """(5)."""
        reward = self.psi.view(self.states, -1).expand(self.states, self.actions)
        model = Model(data.model.transition, reward, data.model.initial)
        q = horizon_value_iteration(model, len(data.visits), self.gamma).q
        acts = greedy(q)
        visits = state_marginals(model, acts, len(data.visits)).unsqueeze(-1) * acts
        expectation = feature_expectation(visits, self.gamma, self.per_pair)
        self.found[int(self.count)] = expectation
        self.count += 1
        distance = (expert - expectation).norm()
        if distance < self.nearest:
            self.nearest.copy_(distance)
            self.policy.q.copy_(q[0])
