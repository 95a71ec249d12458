"""Environments that step in batches by themselves, such as gymnasium's ``CartPoleVectorEnv``."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from lit_rl.envs.episodic import copy
from lit_rl.envs.guards import Guard
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import Array, EnvError, Observations, VectorEnv, VectorStep, episode_seed

STATE = ("state", "steps", "prev_done")
"""Arrays that such an environment must keep, N on the last axis, as gymnasium's own do."""


class NativeEnv(VectorEnv):
    """A batched environment in the same-step convention, with exact snapshots.

    It resets an episode one step late (``AutoresetMode.NEXT_STEP``). Here the late step is taken at once, and
    undone for the environments that were still running. All share one random generator: the run is fixed by its
    seed, a single episode is not.

    Args:
        recipe: what to open, with spaces; its time limit is handed to the environment.
        seed: of the whole run.
        first_index: told apart from other batches of the run by it.

    Raises:
        ValueError: the environment has no batched form, or one whose state cannot be read.
    """

    def __init__(self, recipe: Env, seed: int, first_index: int = 0) -> None:
        self.recipe, self.seed, self.first_index = recipe, seed, first_index
        self.num_envs = recipe.num_envs
        self.observation_space, self.action_space = recipe.observation_space, recipe.action_space
        self.guard = Guard(self.observation_space)
        self.steps = 0
        self.obs: Array | None = None
        spec = recipe.spec()
        if spec.vector_entry_point is None:
            raise ValueError(f"{recipe.id} has no batched form of its own; use env.vectorization 'sync' or 'async'")
        self.env: Any = gymnasium.make_vec(
            spec, self.num_envs, vectorization_mode="vector_entry_point", **recipe.kwargs
        )
        mode = self.env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.NEXT_STEP or not all(hasattr(self.env, name) for name in STATE):
            self.close()
            raise ValueError(
                f"the batched form of {recipe.id} does not keep its state in {', '.join(STATE)} with autoreset"
                " NEXT_STEP and could not be resumed; use env.vectorization 'sync' or 'async'"
            )

    def reset(self) -> Observations:
        """Start everywhere."""
        obs, _ = self.env.reset(seed=episode_seed(self.seed, self.first_index, 0))
        self.obs = self._checked(obs, np.zeros(self.num_envs, np.float32))
        return copy(self.obs)

    def restart(self) -> Observations:
        """Start new episodes everywhere."""
        if self.obs is None:
            return self.reset()
        self.obs = self._checked(self.env.reset()[0], np.zeros(self.num_envs, np.float32))
        return copy(self.obs)

    def step(self, action: Array) -> VectorStep:
        """One step of all, see :class:`VectorEnv`."""
        if self.obs is None:
            raise EnvError(f"{self.recipe.id}: call reset() before step()")
        obs, reward, terminated, truncated, _ = self.env.step(action)
        reward = np.asarray(reward, np.float32)
        obs = self._checked(obs, reward)
        self.steps += 1
        ended = (terminated | truncated).nonzero()[0]
        final_obs = None
        if len(ended):
            final_obs = obs[ended]
            obs[ended] = self._begin(ended, action)
        self.obs = obs
        return VectorStep(obs.copy(), reward, terminated, truncated, final_obs)

    def _begin(self, ended: Array, action: Array) -> Array:
        """Take the step that resets what ended, and put everything else back where it was."""
        before = {name: getattr(self.env, name).copy() for name in STATE}
        obs = self.env.step(action)[0]
        for name in STATE[:2]:
            after = getattr(self.env, name)
            before[name][..., ended] = after[..., ended]
            setattr(self.env, name, before[name])
        self.env.prev_done = np.zeros(self.num_envs, bool)
        return obs[ended]

    def _checked(self, obs: Any, reward: Array) -> Array:
        expected = (self.num_envs, *self.guard.shape)
        if not isinstance(obs, np.ndarray) or obs.shape != expected or obs.dtype != self.guard.dtype:
            raise EnvError(f"{self.recipe.id} returned observations that are not {self.guard.dtype}{list(expected)}")
        for index, text in self.guard.faults(obs, reward, self.steps).items():
            raise EnvError(
                f"env {self.first_index + index} ({self.recipe.id}) {text} at step {self.steps + 1:,} of all"
            )
        return obs

    def snapshot(self) -> dict[str, Any]:
        """The state arrays, the generator, and the observations."""
        import torch

        if self.obs is None:
            raise EnvError(f"{self.recipe.id}: call reset() before snapshot()")
        arrays = {name: torch.from_numpy(getattr(self.env, name).copy()) for name in STATE}
        rng = self.env.np_random.bit_generator.state
        return {**arrays, "rng": rng, "obs": torch.from_numpy(self.obs.copy()), "all_steps": self.steps}

    def restore(self, state: dict[str, Any]) -> Observations:
        """Put all of it back."""
        if len(state["obs"]) != self.num_envs:
            raise ValueError(f"the snapshot holds {len(state['obs'])} environments, this run has {self.num_envs}")
        self.env.reset(seed=0)
        for name in STATE:
            setattr(self.env, name, state[name].numpy().copy())
        self.env.np_random.bit_generator.state = state["rng"]
        self.obs, self.steps = state["obs"].numpy().copy(), state["all_steps"]
        return copy(self.obs)

    def close(self) -> None:
        """Close it; harmless when repeated."""
        self.env.close()
