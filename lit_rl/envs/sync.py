"""Environments stepped one after the other in this process: the right choice where a step is cheap."""

from typing import Any

import numpy as np

from lit_rl.envs.episode import EpisodeEnv
from lit_rl.envs.episodic import EpisodicEnv, Outcome, rows, split, write
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import Array, EnvError, Observations


class SyncEnv(EpisodicEnv):
    """N environments in a plain loop."""

    def __init__(self, recipe: Env, seed: int, first_index: int = 0) -> None:
        super().__init__(recipe, seed, first_index)
        self.envs = [EpisodeEnv(recipe, self.guard, seed, first_index + i) for i in range(self.num_envs)]

    def _step(self, action: Array, obs: Observations, result: Outcome) -> None:
        given = split(action)
        kept = given if action.ndim == 1 else split(action)  # an environment may write into the action it was given
        rewards = [0.0] * self.num_envs
        for index, env in enumerate(self.envs):
            self.actions[index].append(kept[index])
            try:
                row, rewards[index], terminated, truncated = env.step(given[index])
            except EnvError as error:
                result.errors[index] = error
                row, terminated, truncated = rows(self.obs, index), False, True
            if self.guard.is_dict:
                write(obs, index, row)
            else:
                obs[index] = row  # type: ignore[index]
            if terminated or truncated:
                result.terminated[index], result.truncated[index] = terminated, truncated
                result.ended.append(index)
        for index, text in self.guard.faults(obs, rewards, self.steps).items():
            result.errors.setdefault(index, self._error(index, text))
            rewards[index] = 0.0
        result.reward = np.array(rewards, np.float32)

    def _begin(self, indices: list[int], rebuild: set[int]) -> list[Any | EnvError]:
        begun: list[Any | EnvError] = []
        for index in indices:
            env = self.envs[index]
            try:
                if index in rebuild:
                    env.close()
                    env.build()
                begun.append(env.begin(self.episode[index]))
            except EnvError as error:
                begun.append(error)
        return begun

    def _replay(self, actions: list[list[Any]]) -> list[Any | EnvError | None]:
        reached: list[Any | EnvError | None] = []
        for env, episode, taken in zip(self.envs, self.episode, actions, strict=True):
            try:
                given = [action if isinstance(action, int) else action.copy() for action in taken]
                reached.append(env.replay(episode, given))
            except EnvError as error:
                reached.append(error)
        return reached

    def close(self) -> None:
        """Close all; harmless when repeated."""
        for env in self.envs:
            env.close()
        self.envs = []
