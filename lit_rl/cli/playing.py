"""Episodes of a loaded agent, one environment step at a time: to be watched, or to be written down."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from lit_rl.envs.vector import episode_seed, stack_observations
from lit_rl.policies.policy import Policy


class Step(NamedTuple):
    """One transition of one environment."""

    obs: Any  # [...], or a dict
    action: Any  # [] or [A], as the environment took it
    reward: float
    next_obs: Any  # the true successor, also at the episode's end
    terminated: bool
    truncated: bool


class Score(NamedTuple):
    """What an episode came to."""

    total: float  # undiscounted return
    length: int


def play_episode(
    policy: Policy, env: gymnasium.Env, seed: tuple[int, int], explore: bool, max_steps: int
) -> Iterator[Step]:
    """The steps of one episode; ``seed`` is of all episodes and the number of this one; ``max_steps`` is a cap."""
    rng = np.random.default_rng(seed)
    policy.refresh()
    state = np.zeros((1, policy.state_size), np.float32)
    obs, _ = env.reset(seed=episode_seed(seed[0], 0, seed[1]))
    for step in range(1, max_steps + 1):
        act = policy.act(stack_observations([obs]), state, rng, explore=explore)
        action, state = act.action[0], act.state
        if isinstance(env.action_space, spaces.Box):
            action = np.clip(action, env.action_space.low, env.action_space.high)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        truncated = bool(truncated) or (step == max_steps and not terminated)
        yield Step(obs, action, float(reward), next_obs, bool(terminated), truncated)
        if terminated or truncated:
            return
        obs = next_obs


def to_arrays(steps: list[Step], episodes: list[int]) -> dict[str, np.ndarray]:
    """Columns of a data set [rows, ...]; an observation's dict becomes ``obs.<key>`` and ``next_obs.<key>``."""
    columns: dict[str, np.ndarray] = {"episode": np.array(episodes, np.int64)}
    for name in ("obs", "next_obs"):
        stacked = stack_observations([getattr(step, name) for step in steps])
        columns |= {f"{name}.{k}": v for k, v in stacked.items()} if isinstance(stacked, dict) else {name: stacked}
    columns["action"] = np.stack([np.asarray(step.action) for step in steps])
    columns["reward"] = np.array([step.reward for step in steps], np.float32)
    columns["terminated"] = np.array([step.terminated for step in steps])
    columns["truncated"] = np.array([step.truncated for step in steps])
    return columns
