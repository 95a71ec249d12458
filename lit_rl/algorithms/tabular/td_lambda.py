"""TD(λ): tabular policy evaluation with eligibility traces.

Paper    Sutton 1988; van Seijen et al. 2016 for the true online form; Sutton & Barto 2018, chapter 12.
         Formula sheet: 5.6.1b, 5.1b, 6.1.1a
Update   δ  = r + γ(1 − terminated) V(s') − V(s)                                         (1)
         accumulating:  e ← γλ e + 1[s];   replacing: the same, then e[s] ← 1            (2)
         V ← V + α δ e                                                                  (3)
         true online:   e ← γλ e + (1 − α γλ e[s]) 1[s]                                  (4)
                        V ← V + α (δ + V(s) − v) e − α (V(s) − v) 1[s],  v ← V_before(s')  (5)
         e = 0 and v = 0 where an episode begins
Data     Rollouts: act by a fixed policy, uniformly random or greedy in ``q``; each environment has a trace.
Differs  nothing; α may follow a schedule over environment steps.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lit_rl.algorithms.tabular.table_agent import Array, ArrayAgent, steps_of
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.policies.table import TablePolicy
from lit_rl.schedules import Constant, Scheduled, as_schedule

Traces = Literal["accumulating", "replacing", "true_online"]


def td_step(
    value: Array,
    trace: Array,
    old: float,
    step: tuple[int, float, int, float],
    decay: float,
    alpha: float,
    kind: Traces,
) -> tuple[float, float]:
    """(1)-(5) for one transition, in place on ``value`` [S] and ``trace`` [S]; returns δ and the new v.

    Args:
        value: V.
        trace: e, already 0 where an episode begins.
        old: v, 0 where an episode begins.
        step: s, r, s' and γ(1 − terminated).
        decay: γλ.
        alpha: α.
        kind: of traces.
    """
    state, reward, successor, discount = step
    here, beyond = value[state], value[successor]
    delta = reward + discount * beyond - here  # (1)
    if kind == "true_online":
        trace *= decay
        trace[state] += 1.0 - alpha * trace[state]  # (4); the trace has decayed already
        value += alpha * (delta + here - old) * trace  # (5)
        value[state] -= alpha * (here - old)
        return float(delta), float(beyond if discount else 0.0)
    trace *= decay
    trace[state] = 1.0 if kind == "replacing" else trace[state] + 1.0  # (2)
    value += alpha * delta * trace  # (3)
    return float(delta), 0.0


class TDLambda(ArrayAgent):
    """Learns V of the policy that acts; it improves nothing.

    Args:
        env: environment recipe, or its id.
        data: where steps come from.
        gamma: discount per step.
        lam: λ.
        step_size: α, or a schedule of it over env steps.
        traces: accumulating, replacing or true online.
        evaluation: episodes of the policy, at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy
    value: Tensor
    trace: Tensor
    old: Tensor

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1, rollouts_per_batch=100),
        gamma: float = 0.99,
        lam: float = 0.9,
        step_size: Scheduled = 0.1,
        traces: Traces = "accumulating",
        evaluation: Episodes = Episodes(explore=True, max_steps=1_000),
    ) -> None:
        super().__init__(env, data, gamma, evaluation)
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(traces in ("accumulating", "replacing", "true_online"), "traces", traces, "see the class")
        self.lam, self.step_size, self.traces = lam, as_schedule(step_size), traces
        self.policy = TablePolicy(self.env.observation_space, self.actions, Constant(1.0))
        table = torch.zeros(self.states, dtype=torch.float64)
        self.register_buffer("value", table)
        self.register_buffer("trace", table.new_zeros(self.env.num_envs, self.states))
        self.register_buffer("old", table.new_zeros(self.env.num_envs))

    def sweep(self, data: Rollout) -> dict[str, float]:
        """Every step of the round in the order in which it was taken."""
        value, trace, old = self.value.numpy(), self.trace.numpy(), self.old.numpy()
        steps, alpha, deltas = steps_of(data), self.step_size(self.env_steps), []
        for index, (state, reward, successor, terminated, done) in enumerate(
            zip(steps.state, steps.reward, steps.next_state, steps.terminated, steps.done, strict=True)
        ):
            n, discount = index % self.env.num_envs, 0.0 if terminated else self.gamma
            step = (int(state), float(reward), int(successor), discount)
            delta, old[n] = td_step(value, trace[n], old[n], step, self.gamma * self.lam, alpha, self.traces)
            if done:
                trace[n], old[n] = 0.0, 0.0
            deltas.append(delta)
        return {"td_error": float(np.abs(deltas).mean()), "value": float(value.mean()), "alpha": alpha}

    def schedules(self) -> dict[str, float]:
        """α."""
        return {"step_size": self.step_size(self.env_steps)}
