"""N environments stepped as one, with guards on every step: the interface, and what all kinds share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import gymnasium
import numpy as np

Array = np.ndarray
Observations = Union[Array, dict[str, Array]]  # [N, ...], a dict for a Dict space


class EnvError(RuntimeError):
    """An environment broke its contract: the message names the env's index, id and episode step."""


class VectorStep(NamedTuple):
    """What one step of N environments gives, in the same-step convention: no reset rows, ever."""

    obs: Observations  # [N, ...], where the next action is chosen: the next episode's first, where one ended
    reward: Array  # [N] float32
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool
    final_obs: Observations | None  # [M, ...], true last observations of the episodes that ended, in the
    # order of np.flatnonzero(terminated | truncated); None where none ended


class VectorEnv(ABC):
    """N environments of one recipe. Every episode's seed derives from (seed, env index, episode number)."""

    num_envs: int
    observation_space: gymnasium.Space  # of one environment
    action_space: gymnasium.Space  # of one environment

    @abstractmethod
    def reset(self) -> Observations:
        """Start episode 0 everywhere. Returns the first observations [N, ...]."""

    @abstractmethod
    def restart(self) -> Observations:
        """Abandon the running episodes and start the next ones. Returns their first observations [N, ...]."""

    @abstractmethod
    def step(self, action: Array) -> VectorStep:
        """Take ``action`` [N] or [N, A]. The arrays returned belong to the caller.

        Raises:
            EnvError: an environment raised, died, hung, or returned something that is no observation or reward.
        """

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """What :meth:`restore` needs, as tensors and plain Python."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> Observations:
        """Bring every environment to where :meth:`snapshot` saw it. Returns the observations there [N, ...]."""

    def lost(self) -> Array:
        """[N] bool: which environments :meth:`restore` could not bring back, so that they began another episode."""
        return np.zeros(self.num_envs, bool)

    @abstractmethod
    def close(self) -> None:
        """End all environments; harmless when repeated."""


def episode_seed(seed: int, env_index: int, episode: int) -> int:
    """The 31-bit seed of one episode: equal across runs, different for every env and episode.

    Each part is mixed in by SplitMix64 (Steele, Lea & Flood 2014), ten times faster than numpy's SeedSequence.
    """
    mixed = 0
    for part in (seed, env_index, episode):
        mixed = (mixed + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 33


def stack_observations(rows: Sequence[Any]) -> Observations:
    """Rows of arrays or of dicts of arrays to [len(rows), ...]."""
    if isinstance(rows[0], dict):
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return np.stack(rows)
