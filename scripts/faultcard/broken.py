"""An environment that breaks in every way there is, where its random stream says so."""

import os
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

FAULTY = "scripts.faultcard.broken:Faulty-v0"
WRONG: dict[str, tuple[str, Any]] = {
    "NaN observation": ("obs", np.array([0, np.nan, 0, 0], np.float32)),
    "infinite observation": ("obs", np.array([0, 0, np.inf, 0], np.float32)),
    "overflowing observation": ("obs", np.array([0, 0, 0, 1e300])),
    "shape": ("obs", np.zeros(5, np.float32)),
    "shape of a row": ("obs", np.zeros((1, 4), np.float32)),
    "dtype": ("obs", np.zeros(4, np.int64)),
    "no observation": ("obs", None),
    "list": ("obs", [0.0, 0.0, 0.0, 0.0]),
    "str reward": ("reward", "1"),
    "no reward": ("reward", None),
    "bool reward": ("reward", True),
    "array reward": ("reward", np.ones(2)),
    "NaN reward": ("reward", float("nan")),
    "infinite reward": ("reward", float("inf")),
    "overflowing reward": ("reward", 1e300),
    "terminated": ("terminated", None),
    "truncated": ("truncated", "no"),
    "info": ("info", []),
    "four values": ("short", None),
    "no tuple": ("none", None),
}
"""What a step returns in place of what: the name of the value, and the value."""


class Faulty(CartPoleEnv):
    """CartPole that breaks in some of its episodes.

    Args:
        kind: how: ``raise`` in step, ``reset``, ``init`` (in the next construction), ``close``, ``hang``, ``exit`` of
            its process, or a key of ``WRONG``.
        rate: share of the episodes that break, drawn from the episode's own seed.
        latest: the step at which one breaks is drawn from 1 to this.
        folder: where ``init`` leaves its mark.
        rank: of several processes only this one breaks, once for every file ``go`` that it finds in ``folder``.
    """

    def __init__(
        self, kind: str = "raise", rate: float = 0.1, latest: int = 8, folder: str = "", rank: int | None = None
    ) -> None:
        self.mark = Path(folder) / "cannot-be-made"
        if kind == "init" and self.mark.exists():
            self.mark.unlink()
            raise ValueError("no such joint")
        super().__init__()
        self.kind, self.rate, self.latest, self.rank = kind, rate, latest, rank

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        first = super().reset(seed=seed)
        draw = np.random.default_rng(seed)
        breaks = draw.random() < self.rate and (self.rank is None or self._has_its_turn())
        if breaks and self.kind == "reset":
            raise ValueError("no way to begin")
        self.left = int(draw.integers(1, self.latest + 1)) if breaks else 0
        return first

    def _has_its_turn(self) -> bool:
        if os.environ.get("LOCAL_RANK", "0") != str(self.rank):
            return False
        try:
            (self.mark.parent / "go").unlink()
        except FileNotFoundError:
            return False
        return True

    def step(self, action: Any) -> Any:
        self.left -= 1
        result = super().step(action)
        if self.left != 0:
            return result
        if self.kind == "hang":
            time.sleep(3600)
        if self.kind == "exit":
            os._exit(7)
        if self.kind == "init":
            self.mark.touch()
        if self.kind not in WRONG:
            raise ValueError("joint exploded")
        place, value = WRONG[self.kind]
        named = dict(zip(("obs", "reward", "terminated", "truncated", "info"), result, strict=True))
        if place in named:
            return tuple((named | {place: value}).values())
        return result[:4] if place == "short" else value

    def close(self) -> None:
        if self.kind == "close":
            raise ValueError("the window is stuck")
        super().close()


gymnasium.register("Faulty-v0", Faulty, max_episode_steps=500)
