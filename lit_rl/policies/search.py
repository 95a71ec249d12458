"""Acting by search: every decision is thought over anew, beginning with what the last one has left.

Formula sheet: 9.0.3a, H13.
"""

from abc import abstractmethod
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_rl.batch import Observation
from lit_rl.planning.search import Array, Search, SearchTree, World, without_garbage_collection
from lit_rl.planning.search_model import Evaluate
from lit_rl.planning.tree_search import TreeSearch
from lit_rl.policies.policy import Act, Policy


class SearchPolicy(Policy):
    """Reads the state from the observation, searches from there, and takes what the search recommends.

    With ``reuse`` what was found below the action is the memory of the environment, numbers in float32: the next
    search begins with it and does the simulations that are missing. It is forgotten where the episode ends and lies in
    checkpoints, so that a resumed run is the same run.

    Without exploration the random numbers of a search depend on the state and ``seed`` alone: the same observation (and
    memory) has the same answer. ``seed`` [] is drawn as a network's first weights are, and saved with them.

    Args:
        world: where it acts.
        search: recipe.
        simulations: in the root, those of earlier searches included; at least one is made.
        gamma: discount.
        reuse: remember.
    """

    seed: Tensor

    def __init__(self, world: World, search: Search, simulations: int, gamma: float, reuse: bool) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.world, self.recipe, self.simulations, self.gamma = world, search, simulations, gamma
        self.reuse = reuse
        self.state_size = search.row_length(world, simulations) if reuse else 0

    @abstractmethod
    def think(self, trees: Sequence[SearchTree], random: Sequence[Random], explore: bool) -> None:
        """Search in all trees [N], each with its own random numbers, up to ``simulations``."""

    def choose(self, tree: SearchTree, random: Random, explore: bool) -> tuple[Any, float]:
        """The action and its log-probability, given the search: here the best, for sure."""
        return tree.best_action(), 0.0

    def begin(self, obs: Any, memory: Array) -> SearchTree:
        """The search from one observation, with what its memory [H] holds."""
        tree = self.recipe.begin(self.world, self.world.read(obs), self.gamma, self.world.two_players)
        if self.reuse and memory[0] > 0:
            tree.resume(memory, self.world)
        return tree

    def _seed(self, obs: Any) -> str:
        return f"{int(self.seed)} {tuple(self.world.write(self.world.read(obs)))}"

    def search_from(self, obs: Any) -> list[SearchTree]:
        """Searches from observations [N, ...] that nothing is remembered of, without exploration."""
        rows = split(obs)
        trees = [self.begin(row, np.zeros(1, np.float32)) for row in rows]
        self.think(trees, [Random(self._seed(row)) for row in rows], False)
        return trees

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        with without_garbage_collection():
            rows = split(obs)
            trees = [self.begin(row, memory) for row, memory in zip(rows, state, strict=True)]
            seeds = rng.integers(2**63, size=len(rows)).tolist() if explore else [self._seed(row) for row in rows]
            random = [Random(seed) for seed in seeds]
            self.think(trees, random, explore)
            chosen = [self.choose(tree, draws, explore) for tree, draws in zip(trees, random, strict=True)]
            memory = np.zeros_like(state)
            if self.reuse:
                for tree, (move, _), row in zip(trees, chosen, memory, strict=True):
                    tree.write(move, self.world, row)
            action, log_prob = zip(*chosen, strict=True)
        kind = np.float32 if self.world.continuous else np.int64
        return Act(np.array(action, kind), np.array(log_prob, np.float32), memory)


class RolloutSearchPolicy(SearchPolicy):
    """New states are worth what a random policy earns from there.

    Args:
        world: see :class:`SearchPolicy`; as ``search``, ``simulations``, ``gamma`` and ``reuse``.
        rollouts: from each new state.
        steps: of a rollout at most; with 0 new states are worth 0.
    """

    def __init__(
        self, world: World, search: Search, simulations: int, gamma: float, reuse: bool, rollouts: int, steps: int
    ) -> None:
        super().__init__(world, search, simulations, gamma, reuse)
        self.rollouts, self.steps = rollouts, steps

    def evaluate(self) -> Evaluate:
        """What a new state is worth: the mean of its rollouts, or the best where the search backs up the best."""
        one, count = self.world.rollout(self.steps, self.gamma), self.rollouts
        if count == 1:
            return one
        best = isinstance(self.recipe, TreeSearch) and self.recipe.backup == "best"

        def several(state: Any, rng: Random) -> float:
            returns = [one(state, rng) for _ in range(count)]
            return max(returns) if best else sum(returns) / count

        return several

    def think(self, trees: Sequence[SearchTree], random: Sequence[Random], explore: bool) -> None:
        """See :meth:`SearchPolicy.think`."""
        evaluate = self.evaluate()
        for tree, draws in zip(trees, random, strict=True):
            tree.search(evaluate, max(self.simulations - tree.visits, 1), draws)

    def forward(self, obs: Observation) -> Tensor:
        """None: a search is no graph of tensors.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a search is no network: it cannot be exported")


def split(obs: Any) -> list[Any]:
    """The observations [N, ...] of single environments."""
    if isinstance(obs, dict):
        return [dict(zip(obs, row, strict=True)) for row in zip(*obs.values(), strict=True)]
    return list(obs)
