"""Streams of made-up experience that remember every step, so that a memory can be compared with what went in."""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from lit_rl.batch import Rollout
from lit_rl.data.arrays import assign, empty, take

ACTIONS = spaces.Discrete(3)
SPACES = {
    "vector": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "double": spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    "number": spaces.Discrete(1_000_000),
    "image": spaces.Box(0, 255, (1, 24, 24), np.uint8),  # 576 bytes: the successor is read from the next row
    "dict": spaces.Dict(
        {"picture": spaces.Box(0, 255, (2, 2), np.uint8), "vector": spaces.Box(-1, 1, (1,), np.float32)}
    ),
    "large dict": spaces.Dict(
        {"picture": spaces.Box(0, 255, (23, 23), np.uint8), "action_mask": spaces.Box(0, 1, (3,), bool)}
    ),
}


class Step(NamedTuple):
    """One transition as it happened."""

    obs: Any
    action: int
    log_prob: float
    reward: float
    terminated: bool
    truncated: bool
    next_obs: Any  # the true successor


class Stream:
    """N environments that end at random; ``steps[n]`` is the history of environment n."""

    def __init__(self, space: spaces.Space, num_envs: int, seed: int, end: float = 0.2) -> None:
        self.space, self.num_envs, self.end = space, num_envs, end
        self.rng = np.random.default_rng(seed)
        self.steps: list[list[Step]] = [[] for _ in range(num_envs)]
        self.now = [self._observation() for _ in range(num_envs)]

    def _observation(self) -> Any:
        """A random member of the space."""
        if isinstance(self.space, spaces.Dict):
            return {key: self._member(part) for key, part in self.space.spaces.items()}
        return self._member(self.space)

    def _member(self, space: spaces.Space) -> np.ndarray:
        high = 2 if space.dtype == bool else 256
        if isinstance(space, spaces.Discrete):
            return self.rng.integers(space.n)
        if space.dtype.kind in "ub":
            return self.rng.integers(0, high, space.shape).astype(space.dtype)
        return self.rng.normal(size=space.shape).astype(space.dtype)

    def _following(self, obs: Any) -> Any:
        """What comes after ``obs``."""
        return self._observation()

    def rollout(self, steps: int) -> Rollout:
        n = self.num_envs
        obs = empty(self.space, steps + 1, n)
        action, log_prob, reward = (np.zeros((steps, n), kind) for kind in (np.int64, np.float32, np.float32))
        terminated, truncated = np.zeros((steps, n), bool), np.zeros((steps, n), bool)
        episode_step = np.zeros((steps, n), np.int32)
        finals, ends = [], []
        for t in range(steps):
            for i in range(n):
                action[t, i], log_prob[t, i], reward[t, i] = self.rng.integers(3), self.rng.normal(), self.rng.normal()
                terminated[t, i], truncated[t, i] = self.rng.random(2) < self.end / 2
                done, following = terminated[t, i] | truncated[t, i], self._following(self.now[i])
                taken = len(self.steps[i])
                while taken and not (self.steps[i][taken - 1].terminated or self.steps[i][taken - 1].truncated):
                    taken -= 1
                episode_step[t, i] = len(self.steps[i]) - taken
                assign(obs, (t, i), self.now[i])
                self.steps[i].append(
                    Step(
                        self.now[i],
                        int(action[t, i]),
                        float(log_prob[t, i]),
                        float(reward[t, i]),
                        bool(terminated[t, i]),
                        bool(truncated[t, i]),
                        following,
                    )
                )
                if done:
                    ends.append(t * n + i)
                    finals.append(following)
                self.now[i] = self._observation() if done else following
        for i in range(n):
            assign(obs, (steps, i), self.now[i])
        final_obs = empty(self.space, len(finals))
        for m, final in enumerate(finals):
            assign(final_obs, m, final)
        return Rollout(
            obs=obs,
            action=action,
            log_prob=log_prob,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            episode_step=episode_step,
            final_obs=final_obs,
            final_index=np.array(ends, np.int64),
            state=np.zeros((n, 0), np.float32),
            version=np.array(0),
        )


class Stacks(Stream):
    """A stream of ``frames`` images on top of each other, as :class:`lit_rl.envs.wrappers.FrameStack` makes them."""

    def __init__(self, space: spaces.Box, frames: int, num_envs: int, seed: int) -> None:
        self.frames, self.image = frames, space
        high = np.full((frames * space.shape[0], *space.shape[1:]), 255, np.uint8)
        super().__init__(spaces.Box(np.zeros_like(high), high, dtype=np.uint8), num_envs, seed)

    def _observation(self) -> Any:
        """The first of an episode."""
        return np.concatenate([self._member(self.image)] * self.frames)

    def _following(self, obs: Any) -> Any:
        return np.concatenate([obs[self.image.shape[0] :], self._member(self.image)])


def equal(one: Any, other: Any) -> bool:
    """Whether two observations agree, a dict in all its entries."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def row(obs: Any, index: int) -> Any:
    """One observation of a batch."""
    return take(obs, index)
