"""Tic-tac-toe: rules, the exact values of all positions, and an environment with an opponent.

A position is one number: 9 bits for the stones of the player to move, 9 bits above them for the other's. Rewards are
those of the player who moves: 1 for winning, 0 else; a draw is 0 for both. Importing this module registers
``lit_rl/TicTacToe-v0``. Formula sheet: 9.0.3a, H13.
"""

from functools import cache
from random import Random
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

FULL = 0b111_111_111
_LINES = (0b111, 0b111_000, 0b111_000_000, 0b1_001_001, 0b10_010_010, 0b100_100_100, 0b100_010_001, 0b1_010_100)
WON = [any(stones & line == line for line in _LINES) for stones in range(FULL + 1)]
FREE = [[cell for cell in range(9) if not taken >> cell & 1] for taken in range(FULL + 1)]

Opponent = Literal["random", "perfect"]


class TicTacToeRules:
    """The game as a tree search wants it: a world of two players, without chance."""

    start = 0

    def actions(self, position: int) -> list[int]:
        """The free cells, 0 … 8, row by row."""
        return FREE[(position | position >> 9) & FULL]

    def step(self, position: int, cell: int, rng: Random | None = None) -> tuple[int, float, bool]:
        """The position as the other player finds it, 1 for three in a row, and whether the game is over.

        Raises:
            ValueError: the cell is taken.
        """
        mine, other = position & FULL, position >> 9
        if not 0 <= cell < 9 or (mine | other) >> cell & 1:
            raise ValueError(f"TicTacToe: cell {cell} is taken; free are {self.actions(position)}")
        mine |= 1 << cell
        won = WON[mine]
        return other | mine << 9, float(won), won or mine | other == FULL


@cache
def minimax(position: int) -> int:
    """What a running game is worth to the player to move, when both play perfectly: −1, 0 or 1."""
    return max(move_values(position).values())


def move_values(position: int) -> dict[int, int]:
    """What each move is worth to the player who makes it, when both go on perfectly."""
    rules, values = TicTacToeRules(), {}
    for cell in rules.actions(position):
        following, reward, over = rules.step(position, cell)
        values[cell] = int(reward) if over else -minimax(following)
    return values


class TicTacToe(gymnasium.Env[Any, Any]):
    """One side of the game; the opponent answers within the step. Return 1, 0 or −1.

    The observation is the board, own stones 1 and the other's −1; ``info["action_mask"]`` [9] shows the free cells.

    Args:
        opponent: ``random``, or ``perfect``: any of its best moves.
        begins: whether the agent has the first move; None tosses a coin in every episode.
        render_mode: None or ``ansi``.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  gymnasium's own form

    def __init__(
        self, opponent: Opponent = "random", begins: bool | None = None, render_mode: str | None = None
    ) -> None:
        if opponent not in ("random", "perfect"):
            raise ValueError(f"TicTacToe.opponent is {opponent!r}; it must be random or perfect")
        self.opponent, self.begins, self.render_mode = opponent, begins, render_mode
        self.rules = TicTacToeRules()
        self.observation_space = spaces.Box(-1.0, 1.0, (9,), np.float32)
        self.action_space = spaces.Discrete(9)
        self.position = TicTacToeRules.start

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """An empty board, or one with the opponent's first stone."""
        super().reset(seed=seed)
        self.position = TicTacToeRules.start
        begins = bool(self.np_random.integers(2)) if self.begins is None else self.begins
        if not begins:
            self._answer()
        return self._show()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Put a stone, and be answered.

        Raises:
            ValueError: the cell is taken.
        """
        self.position, reward, over = self.rules.step(self.position, int(action))
        if over:  # seen by the agent again
            self.position = self.position >> 9 | (self.position & FULL) << 9
        else:
            lost, over = self._answer()
            reward = -lost
        observation, info = self._show()
        return observation, reward, over, False, info

    def _answer(self) -> tuple[float, bool]:
        cells = self.rules.actions(self.position)
        if self.opponent == "perfect":
            values = move_values(self.position)
            cells = [cell for cell in cells if values[cell] == max(values.values())]
        cell = cells[int(self.np_random.integers(len(cells)))]
        self.position, reward, over = self.rules.step(self.position, cell)
        return reward, over

    def _show(self) -> tuple[Any, dict[str, Any]]:
        bits = np.arange(9)
        mine, other = self.position & FULL, self.position >> 9
        board = ((mine >> bits & 1) - (other >> bits & 1)).astype(np.float32)
        return board, {"action_mask": (board == 0).astype(np.int8)}

    def render(self) -> str | None:  # type: ignore[override]
        """The board as text: X is the agent."""
        if self.render_mode != "ansi":
            return None
        board, _ = self._show()
        return "\n".join("".join({1: "X", -1: "O", 0: "."}[int(cell)] for cell in row) for row in board.reshape(3, 3))


def register() -> None:
    """Make the game known to Gymnasium; harmless when repeated."""
    if "lit_rl/TicTacToe-v0" not in gymnasium.registry:
        gymnasium.register("lit_rl/TicTacToe-v0", entry_point=f"{__name__}:TicTacToe")


register()
