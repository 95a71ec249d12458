"""What an environment hands back is checked here, before anything else sees it.

Shape, dtype and type are compared for every environment at every step; that all numbers are finite is asked
once for all environments together (a dot product with itself is NaN or infinite where any entry is).
"""

import warnings
from math import hypot, isfinite
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from lit_rl.envs.vector import Array, EnvError, Observations

RANGE_ALWAYS = 1000
"""Bounds are compared at every one of the first steps …"""
RANGE_EVERY = 100
"""… and at every so-manieth step after them."""
RESTART_WINDOW = 1000
"""Steps of all environments over which their restarts are counted."""
LARGEST = float(np.finfo(np.float32).max)  # of a reward

_NOTHING: dict[int, str] = {}


class Leaf(NamedTuple):
    """One array of an observation."""

    name: str  # as messages call it
    shape: tuple[int, ...]
    dtype: np.dtype
    low: Array | None  # None where every value of the dtype is allowed
    high: Array | None


class Violation(Exception):
    """What an environment did wrong, as words that follow "env 3 (CartPole-v1)"."""


class Guard:
    """Checks everything that environments with this observation space return.

    Args:
        space: observation space of one environment.
    """

    def __init__(self, space: spaces.Space) -> None:
        self.is_dict = isinstance(space, spaces.Dict)
        entries = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        self.leaves = {
            key: _leaf(f"observation[{key!r}]" if key else "observation", leaf) for key, leaf in entries.items()
        }
        # of the one array of an observation that is no dict
        self.shape: tuple[int, ...] = () if self.is_dict else self.leaves[""].shape
        self.dtype: np.dtype | None = None if self.is_dict else self.leaves[""].dtype
        self.is_float = self.dtype is not None and self.dtype.kind == "f"
        self.warned: set[str] = set()

    def allocate(self, rows: int) -> Observations:
        """Uninitialised observations [rows, ...]."""
        if self.is_dict:
            return {key: np.empty((rows, *leaf.shape), leaf.dtype) for key, leaf in self.leaves.items()}
        return np.empty((rows, *self.shape), self.dtype)

    def observation(self, obs: Any) -> Any:
        """``obs`` in the space's exact shape and dtype.

        Raises:
            Violation: it is something else.
        """
        if type(obs) is np.ndarray and obs.dtype is self.dtype and obs.shape == self.shape:
            return obs
        if not self.is_dict:
            return self._array(obs, self.leaves[""])
        if not isinstance(obs, dict):
            raise Violation(f"returned {_what(obs)} as observation, not a dict with {', '.join(self.leaves)}")
        if obs.keys() != self.leaves.keys():
            raise Violation(
                f"returned an observation with keys {', '.join(map(str, obs))}, not {', '.join(self.leaves)}"
            )
        return {key: self._array(obs[key], leaf) for key, leaf in self.leaves.items()}

    def _array(self, value: Any, leaf: Leaf) -> Array:
        if type(value) is np.ndarray and value.dtype is leaf.dtype and value.shape == leaf.shape:
            return value
        if isinstance(value, (np.generic, int, float)) and not leaf.shape:
            value = np.asarray(value)
        if not isinstance(value, np.ndarray):
            raise Violation(f"returned {_what(value)} as {leaf.name}, not {_what_array(leaf.dtype, leaf.shape)}")
        if value.shape != leaf.shape:
            raise Violation(f"returned {leaf.name} of shape {value.shape}, not {leaf.shape}")
        if value.dtype == leaf.dtype:
            return value
        whole = leaf.dtype.kind in "iu" and value.dtype.kind in "iu" and not leaf.shape  # any integer will do
        if value.dtype.kind != leaf.dtype.kind and not whole:
            raise Violation(f"returned {leaf.name} of dtype {value.dtype}, not {leaf.dtype}")
        self._warn(
            f"returned {leaf.name} of dtype {value.dtype}; it is cast to {leaf.dtype} as its space says", not whole
        )
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            cast = value.astype(leaf.dtype)
        if leaf.dtype.kind in "iu" and (cast != value).any():
            raise Violation(f"returned {leaf.name} with values that do not fit {leaf.dtype}")
        return cast

    def reward(self, value: Any) -> float:
        """A plain number.

        Raises:
            Violation: it is none.
        """
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(())[()]
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise Violation(f"returned {_what(value)} as reward, not a number")
        return float(value)

    def flag(self, name: str, value: Any) -> bool:
        """True or False.

        Raises:
            Violation: it is neither.
        """
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(())[()]
        if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
            return bool(value)
        raise Violation(f"returned {_what(value)} as {name}, not True or False")

    def faults(self, obs: Observations, rewards: list[float] | Array, step: int) -> dict[int, str]:
        """What is wrong with the numbers of N environments, by index; empty as a rule.

        Args:
            obs: observations [N, ...].
            rewards: N of them; for a few a list is the faster one to look through.
            step: steps of all environments so far, which says whether bounds are compared.
        """
        in_range = step >= RANGE_ALWAYS and step % RANGE_EVERY
        if in_range and self.is_float:  # all that is paid for at a step where all is well
            flat = obs.ravel()  # type: ignore[union-attr]
            size = hypot(*rewards) if type(rewards) is list else float(np.dot(rewards, rewards))
            if size < LARGEST and isfinite(flat.dot(flat)):
                return _NOTHING
        found: dict[int, str] = {}
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            reward = np.array(rewards, np.float32)
        for index in np.flatnonzero(~np.isfinite(reward)):
            found[int(index)] = f"returned {_nonfinite(reward[index])} as reward"
        for key, leaf in self.leaves.items():
            values = obs[key] if isinstance(obs, dict) else obs
            if not _is_finite(values):
                for place in np.argwhere(~np.isfinite(values)):
                    text = f"returned {_nonfinite(values[tuple(place)])} in {leaf.name}{_at(place[1:])}"
                    found.setdefault(int(place[0]), text)
            if not in_range:
                self._out_of_range(values, leaf, found)
        return found

    def _out_of_range(self, values: Array, leaf: Leaf, found: dict[int, str]) -> None:
        if leaf.low is None or leaf.high is None or ((values >= leaf.low) & (values <= leaf.high)).all():
            return
        for place in np.argwhere((values < leaf.low) | (values > leaf.high)):
            index, at = place[0], place[1:]
            low, high = (np.broadcast_to(bound, leaf.shape)[tuple(at)] for bound in (leaf.low, leaf.high))
            text = f"returned {values[tuple(place)]} in {leaf.name}{_at(at)}, outside its space [{low}, {high}]"
            if leaf.dtype.kind == "f":  # physics overshoots its declared bounds now and then; a network does not mind
                self._warn(f"(index {index}) {text}")
            else:
                found.setdefault(int(index), text)

    def _warn(self, text: str, wanted: bool = True) -> None:
        kind = text.partition("observation")[2].partition(" ")[0]
        if wanted and kind not in self.warned:
            self.warned.add(kind)
            warnings.warn(f"an environment {text}", stacklevel=2)


class Restarts:
    """Counts environments that had to be started anew, and gives up when they become many.

    Args:
        allowed: so many …
        window: … in the last so many steps.
    """

    def __init__(self, allowed: int, window: int = RESTART_WINDOW) -> None:
        self.allowed, self.window, self.steps = allowed, window, list[int]()

    def add(self, step: int, error: EnvError) -> None:
        """Note one more restart.

        Raises:
            EnvError: there were too many.
        """
        self.steps = [past for past in self.steps if past > step - self.window] + [step]
        if len(self.steps) > self.allowed:
            raise EnvError(
                f"{error}; that is restart {len(self.steps)} within {self.window:,} steps, more than "
                f"env.max_restarts={self.allowed}"
            ) from error
        warnings.warn(f"{error}; it is started anew", stacklevel=4)


def _leaf(name: str, space: spaces.Space) -> Leaf:
    shape, dtype = tuple(space.shape or ()), np.dtype(space.dtype)
    if isinstance(space, spaces.Discrete):
        return Leaf(name, shape, dtype, np.array(space.start), np.array(space.start + space.n - 1))
    if isinstance(space, spaces.MultiDiscrete):
        return Leaf(name, shape, dtype, space.start, space.start + space.nvec - 1)
    if isinstance(space, spaces.MultiBinary):
        return Leaf(name, shape, dtype, np.array(0), np.array(1))
    assert isinstance(space, spaces.Box)
    whole = np.iinfo(dtype) if dtype.kind in "iu" else None
    everything = dtype.kind == "b" or (
        np.isneginf(space.low).all() and np.isposinf(space.high).all()
        if whole is None
        else (space.low == whole.min).all() and (space.high == whole.max).all()
    )
    return Leaf(name, shape, dtype, None, None) if everything else Leaf(name, shape, dtype, space.low, space.high)


def _is_finite(values: Any) -> bool:
    if values.dtype.kind != "f":
        return True
    flat = values.ravel()
    return isfinite(flat.dot(flat)) or bool(np.isfinite(values).all())


def _nonfinite(value: Any) -> str:
    return "NaN" if np.isnan(value) else "infinity" if value > 0 else "-infinity"


def _at(index: Array) -> str:
    return f"[{', '.join(map(str, index))}]" if len(index) else ""


def _what(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {_what_array(value.dtype, value.shape)}"
    return "None" if value is None else f"{value!r:.40} ({type(value).__name__})"


def _what_array(dtype: Any, shape: tuple[int, ...]) -> str:
    return f"{dtype}{list(shape)}"
