"""What all searches have in common: a recipe, a search under way, and the world that it takes place in.

Formula sheet: 9.0.3a.
"""

import gc
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import numpy as np

from lit_rl.planning.search_model import Evaluate, SearchModel, random_rollout

Array = np.ndarray


class World(ABC):
    """A search's model of either kind that also knows how its states are observed, and how to write them down.

    What is written down goes through float32: whole numbers below 2²⁴ survive, others are rounded.
    """

    two_players: bool = False
    """They move in turn; every reward is that of the one who moves, and what one gains the other loses."""
    continuous: bool = False
    """There are too many actions to list: a search widens what :meth:`propose` offers."""
    actions_at_most: int
    numbers_per_state: int
    start: Any
    """Where a game begins, in worlds of two players."""

    @abstractmethod
    def actions(self, state: Any) -> Sequence[int]:
        """See :meth:`SearchModel.actions`: indices into the environment's actions."""

    def propose(self, state: Any, rng: Random) -> tuple[float, ...]:
        """See :meth:`ContinuousModel.propose`: a point of the environment's box.

        Raises:
            ValueError: the actions can be listed.
        """
        raise ValueError(f"{type(self).__name__} lists its actions: a search there has nothing to widen")

    @abstractmethod
    def step(self, state: Any, action: Any, rng: Random) -> tuple[Any, float, bool]:
        """See :meth:`SearchModel.step`."""

    @abstractmethod
    def read(self, obs: Any) -> Any:
        """The state behind the observation of one environment."""

    @abstractmethod
    def write(self, state: Any) -> Sequence[float]:
        """``numbers_per_state`` numbers that tell a state from all others."""

    @abstractmethod
    def state(self, numbers: Sequence[float]) -> Any:
        """The inverse of :meth:`write`."""

    def same(self, predicted: Any, seen: Any) -> bool:
        """Whether what was predicted is what came."""
        return bool(predicted == seen)

    def outcomes(self, state: Any, action: int) -> Sequence[tuple[float, Any, float, bool]]:
        """All that a step may lead to: probability, next state, reward, whether the episode is over.

        Raises:
            ValueError: nobody knows.
        """
        raise ValueError(f"{type(self).__name__} can be stepped, but has no list of outcomes: use TreeSearch")

    def observe(self, states: Sequence[Any]) -> Array:
        """What whoever moves in these states sees, [B, ...] float32, without the mask of legal actions.

        Raises:
            ValueError: nobody knows.
        """
        raise ValueError(f"{type(self).__name__} cannot show its states to a network")

    def rollout(self, depth: int, gamma: float) -> Evaluate:
        """The default policy of UCT, see :func:`random_rollout`; a world may have a faster way to the same numbers."""
        return random_rollout(self, depth, gamma, self.two_players)


class SearchTree(ABC):
    """A search from one state on."""

    @abstractmethod
    def search(self, evaluate: Evaluate, simulations: int, rng: Random) -> None:
        """So many simulations, leaves being valued by ``evaluate``."""

    @property
    @abstractmethod
    def visits(self) -> int:
        """Of the root, by simulations."""

    @property
    @abstractmethod
    def value(self) -> float:
        """Of the root."""

    @abstractmethod
    def action_values(self) -> list[float]:
        """Q of the root's actions; nan where one was never tried."""

    @abstractmethod
    def best_action(self) -> Any:
        """What the search recommends."""

    @abstractmethod
    def write(self, action: Any, world: World, row: Array) -> None:
        """Write down what may be of use after ``action``, into a row [H] float32 that is all 0; as much as fits."""

    @abstractmethod
    def resume(self, row: Array, world: World) -> bool:
        """Take over what :meth:`write` left of the state that this search begins in; whether there was anything."""


class Search(ABC):
    """Recipe of a search."""

    @abstractmethod
    def begin(self, model: SearchModel, state: Any, gamma: float = 1.0, two_players: bool = False) -> SearchTree:
        """A search from ``state``.

        Args:
            model: the world.
            state: where.
            gamma: γ.
            two_players: see :class:`World`.
        """

    @abstractmethod
    def row_length(self, world: World, simulations: int) -> int:
        """H of :meth:`SearchTree.write`, enough for a search of so many simulations."""


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """A tree is many small objects in no cycle: looking for cycles again and again doubles the cost of a search."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
