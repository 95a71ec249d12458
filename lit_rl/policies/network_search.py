"""Acting by search whose leaves a network values, and whose moves it has a prior of. Formula sheet: H13."""

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.batch import Observation
from lit_rl.nn.fast import NumpyForward, numpy_forward
from lit_rl.nn.network import BuiltBody
from lit_rl.planning.search import SearchTree, World
from lit_rl.planning.search_together import disturb_prior, search_together
from lit_rl.planning.tree_search import Tree, TreeSearch
from lit_rl.policies.categorical import best_action
from lit_rl.policies.network import legal_actions
from lit_rl.policies.search import SearchPolicy


class NetworkSearchPolicy(SearchPolicy):
    """body: a board, seen by whoever moves → features; head: features → logits of the moves, and tanh⁻¹ of the value.

    Trees of all environments ask the network together. Nothing is remembered between two moves.

    Args:
        world: a game that can show its states.
        search: with PUCT.
        simulations: before each move.
        gamma: discount.
        body: without memory.
        head: with one output more than there are moves.
    """

    def __init__(
        self, world: World, search: TreeSearch, simulations: int, gamma: float, body: BuiltBody, head: nn.Module
    ) -> None:
        super().__init__(world, search, simulations, gamma, reuse=False)
        self.body, self.head = body, head
        self._fast: NumpyForward | None = None

    def outputs(self, board: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, A] and values [B] of boards [B, ...]."""
        found = self.head(self.body(board))
        return found[..., :-1], found[..., -1].tanh()

    def evaluate(self, states: Sequence[Any]) -> tuple[list[float], list[list[float]]]:
        """Values of states for whoever moves there, and priors over their legal moves."""
        boards = self.world.observe(states)
        if self._fast is not None:
            found = self._fast(boards)
        else:
            with torch.no_grad():
                device = self.env_steps.device
                found = self.head(self.body(torch.from_numpy(boards).to(device))).float().cpu().numpy()
        chances = np.exp(found[:, :-1] - found[:, :-1].max(-1, keepdims=True)).tolist()
        priors = []
        for row, state in zip(chances, states, strict=True):
            legal = [row[move] + 1e-8 for move in self.world.actions(state)]  # illegal ones may have taken it all
            total = sum(legal)
            priors.append([p / total for p in legal])
        return np.tanh(found[:, -1]).tolist(), priors

    def study(self, states: Sequence[Any], random: Random, noise: tuple[float, float] | None = None) -> list[Tree]:
        """Searches from states, with Dirichlet ``noise`` (α, ε) on the priors of their moves where there is any."""
        trees = [Tree(self._recipe, self.world, state, self.gamma, two_players=True) for state in states]
        self._search(trees, random, noise)
        return trees

    def _search(self, trees: list[Tree], random: Random, noise: tuple[float, float] | None) -> None:
        if noise is not None:
            search_together(trees, self.evaluate, 0, random)
            for tree in trees:
                disturb_prior(tree, *noise, random)
        search_together(trees, self.evaluate, self.simulations, random)

    @property
    def _recipe(self) -> TreeSearch:
        assert isinstance(self.recipe, TreeSearch)
        return self.recipe

    def think(self, trees: Sequence[SearchTree], random: Sequence[Random], explore: bool) -> None:
        """See :meth:`SearchPolicy.think`; nothing is drawn."""
        self._search([tree for tree in trees if isinstance(tree, Tree)], random[0], None)

    def choose(self, tree: SearchTree, random: Random, explore: bool) -> tuple[int, float]:
        """The most visited move; exploring, one by the share of its visits."""
        assert isinstance(tree, Tree)
        return draw_move(tree, random) if explore else (tree.best_action(), 0.0)

    def forward(self, obs: Observation) -> Tensor:
        """The likeliest legal move of the network alone [B]: what is exported."""
        board = obs["observation"] if isinstance(obs, dict) else obs
        return best_action(self.outputs(board)[0], legal_actions(obs))

    def refresh(self) -> None:
        """Rebuild the numpy views where the weights moved to other memory."""
        if self._fast is None or self._fast.stale():
            self._fast = numpy_forward(self.body, self.head)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fast": None}  # views of another process's memory are worthless


def draw_move(tree: Tree, random: Random) -> tuple[int, float]:
    """A move of the root by the share of its visits, and its log-probability."""
    shares = tree.visit_policy()
    assert tree.root.actions is not None
    (place,) = random.choices(range(len(shares)), shares)
    return tree.root.actions[place], float(np.log(shares[place]))
