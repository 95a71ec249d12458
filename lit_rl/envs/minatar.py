"""MinAtar's games as gymnasium environments (Young & Tian 2019, arXiv 1903.03176)."""

import logging
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")


class MinAtar(gymnasium.Env):
    """One game: observation bool [10, 10, C], sticky actions and difficulty ramping as published.

    The package's own adapter lets the last action of an episode leak into the next one through the sticky
    actions, so that a seed does not fix an episode; here it does.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, game: str, minimal: bool = True, sticky_action_prob: float = 0.1) -> None:
        logging.disable(logging.WARNING)  # the package warns at import that it could draw no pictures
        try:
            from minatar import Environment
        finally:
            logging.disable(logging.NOTSET)
        self.game = Environment(game, sticky_action_prob=sticky_action_prob)
        self.actions = self.game.minimal_action_set() if minimal else list(range(self.game.num_actions()))
        self.action_space = spaces.Discrete(len(self.actions))
        self.observation_space = spaces.Box(0, 1, tuple(self.game.state_shape()), bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode that ``seed`` fixes wholly."""
        super().reset(seed=seed)
        if seed is not None:
            self.game.seed(seed)
        self.game.last_action = 0
        self.game.reset()
        return self.game.state(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One frame of the game."""
        reward, terminated = self.game.act(self.actions[action])
        return self.game.state(), float(reward), bool(terminated), False, {}


def register() -> None:
    """Make ``MinAtar/Breakout-v1`` (minimal action set) and ``-v0`` (all six actions) known to gymnasium."""
    for game in GAMES:
        for version, minimal in ((0, False), (1, True)):
            name = f"MinAtar/{game.title().replace('_', '')}-v{version}"
            if name not in gymnasium.registry:
                gymnasium.register(name, "lit_rl.envs.minatar:MinAtar", kwargs={"game": game, "minimal": minimal})
