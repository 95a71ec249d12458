"""What sync and async environments share: numbered episodes, their actions so far, and exact snapshots.

No environment is pickled. An episode is its seed and its actions: restoring begins it anew, takes the same
actions, and compares the last observation bit for bit.
"""

import warnings
from abc import abstractmethod
from collections import deque
from typing import Any

import numpy as np

from lit_rl.envs.guards import Guard, Restarts
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import Array, EnvError, Observations, VectorEnv, VectorStep

LONGEST_REPLAY = 100_000
"""Actions kept of one episode; a longer one is begun anew when a run is resumed."""

ENDLESS = 30_000
"""Steps of an episode that draw a warning: a little more than Atari's 108,000 frames."""


class Outcome:
    """What one step of N environments came to, besides its observations."""

    def __init__(self, num_envs: int) -> None:
        self.reward = np.zeros(num_envs, np.float32)
        self.terminated = np.zeros(num_envs, bool)
        self.truncated = np.zeros(num_envs, bool)
        self.ended: list[int] = []  # indices of environments whose episode ended
        self.errors: dict[int, EnvError] = {}  # of environments that broke


class EpisodicEnv(VectorEnv):
    """N environments that are each fixed by (seed, index, episode number, actions).

    Args:
        recipe: what to open, with spaces.
        seed: of the whole run.
        first_index: index of the first environment.
    """

    def __init__(self, recipe: Env, seed: int, first_index: int = 0) -> None:
        self.recipe, self.seed, self.first_index = recipe, seed, first_index
        self.num_envs = recipe.num_envs
        self.observation_space, self.action_space = recipe.observation_space, recipe.action_space
        self.guard = Guard(self.observation_space)
        self.restart_on_error = recipe.on_error == "restart"
        self.recent_restarts = Restarts(recipe.max_restarts)
        self.restarts, self.steps, self.warned_of_endless = 0, 0, False
        self.episode = [-1] * self.num_envs
        self.actions: list[deque[Any]] = [deque(maxlen=LONGEST_REPLAY + 1) for _ in range(self.num_envs)]
        self.obs: Observations | None = None
        self._lost = np.zeros(self.num_envs, bool)

    @abstractmethod
    def _begin(self, indices: list[int], rebuild: set[int]) -> list[Any | EnvError]:
        """First observations of these in their ``self.episode``, in new environments for those in ``rebuild``."""

    @abstractmethod
    def _step(self, action: Array, obs: Observations, result: Outcome) -> None:
        """Step all: write the true next observations to ``obs`` and everything else to ``result``."""

    @abstractmethod
    def _replay(self, actions: list[list[Any]]) -> list[Any | EnvError | None]:
        """Bring env i to ``self.episode[i]`` and take ``actions[i]``: its observation, None where it ended before."""

    def reset(self) -> Observations:
        """Start episode 0 everywhere."""
        self.obs = self.guard.allocate(self.num_envs)
        self.episode = [-1] * self.num_envs
        self._next_episodes(list(range(self.num_envs)), self.obs, set())
        return copy(self.obs)

    def restart(self) -> Observations:
        """Start the next episode everywhere."""
        if self.obs is None:
            return self.reset()
        self.obs = self.guard.allocate(self.num_envs)
        self._next_episodes(list(range(self.num_envs)), self.obs, set())
        return copy(self.obs)

    def step(self, action: Array) -> VectorStep:
        """One step of all, see :class:`VectorEnv`."""
        if self.obs is None:
            raise EnvError(f"{self.recipe.id}: call reset() before step()")
        obs, result = self.guard.allocate(self.num_envs), Outcome(self.num_envs)
        self._step(action, obs, result)
        self.steps += 1
        if result.errors:
            self._blame_actions(action, result)
            self._excuse(obs, result)
        if not self.steps % ENDLESS:
            self._look_for_endless_episodes()
        final_obs = None
        if result.ended:
            final_obs = rows(obs, result.ended)
            self._next_episodes(result.ended, obs, rebuild=set(result.errors))
        self.obs = obs
        return VectorStep(copy(obs), result.reward, result.terminated, result.truncated, final_obs)

    def _look_for_endless_episodes(self) -> None:
        for index, taken in enumerate(self.actions):
            if len(taken) >= ENDLESS and not self.warned_of_endless:
                self.warned_of_endless = True
                warnings.warn(
                    f"env {self.first_index + index} ({self.recipe.id}) has run for {len(taken):,} steps without "
                    "an end of its episode, which has no return before that; the wrapper TimeLimit sets one",
                    stacklevel=3,
                )

    def _blame_actions(self, action: Array, result: Outcome) -> None:
        """An environment that broke on NaN did nothing wrong, and would break again."""
        for index in result.errors:
            if not np.isfinite(action[index]).all():
                raise self._error(index, f"was given the action {action[index]}: the policy's weights are not finite")

    def _excuse(self, obs: Observations, result: Outcome) -> None:
        """Raise, or end the broken episodes as truncated where they last were well."""
        assert self.obs is not None
        for index, error in result.errors.items():
            self._count_restart(error)
            write(obs, index, rows(self.obs, index))
            result.reward[index], result.terminated[index], result.truncated[index] = 0.0, False, True
        result.ended = sorted({*result.ended, *result.errors})

    def _count_restart(self, error: EnvError) -> None:
        if not self.restart_on_error:
            raise error
        self.recent_restarts.add(self.steps, error)
        self.restarts += 1

    def _next_episodes(self, indices: list[int], obs: Observations, rebuild: set[int]) -> None:
        while indices:
            for index in indices:
                self.episode[index] += 1
                self.actions[index].clear()
            begun = dict(zip(indices, self._begin(indices, rebuild), strict=True))
            indices = [index for index, row in begun.items() if isinstance(row, EnvError)]
            rebuild = set(indices)
            for index, row in begun.items():
                if isinstance(row, EnvError):
                    self._count_restart(row)
                else:
                    write(obs, index, row)

    def _error(self, index: int, text: str) -> EnvError:
        step, name = len(self.actions[index]), f"env {self.first_index + index} ({self.recipe.id})"
        return EnvError(f"{name} {text} at step {step:,} of its episode {self.episode[index]}")

    def snapshot(self) -> dict[str, Any]:
        """Episode numbers, the actions of the running episodes, and the observations they led to."""
        import torch

        if self.obs is None:
            raise EnvError(f"{self.recipe.id}: call reset() before snapshot()")
        dtype = self.action_space.dtype
        return {
            "episode": list(self.episode),
            "actions": [torch.from_numpy(np.array(list(taken), dtype)) for taken in self.actions],
            "obs": _tree(torch.from_numpy, copy(self.obs)),
            "restarts": self.restarts,
        }

    def restore(self, state: dict[str, Any]) -> Observations:
        """Begin the episodes anew and take their actions; an environment that ends up elsewhere begins its next one."""
        if len(state["episode"]) != self.num_envs:
            raise ValueError(f"the snapshot holds {len(state['episode'])} environments, this run has {self.num_envs}")
        self.episode, self.restarts = list(state["episode"]), state["restarts"]
        taken = [split(tensor.numpy()) for tensor in state["actions"]]
        saved = _tree(lambda tensor: tensor.numpy(), state["obs"])
        self.obs = copy(saved)
        too_long = [len(actions) > LONGEST_REPLAY for actions in taken]
        self._lost = np.zeros(self.num_envs, bool)
        reached = self._replay([[] if gone else actions for gone, actions in zip(too_long, taken, strict=True)])
        for index, obs in enumerate(reached):
            self.actions[index].clear()
            if isinstance(obs, EnvError) or obs is None or too_long[index] or not _equal(obs, rows(saved, index)):
                why = (
                    f"its episode is longer than {LONGEST_REPLAY:,} steps"
                    if too_long[index]
                    else "replaying led elsewhere"
                )
                why = str(obs) if isinstance(obs, EnvError) else why
                name = f"env {self.first_index + index} ({self.recipe.id})"
                warnings.warn(
                    f"{name} cannot be restored in mid-episode ({why}); it starts its next episode", stacklevel=2
                )
                self._lost[index] = True
                self._next_episodes([index], self.obs, rebuild={index} if isinstance(obs, EnvError) else set())
            else:
                self.actions[index].extend(taken[index])
        return copy(self.obs)

    def lost(self) -> Array:
        """See :meth:`VectorEnv.lost`."""
        return self._lost


def split(action: Array) -> list[Any]:
    """[N] to N Python ints, [N, A] to N arrays that own their memory."""
    return action.tolist() if action.ndim == 1 else list(action.copy())


def copy(obs: Observations) -> Observations:
    """Arrays of the caller's own."""
    return {key: value.copy() for key, value in obs.items()} if isinstance(obs, dict) else obs.copy()


def rows(obs: Observations | None, index: Any) -> Any:
    """One row, or a copy of several."""
    assert obs is not None
    return {key: value[index] for key, value in obs.items()} if isinstance(obs, dict) else obs[index]


def write(obs: Observations, index: int | slice, row: Any) -> None:
    """Set one row."""
    if isinstance(obs, dict):
        for key, value in obs.items():
            value[index] = row[key]
    else:
        obs[index] = row


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(np.array_equal(value, other[key]) for key, value in one.items())
    return np.array_equal(one, other)


def _tree(function: Any, obs: Any) -> Any:
    return {key: function(value) for key, value in obs.items()} if isinstance(obs, dict) else function(obs)
