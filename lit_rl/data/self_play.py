"""Games of a searching policy against itself, as lessons: what the search thought of a position, and who won.

Knows no algorithm: of the policy it asks for searches alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.checkpoint import read_arrays, write_arrays
from lit_rl.data.experience import Experience, Round
from lit_rl.envs.recipe import Env
from lit_rl.planning.search import World
from lit_rl.planning.tree_search import Tree

RECENT = 100  # games that statistics are about


class Player(Protocol):
    """What plays."""

    world: World

    def study(self, states: Sequence[Any], random: Random, noise: tuple[float, float] | None = None) -> list[Tree]:
        """Searches from states, with Dirichlet noise (α, ε) on the priors of their moves."""

    def refresh(self) -> None:
        """Called before each round."""


class Lessons(NamedTuple):
    """Positions of games that are over; K updates of B rows."""

    board: Tensor  # [K, B, ...], as the player to move saw it
    legal: Tensor  # [K, B, A] bool
    policy: Tensor  # [K, B, A], share of the search's visits
    outcome: Tensor  # [K, B], discounted reward to come, seen by the player to move


@dataclass(frozen=True)
class SelfPlay:
    """Recipe of self-play: ``env.num_envs`` games side by side, both sides of which the policy plays.

    A move is one environment step. The environment itself is not stepped: its world is.

    Args:
        capacity: positions kept.
        batch_size: B, positions of one update, drawn uniformly.
        replay_ratio: updates per move.
        warmup: moves before the first update.
        sampled_moves: of each game, drawn by the share of visits; those behind are the most visited ones.
        noise: α and ε: priors at the root are (1 − ε) P + ε Dirichlet(α).
        steps_per_epoch: moves in an epoch, rounded up to one in every game.
        steps_per_batch: moves handed to the trainer at once; bookkeeping, without influence on the result.
    """

    capacity: int = 20_000
    batch_size: int = 256
    replay_ratio: float = 0.05
    warmup: int = 2_000
    sampled_moves: int = 4
    noise: tuple[float, float] = (1.0, 0.25)
    steps_per_epoch: int = 5_000
    steps_per_batch: int = 500

    def __post_init__(self) -> None:
        refuse_below(self, 1, "capacity", "batch_size", "steps_per_epoch", "steps_per_batch")
        refuse_below(self, 0, "warmup", "sampled_moves")
        if not self.replay_ratio > 0:
            raise ValueError(f"SelfPlay.replay_ratio is {self.replay_ratio}; it must be positive (updates per move)")
        if not (self.noise[0] > 0 and 0 <= self.noise[1] <= 1):
            raise ValueError(f"SelfPlay.noise is {self.noise}; α is positive, and ε in [0, 1]")

    def rounds_per_epoch(self, num_envs: int) -> int:
        """Moves of each game in an epoch."""
        return -(-self.steps_per_epoch // num_envs)

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Moves of all games in an epoch."""
        return self.rounds_per_epoch(num_envs) * num_envs

    def open(self, env: Env, policy: Any, gamma: float, seed: int, rank: int = 0) -> "SelfPlayExperience":
        """Begin the games."""
        return SelfPlayExperience(self, env.num_envs, policy, gamma, seed, rank)


class SelfPlayExperience(Experience):
    """One round is a move in every game, then Lessons [K, B] for the K updates that the moves have earned."""

    def __init__(self, recipe: SelfPlay, games: int, player: Player, gamma: float, seed: int, rank: int) -> None:
        super().__init__(recipe.rounds_per_epoch(games), max(1, recipe.steps_per_batch // games))
        self.recipe, self.player, self.world, self.gamma = recipe, player, player.world, gamma
        self.rng = np.random.default_rng([seed, rank, 2])
        self.states = [self.world.start] * games
        self.moves: list[list[np.ndarray]] = [[] for _ in range(games)]  # rows of the running games
        board, actions = self.world.observe([self.world.start])[0], self.world.actions_at_most
        self.layout = np.dtype(
            [
                ("board", board.dtype, board.shape),
                ("legal", bool, actions),
                ("policy", "f4", actions),
                ("outcome", "f4"),
            ]
        )
        self.rows = np.zeros(recipe.capacity, self.layout)
        self.cursor, self.filled, self.played = 0, 0, 0
        self.recent: list[tuple[float, int]] = []  # score of who began, and length

    def next_round(self) -> Round:
        """Play, and draw lessons."""
        self.player.refresh()
        random = Random(int(self.rng.integers(2**63)))
        trees = self.player.study(self.states, random, self.recipe.noise)
        boards = self.world.observe(self.states)
        for game, (tree, board) in enumerate(zip(trees, boards, strict=True)):
            self._move(game, tree, board, random)
        before = self._updates_earned()
        self.played += len(trees)
        return Round(self.lessons(self._updates_earned() - before), len(trees))

    def _move(self, game: int, tree: Tree, board: np.ndarray, random: Random) -> None:
        moves, actions = self.moves[game], tree.root.actions
        assert actions is not None
        shares = tree.visit_policy()
        row = np.zeros((), self.layout)
        row["board"] = board
        row["legal"][list(actions)] = True
        row["policy"][list(actions)] = shares
        moves.append(row)
        sampled = len(moves) <= self.recipe.sampled_moves
        action = random.choices(actions, shares)[0] if sampled else tree.best_action()
        self.states[game], reward, over = self.world.step(self.states[game], action, random)
        row["outcome"] = reward
        if over:
            self._finish(moves)
            self.states[game], self.moves[game] = self.world.start, []

    def _finish(self, moves: list[np.ndarray]) -> None:
        """z = r − γ z', from the last move to the first; then the rows are lessons."""
        following = 0.0
        for row in reversed(moves):
            row["outcome"] = following = float(row["outcome"]) - self.gamma * following
        for row in moves:
            self.rows[self.cursor] = row
            self.cursor = (self.cursor + 1) % len(self.rows)
            self.filled = min(self.filled + 1, len(self.rows))
        self.recent = [*self.recent, (following, len(moves))][-RECENT:]

    def _updates_earned(self) -> int:
        """By the moves beyond the warm-up; none before a game is over. The small term undoes rounding."""
        return int(max(0, self.played - self.recipe.warmup) * self.recipe.replay_ratio + 1e-6)

    def lessons(self, updates: int) -> Lessons:
        """[K, B], none before a game is over."""
        shape = (updates if self.filled else 0, self.recipe.batch_size)
        drawn = self.rows[(self.rng.random(shape) * self.filled).astype(np.int64)]
        return Lessons(*(torch.from_numpy(drawn[name].copy()) for name in Lessons._fields))

    def statistics(self) -> dict[str, float]:
        """Of the last 100 games: what the first player has won on average, the share of draws, moves."""
        if not self.recent:
            return {}
        score, length = np.array(self.recent).T
        found = {"first_player_score": score.mean(), "draws": (score == 0).mean(), "game_length": length.mean()}
        return {name: float(value) for name, value in found.items()}

    def snapshot(self) -> dict[str, Any]:
        """The running games, and where the memory is."""
        return {
            "rng": self.rng.bit_generator.state,
            "states": [list(map(float, self.world.write(state))) for state in self.states],
            "moves": [[_bytes(np.array(row)[None]) for row in moves] for moves in self.moves],
            "position": [self.cursor, self.filled, self.played],
            "recent": [list(game) for game in self.recent],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`Experience.restore`."""
        self.rng.bit_generator.state = state["rng"]
        self.states = [self.world.state(numbers) for numbers in state["states"]]
        self.moves = [[row.numpy().view(self.layout)[0].copy() for row in moves] for moves in state["moves"]]
        self.moves = [[np.array(row) for row in moves] for moves in self.moves]
        self.cursor, self.filled, self.played = state["position"]
        self.recent = [(float(score), int(length)) for score, length in state["recent"]]

    def save(self, folder: Path) -> bool:
        """Write the positions into ``folder``."""
        write_arrays(folder, {"rows": _bytes(self.rows).numpy()}, {})
        return True

    def load(self, folder: Path) -> None:
        """Read them back."""
        arrays, _ = read_arrays(folder)
        self.rows = arrays["rows"].view(self.layout).copy()

    def close(self) -> None:
        """Nothing is open."""


def _bytes(rows: np.ndarray) -> Tensor:
    """Rows as plain bytes."""
    return torch.from_numpy(np.ascontiguousarray(rows).view(np.uint8).reshape(-1).copy())
