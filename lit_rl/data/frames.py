"""Stacked images of which a memory keeps each one once: the older ones lie in the rows before."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from lit_rl.batch import Rollout


def single(space: gymnasium.Space, frames: int) -> gymnasium.Space:
    """The space of one image [C, H, W] of a stack [frames · C, H, W]."""
    if frames == 1:
        return space
    if not isinstance(space, spaces.Box) or len(space.shape) != 3 or space.shape[0] % frames:
        raise ValueError(f"a stack of {frames} images has the shape [{frames} · C, H, W]; {space} has not")
    channels = space.shape[0] // frames
    return spaces.Box(space.low[:channels], space.high[:channels], dtype=space.dtype.type)


def newest(rollout: Rollout, frames: int) -> Rollout:
    """The same rollout with the newest image of each stack alone."""
    channels = rollout.obs.shape[-3] // frames  # type: ignore[union-attr]
    obs: Any = rollout.obs[..., -channels:, :, :]  # type: ignore[call-overload, index]
    final_obs: Any = rollout.final_obs[..., -channels:, :, :]  # type: ignore[call-overload, index]
    return rollout._replace(obs=obs, final_obs=final_obs)


def history(index: np.ndarray, frames: int, done: np.ndarray, older: np.ndarray, num_envs: int) -> np.ndarray:
    """Flat rows [..., frames] of the images that the stacks of rows ``index`` [...] consist of, the newest last.

    The first image of an episode stands for those before it, as in :class:`lit_rl.envs.wrappers.FrameStack`.
    ``done`` [rows] says where episodes end, ``older`` [...] how many rows of its environment precede each row.
    """
    found = np.empty((*index.shape, frames), np.int64)
    found[..., -1] = at = index
    going = np.ones(index.shape, bool)
    for back in range(1, frames):
        before = (at - num_envs) % len(done)
        going &= (older >= back) & ~done[before]
        found[..., -1 - back] = at = np.where(going, before, at)
    return found
