"""Dyna-Q, with prioritised sweeping and Dyna-Q+ as settings.

Paper    Sutton 1990; Moore & Atkeson 1993 for prioritised sweeping; Sutton & Barto 2018, chapter 8.
         Formula sheet: 11.1.1a, 6.2.1a
Update   y(s, a) = r̂(s, a) + κ √τ(s, a) + γ Σ_s' p̂(s'|s, a) max_a' Q(s', a'), the end of an episode worth 0   (1)
         p̂ = n(s, a, s')/n(s, a),  r̂ = the mean reward
         after each real step:  Q ← Q + α (y − Q) at its (s, a), y from this one sample, κ = 0                (2)
         then ``planning_steps`` times, for (s, a) uniform over the pairs visited:  Q ← Q + α (y − Q)          (3)
         prioritised: take the largest |y − Q| > θ, α = 1 there, then all (s⁻, a⁻) known to lead to s          (4)
Data     Rollouts of one step: act ε-greedily, learn, plan.
Differs  (3) takes the expectation under the model; ``backup: sample`` draws one s' instead. Dyna-Q+ plans with
         pairs visited, and where κ > 0 with untried actions of visited states as loops without reward.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lit_rl.algorithms.tabular.counts import TransitionCounts
from lit_rl.algorithms.tabular.table_agent import Array, ArrayAgent, steps_of
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.policies.table import TablePolicy
from lit_rl.schedules import Scheduled, as_schedule


def expected_target(reward: float, probability: Array, value: Array, gamma: float) -> float:
    """(1) of one pair: p̂ [S + 1], max_a Q [S + 1] whose last entry, the end, is 0."""
    return float(reward + gamma * (probability @ value))


class DynaQ(ArrayAgent):
    """Q-learning that thinks over its experience between steps.

    Args:
        env: environment recipe, or its id.
        data: where steps come from.
        gamma: discount per step.
        step_size: α.
        epsilon: probability of a random action, scheduled over env steps.
        planning_steps: K of (3), or the most pairs of (4), after each real step; 0 is Q-learning.
        backup: ``expected`` under the model, or one ``sample``.
        priority: θ of prioritised sweeping; null sweeps uniformly.
        kappa: κ of Dyna-Q+.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy
    last_tried: Tensor
    taken: Tensor
    queue: Tensor

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1, rollouts_per_batch=100),
        gamma: float = 0.95,
        step_size: float = 0.1,
        epsilon: Scheduled = 0.1,
        planning_steps: int = 50,
        backup: Literal["expected", "sample"] = "expected",
        priority: float | None = None,
        kappa: float = 0.0,
        evaluation: Episodes = Episodes(max_steps=1_000),
    ) -> None:
        super().__init__(env, data, gamma, evaluation, step_size)
        self.require(0 < step_size <= 1, "step_size", step_size, "it lies in (0, 1]")
        self.require(planning_steps >= 0, "planning_steps", planning_steps, "it counts updates, from 0")
        self.require(backup in ("expected", "sample"), "backup", backup, "it is expected or sample")
        self.require(priority is None or priority > 0, "priority", priority, "a threshold is positive, or null")
        self.require(priority is None or backup == "expected", "backup", backup, "priorities are expected errors")
        self.require(kappa >= 0, "kappa", kappa, "it is 0 or positive")
        self.step_size, self.planning_steps, self.backup = step_size, planning_steps, backup
        self.priority, self.kappa = priority, kappa
        self.policy = TablePolicy(self.env.observation_space, self.actions, as_schedule(epsilon))
        self.seen = TransitionCounts(self.states, self.actions)
        self.register_buffer("last_tried", torch.zeros_like(self.policy.q))  # env steps of this process at the last try
        self.register_buffer("queue", torch.zeros_like(self.policy.q))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def sweep(self, data: Rollout) -> dict[str, float]:
        """(2) and then (3) or (4), for every step of the round."""
        steps, q, errors = steps_of(data), self.policy.q.numpy(), []
        for row in range(len(steps.state)):
            one = type(steps)(*(column[row : row + 1] for column in steps))
            self.seen.add(one)
            self.taken += 1
            s, a = int(one.state[0]), int(one.action[0])
            self.last_tried.numpy()[s, a] = int(self.taken)
            beyond = 0.0 if one.terminated[0] else q[int(one.next_state[0])].max()
            error = float(one.reward[0]) + self.gamma * beyond - q[s, a]
            q[s, a] += self.step_size * error  # (2)
            errors.append(abs(error))
            if self.priority is not None:
                self._sweep_by_priority(q, s, a)
            elif self.planning_steps:
                self._sweep_uniformly(q)
        return {
            "td_error": float(np.mean(errors)),
            "q": float(q.mean()),
            "pairs_seen": float((self.seen.visits > 0).sum()),
        }

    def schedules(self) -> dict[str, float]:
        """ε."""
        return {"epsilon": self.policy.schedule(self.env_steps)}

    def _model(self, q: Array, s: int, a: int) -> tuple[float, Array]:
        """r̂ with its bonus, and p̂ [S + 1]."""
        row = self.seen.transitions.numpy()[s, a]
        count = row.sum()
        bonus = self.kappa * float(np.sqrt(int(self.taken) - self.last_tried.numpy()[s, a])) if self.kappa else 0.0
        if not count:  # an untried action: a loop without reward
            return bonus, np.eye(len(row))[s]
        return float(self.seen.reward.numpy()[s, a]) / count + bonus, row / count

    def _target(self, q: Array, s: int, a: int) -> float:
        reward, probability = self._model(q, s, a)
        return expected_target(reward, probability, np.append(q.max(-1), 0.0), self.gamma)  # (1)

    def _sweep_uniformly(self, q: Array) -> None:
        visited = self.seen.visits > 0
        known = visited | visited.any(-1, keepdims=True) if self.kappa else visited
        pairs = np.flatnonzero(known)
        chance = torch.rand(2, self.planning_steps, dtype=torch.float64).numpy()
        for pair, luck in zip(pairs[(chance[0] * len(pairs)).astype(np.int64)], chance[1], strict=True):
            s, a = divmod(int(pair), self.actions)
            if self.backup == "expected":
                target = self._target(q, s, a)
            else:
                reward, probability = self._model(q, s, a)
                successor = min(int(probability.cumsum().searchsorted(luck, side="right")), self.states)
                target = reward + self.gamma * (q[successor].max() if successor < self.states else 0.0)
            q[s, a] += self.step_size * (target - q[s, a])  # (3)

    def _sweep_by_priority(self, q: Array, s: int, a: int) -> None:
        queue, transitions = self.queue.numpy(), self.seen.transitions.numpy()
        assert self.priority is not None
        queue[s, a] = abs(self._target(q, s, a) - q[s, a])
        for _ in range(self.planning_steps):
            s, a = divmod(int(queue.argmax()), self.actions)
            if queue[s, a] <= self.priority:
                break
            q[s, a] = self._target(q, s, a)  # (4)
            queue[s, a] = 0.0
            for before, action in zip(*transitions[:, :, s].nonzero(), strict=True):
                error = abs(self._target(q, int(before), int(action)) - q[before, action])
                queue[before, action] = max(queue[before, action], error)
