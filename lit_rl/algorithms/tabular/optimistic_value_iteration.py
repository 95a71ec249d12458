"""Optimistic value iteration with a count bonus (MBIE-EB).

Paper    Strehl & Littman 2008; Kolter & Ng 2009 for the form β/N.       Formula sheet: 12.1a, 12.1.2a, 12.0.1a
Update   Q(s, a) = min(U, r̂(s, a) + B(N(s, a)) + γ Σ_s' p̂(s'|s, a) max_a' Q(s', a'))             (1)
         Q(s, a) = U where (s, a) was never tried                                             (2)
         p̂ = n(s, a, s')/n(s, a),  r̂ = the mean reward,  the end of an episode worth 0
         B(N) = β/√N, or another form of the bonus                                            (3)
Data     Rollouts of one step: act greedily in Q, count; plan anew when an episode ends, or every ``plan_every`` steps.
Differs  U caps values by what can be earned at most. Sweeps stop at ``max_sweeps`` or at a change below 10⁻⁶.
"""

import torch
from torch import Tensor

from lit_rl.algorithms.tabular.counts import TransitionCounts
from lit_rl.algorithms.tabular.table_agent import ArrayAgent, steps_of
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.nn.bonus import CountBonus
from lit_rl.policies.table import TablePolicy


def optimistic_values(
    counts: Tensor, reward: Tensor, bonus: Tensor, gamma: float, ceiling: float, max_sweeps: int
) -> Tensor:
    """(1)-(2) by sweeps: Q [S, A].

    Args:
        counts: n(s, a, s') [S, A, S + 1], the last for the end of an episode.
        reward: Σ r [S, A].
        bonus: B [S, A] or [S, 1]; anything where a pair was never tried.
        gamma: γ.
        ceiling: U.
        max_sweeps: at most.
    """
    states = counts.shape[0]
    visits = counts.sum(-1)
    tried, shared = visits > 0, visits.clamp(min=1.0)
    transition, pay = counts[..., :states] / shared.unsqueeze(-1), reward / shared + bonus
    q = torch.full_like(reward, ceiling)
    for _ in range(max_sweeps):
        following = (pay + gamma * (transition.flatten(0, 1) @ q.amax(-1)).view_as(pay)).clamp(max=ceiling)  # (1)
        following = torch.where(tried, following, ceiling)  # (2)
        change = float((following - q).abs().max())
        q = following
        if change < 1e-6:
            break
    return q


class OptimisticValueIteration(ArrayAgent):
    """Plans as if the world were as good as the counts still allow, and so goes to see.

    Args:
        env: environment recipe, or its id.
        data: where steps come from.
        gamma: discount per step.
        bonus: B and β of (3), counted per pair.
        ceiling: U, the largest return.
        plan_every: env steps between two plans beside the ends of episodes; null plans at these alone.
        max_sweeps: of one plan.
        evaluation: episodes of the plan, at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy
    since: Tensor

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1, rollouts_per_batch=100),
        gamma: float = 0.99,
        bonus: CountBonus = CountBonus(scale=0.1),
        ceiling: float = 1.0,
        plan_every: int | None = None,
        max_sweeps: int = 1_000,
        evaluation: Episodes = Episodes(max_steps=1_000),
    ) -> None:
        super().__init__(env, data, gamma, evaluation)
        self.require(
            plan_every is None or plan_every >= 1, "plan_every", plan_every, "it counts steps, from 1, or null"
        )
        self.require(max_sweeps >= 1, "max_sweeps", max_sweeps, "it counts sweeps, from 1")
        self.require(bonus.per == "pair", "bonus", bonus, "untried actions are told from tried ones: per pair")
        self.ceiling, self.plan_every, self.max_sweeps = ceiling, plan_every, max_sweeps
        self.policy = TablePolicy(self.env.observation_space, self.actions, initial=ceiling)
        self.bonus = bonus.build(self.env.observation_space, self.env.action_space)
        self.seen = TransitionCounts(self.states, self.actions)
        self.register_buffer("since", torch.zeros((), dtype=torch.int64))

    def sweep(self, data: Rollout) -> dict[str, float]:
        """Count, and plan where it is time."""
        steps = steps_of(data)
        self.seen.add(steps)
        self.bonus.visit(*(torch.from_numpy(part) for part in (steps.state, steps.action, steps.next_state)))
        self.since += len(steps.state)
        due = self.plan_every is not None and int(self.since) >= self.plan_every
        if due or steps.done.any():
            table = self.bonus.table()
            self.policy.q.copy_(
                optimistic_values(
                    self.seen.transitions, self.seen.reward, table, self.gamma, self.ceiling, self.max_sweeps
                )
            )
            self.since.zero_()
        return {"reward": float(steps.reward.mean()), "pairs_seen": float((self.seen.visits > 0).sum())}
