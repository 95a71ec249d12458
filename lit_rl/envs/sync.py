"""Environments stepped one after the other in this process: the right choice where a step is cheap."""

from typing import Any

import numpy as np

from lit_rl.envs.episode import EpisodeEnv
from lit_rl.envs.episodic import EpisodicEnv, split, write
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import Array, EnvError, Observations


class SyncEnv(EpisodicEnv):
    """N environments in a plain loop."""

    def __init__(self, recipe: Env, seed: int, first_index: int = 0) -> None:
        super().__init__(recipe, seed, first_index)
        self.envs = [EpisodeEnv(recipe, self.guard, seed, first_index + i) for i in range(self.num_envs)]

    def _step(self, action: Array, obs: Observations) -> tuple[Array, Array, Array, dict[int, EnvError]]:
        rewards, terminations, truncations = [], [], []
        errors: dict[int, EnvError] = {}
        given = split(action)
        kept = given if action.ndim == 1 else split(action)  # an environment may write into the action it was given
        for index, env in enumerate(self.envs):
            self.actions[index].append(kept[index])
            try:
                row, reward, terminated, truncated = env.step(given[index])
                if isinstance(obs, dict):
                    write(obs, index, row)
                else:
                    obs[index] = row
            except EnvError as error:
                errors[index] = error
                write(obs, index, self._last(index))
                reward, terminated, truncated = 0.0, False, True
            rewards.append(reward)
            terminations.append(terminated)
            truncations.append(truncated)
        reward_array = np.array(rewards, np.float32)
        for index, text in self.guard.faults(obs, reward_array, self.steps).items():
            errors.setdefault(index, self.envs[index].error(text))
        return reward_array, np.array(terminations), np.array(truncations), errors

    def _last(self, index: int) -> Any:
        assert self.obs is not None
        return {key: value[index] for key, value in self.obs.items()} if isinstance(self.obs, dict) else self.obs[index]

    def _begin(self, index: int, rebuild: bool) -> Any:
        env = self.envs[index]
        if rebuild:
            env.close()
            env.build()
        return env.begin(self.episode[index])

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
