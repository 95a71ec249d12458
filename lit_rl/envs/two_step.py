"""The smallest task on which learning from old data goes wrong. Importing this module registers it with Gymnasium."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

Info = dict[str, Any]


class TwoStep(gymnasium.Env[Any, Any]):
    """At the start 0 ends the episode with 0.6 and 1 leads to a second state, where 0 pays 1 and 1 pays nothing.

    Going right is worth 1 to a policy that chooses well afterwards, and 0.5 to the uniform one: whoever values the
    second state by what uniformly random actions earned there goes left. Observations are one-hot. Formula sheet 5.5c.
    """

    observation_space: ClassVar[spaces.Box] = spaces.Box(0.0, 1.0, (2,), np.float32)  # type: ignore[misc]
    action_space: ClassVar[spaces.Discrete] = spaces.Discrete(2)  # type: ignore[misc]

    def __init__(self) -> None:
        self.place = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """To the start."""
        super().reset(seed=seed)
        self.place = 0
        return np.eye(2, dtype=np.float32)[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """Choose."""
        if self.place == 0 and action == 1:
            self.place = 1
            return np.eye(2, dtype=np.float32)[1], 0.0, False, False, {}
        reward = 0.6 if self.place == 0 else float(action == 0)
        return np.eye(2, dtype=np.float32)[self.place], reward, True, False, {}


if "lit_rl/TwoStep-v0" not in gymnasium.registry:
    gymnasium.register("lit_rl/TwoStep-v0", entry_point=f"{__name__}:TwoStep")
