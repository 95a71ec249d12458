"""Tic-tac-toe as a search wants it: the environment's own rules, both players' moves."""

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

from lit_rl.envs.tic_tac_toe import FREE, FULL, WON, TicTacToeRules
from lit_rl.planning.search import Array, World
from lit_rl.planning.search_model import Evaluate

BITS = 1 << np.arange(9)


class TicTacToeWorld(TicTacToeRules, World):
    """States are positions as of :mod:`lit_rl.envs.tic_tac_toe`, seen by whoever moves."""

    two_players = True
    actions_at_most = 9
    numbers_per_state = 1

    def read(self, obs: Any) -> int:
        """Of the board, own stones 1 and the other's −1."""
        board = np.asarray(obs["observation"] if isinstance(obs, dict) else obs)
        return int((board > 0) @ BITS) | int((board < 0) @ BITS) << 9

    def write(self, state: int) -> Sequence[float]:
        """A number below 2¹⁸."""
        return (float(state),)

    def state(self, numbers: Sequence[float]) -> int:
        """The number."""
        return int(numbers[0])

    def observe(self, states: Sequence[int]) -> Array:
        """What the player to move observes, [B, 9] float32."""
        position = np.array(states)[:, None]
        return ((position & FULL & BITS) > 0).astype(np.float32) - ((position >> 9 & BITS) > 0)

    def rollout(self, depth: int, gamma: float) -> Evaluate:
        """The rules of :meth:`step` again, in the loop, for moves that are legal anyway: a third of the cost."""

        def evaluate(state: int, rng: Random) -> float:
            mine, other, discount, draw = state & FULL, state >> 9, 1.0, rng.random
            for _ in range(depth):
                free = FREE[mine | other]
                mine |= 1 << free[int(draw() * len(free))]
                if WON[mine]:
                    return discount
                if mine | other == FULL:
                    break
                mine, other, discount = other, mine, -gamma * discount
            return 0.0

        return evaluate
