"""Rollouts beside returns of several fresh runs from the same states: what a simulator that can be reset allows.

An episode of this library is its seed and its actions, so every deterministic environment can be brought back to any
state that it was in: begin the episode anew and take the same actions. From there on the copies go their own ways.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from lit_rl.batch import Observation, Rollout
from lit_rl.bounds import refuse_below
from lit_rl.data.arrays import assign, empty, take, tensors
from lit_rl.data.collector import Collector
from lit_rl.data.experience import Experience, Round
from lit_rl.data.source import Source
from lit_rl.envs.episode import EpisodeEnv
from lit_rl.envs.episodic import EpisodicEnv
from lit_rl.envs.recipe import Env
from lit_rl.envs.spaces import clipping
from lit_rl.envs.vector import EnvError
from lit_rl.policies.policy import Policy


@dataclass(frozen=True)
class SimulatedRollouts:
    """Recipe of rollouts, and of ``runs`` more runs from each of ``starts`` states of theirs. Formula sheet 5.1a.

    Args:
        steps: T, steps of each environment in one rollout.
        starts: S, states of the rollout drawn with replacement.
        runs: R, runs of the policy from each.
        horizon: H, steps of a run, unless its episode ends before; what is beyond is up to the critic.
        steps_per_epoch: environment steps (of one process) in an epoch, those of all runs included, rounded up.
        rollouts_per_batch: rollouts handed to the trainer at once; bookkeeping, without influence on the result.
    """

    steps: int = 32
    starts: int = 8
    runs: int = 4
    horizon: int = 50
    steps_per_epoch: int = 10_000
    rollouts_per_batch: int = 1

    def __post_init__(self) -> None:
        refuse_below(self, 1, "steps", "starts", "runs", "horizon", "steps_per_epoch", "rollouts_per_batch")

    def env_steps_per_round(self, num_envs: int) -> int:
        """T · N + S · R · H: environments whose episode is over wait, and it counts."""
        return self.steps * num_envs + self.starts * self.runs * self.horizon

    def rounds_per_epoch(self, num_envs: int) -> int:
        """Rollouts in an epoch."""
        return -(-self.steps_per_epoch // self.env_steps_per_round(num_envs))

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Environment steps of one process in an epoch."""
        return self.rounds_per_epoch(num_envs) * self.env_steps_per_round(num_envs)

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "SimulatedExperience":
        """Open the environments, and the simulators when they are needed first."""
        return SimulatedExperience(self, env, policy, gamma, seed, rank)


class SimulatedRollout(NamedTuple):
    """A rollout, and what R runs from each of S of its states came to."""

    rollout: Rollout
    obs: Observation  # [S, ...], where the runs began
    action: Tensor  # [S] or [S, A], what was done there in the rollout; the runs choose for themselves
    reward: Tensor  # [S, R], Σ_k γᵏ r_k of each run
    discount: Tensor  # [S, R], γᵏ of its last successor, 0 where it terminated
    last_obs: Observation  # [S · R, ...], that successor


class SimulatedExperience(Experience):
    """One round is one :class:`SimulatedRollout`."""

    def __init__(self, recipe: SimulatedRollouts, env: Env, policy: Policy, gamma: float, seed: int, rank: int) -> None:
        super().__init__(recipe.rounds_per_epoch(env.num_envs), recipe.rollouts_per_batch)
        self.source = Source(env, policy, seed, rank, recipe.steps, 0, "same")
        self.recipe, self.gamma = recipe, gamma
        self.env_steps = recipe.env_steps_per_round(env.num_envs)
        self.simulator: Simulator | None = None

    def next_round(self) -> Round:
        """Collect, then run from states drawn from what was collected."""
        collector = self.source.collector
        if self.simulator is None:
            self.simulator = Simulator(collector, self.recipe.starts * self.recipe.runs)
        before = self.simulator.episodes()
        rollout = self.source.collect()
        place = collector.rng.integers(np.size(rollout.reward), size=self.recipe.starts)
        data = self.simulator.run(rollout, before, place, self.recipe, self.gamma)
        return Round(tensors(data), self.env_steps)

    def close(self) -> None:
        """End environments and simulators."""
        super().close()
        if self.simulator is not None:
            self.simulator.close()


class Simulator:
    """Copies of a collector's environments, brought to states of its rollouts.

    Args:
        collector: whose environments, policy and random stream they use.
        copies: S · R.

    Raises:
        EnvError: these environments cannot be brought back to a state.
    """

    def __init__(self, collector: Collector, copies: int) -> None:
        envs = collector.envs
        if not isinstance(envs, EpisodicEnv):
            raise EnvError(
                f"{type(envs).__name__} cannot be brought back to a state: use env.vectorization 'sync' or 'async'"
            )
        self.collector, self.envs = collector, envs
        self.clip = clipping(envs.action_space)
        self.copies = [EpisodeEnv(envs.recipe, envs.guard, envs.seed, envs.first_index) for _ in range(copies)]

    def episodes(self) -> tuple[list[int], list[list[Any]]]:
        """The number and the actions so far of each environment's running episode."""
        if self.envs.obs is None:
            return [0] * self.envs.num_envs, [[] for _ in range(self.envs.num_envs)]
        return list(self.envs.episode), [list(actions) for actions in self.envs.actions]

    def run(
        self,
        rollout: Rollout,
        before: tuple[list[int], list[list[Any]]],
        place: np.ndarray,
        recipe: SimulatedRollouts,
        gamma: float,
    ) -> SimulatedRollout:
        """R runs from each place t · N + n of a rollout [T, N] of arrays that began with the episodes ``before``."""
        starts, runs, space = len(place), recipe.runs, self.envs.observation_space
        _, envs = np.shape(rollout.reward)
        t, n = np.divmod(place, envs)
        obs = empty(space, starts * runs)
        for copy, env in enumerate(self.copies):
            row = self._bring_back(env, rollout, before, int(t[copy // runs]), int(n[copy // runs]))
            assign(obs, copy, row)
        first = take(obs, slice(0, None, runs))
        first = {key: value.copy() for key, value in first.items()} if isinstance(first, dict) else first.copy()
        reward, discount = np.zeros(starts * runs), np.ones(starts * runs)
        going = np.ones(starts * runs, bool)
        state = np.zeros((starts * runs, 0), np.float32)
        for _ in range(recipe.horizon):
            act = self.collector.policy.act(obs, state, self.collector.rng)
            action = self.clip(act.action)
            for copy in np.flatnonzero(going).tolist():
                row, paid, terminated, truncated = self.copies[copy].step(_one(action[copy]))
                assign(obs, copy, row)
                reward[copy] += discount[copy] * paid
                discount[copy] *= 0.0 if terminated else gamma
                going[copy] = not (terminated or truncated)
            if not going.any():
                break
        shape = (starts, runs)
        return SimulatedRollout(
            rollout,
            first,
            rollout.action[t, n],
            reward.astype(np.float32).reshape(shape),  # type: ignore[arg-type]
            discount.astype(np.float32).reshape(shape),  # type: ignore[arg-type]
            obs,
        )

    def _bring_back(self, env: EpisodeEnv, rollout: Rollout, before: Any, t: int, n: int) -> Any:
        """Replay env n's episode up to step t; what comes after has random numbers of its own. Returns s_t."""
        episodes, actions = before
        elapsed = int(rollout.episode_step[t, n])
        taken = [_one(action) for action in self.clip(rollout.action[max(t - elapsed, 0) : t, n])]
        if elapsed > t:  # it began before the rollout
            taken = [*actions[n], *taken]
        ended = int(np.asarray(rollout.terminated | rollout.truncated)[:t, n].sum())
        env.index = self.envs.first_index + n
        row = env.replay(episodes[n] + ended, taken)
        if row is None:
            raise env.error("ended earlier than before: it is not deterministic, and no simulator")
        env.env.unwrapped.np_random = np.random.default_rng(self.collector.rng.integers(2**63))
        return row

    def close(self) -> None:
        """Close the copies; harmless when repeated."""
        for env in self.copies:
            env.close()
        self.copies = []


def _one(action: Any) -> Any:
    """An action as an environment expects it."""
    return int(action) if np.ndim(action) == 0 else action.copy()
