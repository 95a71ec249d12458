"""Episodes of one environment, step by step: to be watched, filmed, or written down."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from lit_rl.envs.spaces import clipping
from lit_rl.envs.vector import episode_seed, stack_observations


class Step(NamedTuple):
    """One transition of one environment."""

    obs: Any  # [...], or a dict
    action: Any  # [] or [A], as the environment took it
    reward: float
    next_obs: Any  # the true successor, also at the episode's end
    terminated: bool
    truncated: bool


def play_episode(
    policy: Any,
    env: gymnasium.Env,
    seed: tuple[int, int],
    explore: bool,
    max_steps: int,
    watch: Callable[[], None] = lambda: None,
) -> Iterator[Step]:
    """The steps of one episode.

    Args:
        policy: what acts, a ``lit_rl.policies.policy.Policy``.
        env: where; it stays open.
        seed: of all episodes, and the number of this one.
        explore: act as in training instead of greedily.
        max_steps: an episode that goes on longer is truncated there.
        watch: called after the reset and after every step.
    """
    rng = np.random.default_rng(seed)
    policy.refresh()
    state = np.zeros((1, policy.state_size), np.float32)
    clip = clipping(env.action_space)
    obs, _ = env.reset(seed=episode_seed(seed[0], 0, seed[1]))
    watch()
    for step in range(1, max_steps + 1):
        act = policy.act(stack_observations([obs]), state, rng, explore=explore)
        action, state = clip(act.action)[0], act.state
        next_obs, reward, terminated, truncated, _ = env.step(action)
        watch()
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
