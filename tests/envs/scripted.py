"""Environments that do exactly as they are told, to test what watches them."""

import os
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

GOOD = np.zeros(3, np.float32)


def _obs(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


BAD_STEPS: dict[str, tuple[Any, str]] = {
    "nan observation": ((_obs(0, 0, np.nan), 1.0, False, False, {}), r"NaN in observation\[2\]"),
    "inf observation": ((_obs(0, -np.inf, 0), 1.0, False, False, {}), r"-infinity in observation\[1\]"),
    "shape": ((np.zeros(4, np.float32), 1.0, False, False, {}), r"shape \(4,\), not \(3,\)"),
    "dtype": ((np.zeros(3, np.int64), 1.0, False, False, {}), r"dtype int64, not float32"),
    "overflow": ((np.array([1e300, 0, 0]), 1.0, False, False, {}), r"infinity in observation\[0\]"),
    "no observation": ((None, 1.0, False, False, {}), r"None as observation"),
    "list observation": (([0.0, 0.0, 0.0], 1.0, False, False, {}), r"\(list\) as observation"),
    "str reward": ((GOOD, "1", False, False, {}), r"'1' \(str\) as reward"),
    "no reward": ((GOOD, None, False, False, {}), r"None as reward"),
    "bool reward": ((GOOD, True, False, False, {}), r"True \(bool\) as reward"),
    "array reward": ((GOOD, np.ones(2), False, False, {}), r"an array float64\[2\] as reward"),
    "nan reward": ((GOOD, np.float64("nan"), False, False, {}), r"NaN as reward"),
    "four values": ((GOOD, 1.0, False, {}), r"4 values from step"),
    "no tuple": (None, r"NoneType from step"),
    "terminated": ((GOOD, 1.0, "no", False, {}), r"'no' \(str\) as terminated"),
    "truncated": ((GOOD, 1.0, False, None, {}), r"None as truncated"),
    "info": ((GOOD, 1.0, False, False, []), r"list as info"),
}


class Scripted(gymnasium.Env):
    """Counts: observation [episode, step, first draw]; ends as ``script`` says; at ``fault_step`` does ``fault``.

    Args:
        script: for each episode in turn (the last repeats): its length, terminated, truncated.
        faulty: the env does ``fault`` only where an action of 1 is given at ``fault_step``.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, script: Any = ((5, True, False),), fault: str = "", fault_step: int = 3) -> None:
        self.script, self.fault, self.fault_step, self.episode = script, fault, fault_step, -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        self.draw = self.np_random.random()
        if self.fault == "reset" and self.episode == self.fault_step:
            raise ValueError("no way to begin")
        return self._observation(), {}

    def _observation(self) -> np.ndarray:
        return np.array([self.episode, self.steps, self.draw], np.float32)

    def step(self, action: int) -> Any:
        self.steps += 1
        length, terminated, truncated = self.script[min(self.episode, len(self.script) - 1)]
        if action == 1 and self.steps == self.fault_step and self.fault:
            if self.fault == "raise":
                raise ValueError("joint exploded")
            if self.fault == "hang":
                time.sleep(3600)
            if self.fault == "exit":
                os._exit(7)
            if self.fault in BAD_STEPS:
                return BAD_STEPS[self.fault][0]
        over = self.steps >= length
        return self._observation(), 10.0 * self.episode + self.steps, over and terminated, over and truncated, {}


class Drifting(Scripted):
    """Not fixed by seed and actions: no replay leads to the same place twice."""

    count = 0

    def _observation(self) -> np.ndarray:
        Drifting.count += 1
        return np.array([self.episode, self.steps, Drifting.count], np.float32)


class Spaced(gymnasium.Env):
    """Random members of any observation space, with a legal-action mask for MultiDiscrete actions on request."""

    def __init__(self, space: spaces.Space, masked: bool = False, action_space: spaces.Space | None = None) -> None:
        self.observation_space = space
        self.action_space = spaces.MultiDiscrete([2, 3]) if masked else action_space or spaces.Discrete(3, start=5)
        self.masked, self.given = masked, []

    def _result(self) -> tuple[Any, dict]:
        mask = (np.array([1, 0], np.int8), np.array([0, 1, 1], np.int8))
        return self.observation_space.sample(), {"action_mask": mask} if self.masked else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self._result()

    def step(self, action: Any) -> Any:
        self.given.append(action)
        obs, info = self._result()
        return obs, 0.5, bool(self.np_random.random() < 0.1), False, info


def register() -> None:
    for name, cls in (("Scripted-v0", Scripted), ("Drifting-v0", Drifting), ("Spaced-v0", Spaced)):
        if name not in gymnasium.registry:
            gymnasium.register(name, cls)
