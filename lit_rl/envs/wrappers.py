"""Wrappers that gymnasium lacks. A recipe names them: ``Wrapper("MaskVelocity", {"keep": [0, 2]})``."""

from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class MaskVelocity(gymnasium.ObservationWrapper):
    """Keep only some entries of a vector observation, so that the agent must remember the rest.

    Args:
        keep: indices that stay visible; the default keeps CartPole's positions and hides its velocities.
    """

    def __init__(self, env: gymnasium.Env, keep: list[int] | None = None) -> None:
        super().__init__(env)
        space = env.observation_space
        self.keep = np.array([0, 2] if keep is None else keep)
        if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not (self.keep < space.shape[0]).all():
            raise ValueError(
                f"MaskVelocity(keep={self.keep.tolist()}) needs a vector observation that long, not {space}"
            )
        self.observation_space = spaces.Box(space.low[self.keep], space.high[self.keep], dtype=space.dtype.type)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """[D] to [len(keep)]."""
        return observation[self.keep]


class PreviousAction(gymnasium.Wrapper):
    """Append the action before to a vector observation, one-hot if Discrete: for agents with a memory, which do not
    otherwise see what they did (Kapturowski et al. 2019, 2.3). Zero where an episode begins.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space, actions = env.observation_space, spaces.flatten_space(env.action_space)
        if not isinstance(space, spaces.Box) or len(space.shape) != 1 or space.dtype.kind != "f":
            raise ValueError(f"PreviousAction needs a vector observation of floats, not {space}")
        if not isinstance(actions, spaces.Box):
            raise ValueError(f"PreviousAction needs actions that flatten to a vector, not {env.action_space}")
        self.first = np.zeros(actions.shape, space.dtype)
        low = np.concatenate([space.low, np.minimum(actions.low, 0)], dtype=space.dtype)
        high = np.concatenate([space.high, np.maximum(actions.high, 0)], dtype=space.dtype)
        self.observation_space = spaces.Box(low, high, dtype=space.dtype.type)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """As the environment's own; no action came before."""
        obs, info = self.env.reset(seed=seed, options=options)
        return np.concatenate([obs, self.first]), info

    def step(self, action: Any) -> tuple:
        """As the environment's own, with the action that led to the observation."""
        obs, *rest = self.env.step(action)
        last: Any = spaces.flatten(self.env.action_space, action)
        return np.concatenate([obs, last], dtype=self.first.dtype), *rest


class ChannelFirst(gymnasium.ObservationWrapper):
    """Images [H, W, C] to [C, H, W], the library's order; bool planes (MinAtar's) become uint8 of 0 and 1."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ValueError(f"ChannelFirst needs an image observation [H, W, C], not {space}")
        self.dtype = np.dtype(np.uint8) if space.dtype == bool else space.dtype
        low, high = (np.moveaxis(bound, -1, 0).astype(self.dtype) for bound in (space.low, space.high))
        self.observation_space = spaces.Box(low, high, dtype=self.dtype.type)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """[H, W, C] to [C, H, W], contiguous."""
        return np.ascontiguousarray(np.moveaxis(observation, -1, 0), dtype=self.dtype)


FRAMES = 4


class FrameStack(gymnasium.Wrapper):
    """The last images [C, H, W] or [H, W] on top of each other, [frames · C, H, W], the newest last (Mnih et al. 2015).

    The first image of an episode stands for those before it. As the last wrapper of a recipe it costs a replay nothing:
    each image is kept once.

    Args:
        frames: images in an observation, k.
    """

    def __init__(self, env: gymnasium.Env, frames: int = FRAMES) -> None:
        super().__init__(env)
        space = env.observation_space
        if frames < 1:
            raise ValueError(f"FrameStack.frames is {frames}; it counts images, from 1")
        if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
            raise ValueError(f"FrameStack needs an image observation [C, H, W] or [H, W], not {space}")
        self.images: deque[np.ndarray] = deque(maxlen=frames)
        low, high = (np.concatenate([_with_channels(bound)] * frames) for bound in (space.low, space.high))
        self.observation_space = spaces.Box(low, high, dtype=space.dtype.type)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """As the environment's own; the past is the first image."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.images.extend([_with_channels(obs)] * self.images.maxlen)  # type: ignore[operator]
        return np.concatenate(self.images), info

    def step(self, action: Any) -> tuple:
        """As the environment's own, with the images before."""
        obs, *rest = self.env.step(action)
        self.images.append(_with_channels(obs))
        return np.concatenate(self.images), *rest


def _with_channels(image: np.ndarray) -> np.ndarray:
    """[H, W] as [1, H, W]; [C, H, W] as it is."""
    return image[None] if image.ndim == 2 else image


class ZeroBased(gymnasium.ActionWrapper):
    """Actions 0 … n-1 for an environment whose Discrete space starts elsewhere: networks count from 0."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, spaces.Discrete):
            raise ValueError(f"ZeroBased needs a Discrete action space, not {space}")
        self.start = int(space.start)
        self.action_space = spaces.Discrete(int(space.n))

    def action(self, action: int) -> int:
        """Shift by the space's start."""
        return action + self.start


class ActionMask(gymnasium.Wrapper):
    """Put the legal actions into the observation: ``{"observation": obs, "action_mask": bool [A]}``.

    The mask comes from ``info["action_mask"]``; for a MultiDiscrete space its parts are concatenated.
    A Dict observation keeps its entries, and its own ``"action_mask"``, if it has one, is cast to bool.
    A step without a mask counts every action as legal.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        actions, obs = env.action_space, env.observation_space
        if isinstance(actions, spaces.Discrete):
            self.size = int(actions.n)
        elif isinstance(actions, spaces.MultiDiscrete):
            self.size = int(actions.nvec.sum())
        else:
            raise ValueError(f"ActionMask needs a Discrete or MultiDiscrete action space, not {actions}")
        self.is_dict = isinstance(obs, spaces.Dict)
        self.own = isinstance(obs, spaces.Dict) and "action_mask" in obs.spaces
        entries = dict(obs.spaces) if isinstance(obs, spaces.Dict) else {"observation": obs}
        self.observation_space = spaces.Dict({**entries, "action_mask": spaces.Box(0, 1, (self.size,), bool)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """As the environment's own, with the mask in the observation."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._with_mask(obs, info), info

    def step(self, action: Any) -> tuple:
        """As the environment's own, with the mask in the observation."""
        result = self.env.step(action)
        if not isinstance(result, tuple) or len(result) != 5 or not isinstance(result[4], dict):
            return result  # the guards say what is wrong with it
        return self._with_mask(result[0], result[4]), *result[1:]

    def _with_mask(self, obs: Any, info: dict[str, Any]) -> dict[str, Any]:
        entries = dict(obs) if self.is_dict else {"observation": obs}
        mask = entries.get("action_mask") if self.own else info.get("action_mask")
        if mask is None:
            mask = np.ones(self.size, bool)
        elif isinstance(mask, (tuple, list)) and len(mask) and np.ndim(mask[0]):
            mask = np.concatenate(mask)
        entries["action_mask"] = np.asarray(mask).astype(bool).reshape(-1)
        return entries
