"""Environments of the envpool library (Weng et al. 2022, arXiv 2206.10558): batched, in C++ threads."""

import warnings
from typing import Any

import gymnasium
import numpy as np

from lit_rl.envs.episodic import copy
from lit_rl.envs.guards import Guard
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import Array, EnvError, Observations, VectorEnv, VectorStep, episode_seed


class EnvPoolEnv(VectorEnv):
    """N environments of envpool in the same-step convention.

    Their state cannot be read: :meth:`restore` starts new episodes, with other seeds than the run began with,
    and warns once.

    Args:
        recipe: what to open, with spaces; ids are envpool's own, ``kwargs`` its options such as ``num_threads``.
        seed: of the whole run.
        first_index: told apart from other batches of the run by it.
    """

    def __init__(self, recipe: Env, seed: int, first_index: int = 0) -> None:
        self.recipe, self.seed, self.first_index = recipe, seed, first_index
        self.num_envs = recipe.num_envs
        self.observation_space, self.action_space = recipe.observation_space, recipe.action_space
        self.guard = Guard(self.observation_space)
        self.steps, self.resumed = 0, 0
        self.obs: Array | None = None
        self.env: Any = None

    def reset(self) -> Observations:
        """Start everywhere."""
        self.close()
        self.env = _make(self.recipe, self.num_envs, episode_seed(self.seed, self.first_index, self.resumed))
        obs, _ = self.env.reset()
        self.obs = self._checked(obs, np.zeros(self.num_envs, np.float32))
        return copy(self.obs)

    def restart(self) -> Observations:
        """Start new episodes everywhere."""
        return self.reset()

    def step(self, action: Array) -> VectorStep:
        """One step of all, see :class:`VectorEnv`."""
        if self.obs is None:
            raise EnvError(f"{self.recipe.id}: call reset() before step()")
        obs, reward, terminated, truncated, _ = self.env.step(action.astype(self.action_space.dtype, copy=False))
        reward = np.asarray(reward, np.float32)
        obs = self._checked(obs, reward)
        self.steps += 1
        ended = (terminated | truncated).nonzero()[0]
        final_obs = None
        if len(ended):
            final_obs, obs = obs[ended], obs.copy()
            obs[ended] = self.env.reset(ended.astype(np.int32))[0]  # alone; the others are not stepped
        self.obs = obs
        return VectorStep(obs.copy(), reward, terminated.copy(), truncated.copy(), final_obs)

    def _checked(self, obs: Any, reward: Array) -> Array:
        expected = (self.num_envs, *self.guard.shape)
        if not isinstance(obs, np.ndarray) or obs.shape != expected:
            raise EnvError(f"{self.recipe.id} returned observations that are not {self.guard.dtype}{list(expected)}")
        obs = obs.astype(self.guard.dtype, copy=False)
        for index, text in self.guard.faults(obs, reward, self.steps).items():
            raise EnvError(
                f"env {self.first_index + index} ({self.recipe.id}) {text} at step {self.steps + 1:,} of all"
            )
        return obs

    def snapshot(self) -> dict[str, Any]:
        """How often the run was resumed, nothing more."""
        return {"resumed": self.resumed, "all_steps": self.steps}

    def restore(self, state: dict[str, Any]) -> Observations:
        """Start new episodes."""
        warnings.warn(f"{self.recipe.id}: envpool cannot save its state; all episodes start anew", stacklevel=2)
        self.resumed, self.steps = state["resumed"] + 1, state["all_steps"]
        return self.reset()

    def lost(self) -> Array:
        """All, once resumed."""
        return np.full(self.num_envs, self.resumed > 0)

    def close(self) -> None:
        """Close it; harmless when repeated."""
        if self.env is not None:
            self.env.close()
            self.env = None


def envpool_spaces(recipe: Env) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Observation and action space of one environment; double precision becomes single, as networks want it."""
    env = _make(recipe, 1, 0)
    observation, action = env.observation_space, env.action_space
    env.close()
    if isinstance(observation, gymnasium.spaces.Box) and observation.dtype == np.float64:
        with np.errstate(over="ignore"):
            low, high = observation.low.astype(np.float32), observation.high.astype(np.float32)
        observation = gymnasium.spaces.Box(low, high)
    if not isinstance(observation, (gymnasium.spaces.Box, gymnasium.spaces.Discrete)):
        raise ValueError(
            f"{recipe.id}: envpool's {type(observation).__name__} observations are not supported; use 'sync'"
        )
    return observation, action


def _make(recipe: Env, num_envs: int, seed: int) -> Any:
    try:
        import envpool
    except ImportError as error:
        raise ValueError("env.vectorization 'envpool' needs it installed: pip install 'lit_rl[envpool]'") from error
    if recipe.id not in envpool.list_all_envs():
        raise ValueError(f"envpool has no environment called {recipe.id!r}; use env.vectorization 'sync' or 'async'")
    with warnings.catch_warnings():  # it describes float32 spaces by bounds in double precision
        warnings.filterwarnings("ignore", message=".*precision lowered.*")
        env = envpool.make_gymnasium(recipe.id, num_envs=num_envs, seed=seed, **recipe.kwargs)
        _ = env.observation_space  # built on first sight, and kept
    return env
