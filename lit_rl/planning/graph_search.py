"""Search in a known world whose states come again: one node per state, and backups over all that chance may do.

    Q(s, a) = Σ_s' P(s'|s, a) (r + γ V(s')),  V(s) = max_a Q(s, a), untried actions at the bound       (1)
    go on with argmax_a Q(s, a) + c √(ln N(s) / N(s, a)), untried actions first, to a drawn s'          (2)

until a state that is new, the episode's end, or so many steps; then (1) on the way back. A new state is worth a bound
on what can be had, so that only what was seen to be worse is left alone. Trial-based heuristic tree search with UCT's
choices and full Bellman backups (Keller & Helmert 2013), on a graph (Childs, Brodeur & Kocsis 2008); with c = 0 it is
real-time dynamic programming (Barto, Bradtke & Singh 1995). Formula sheet: 9.0.3a.

Where a tree with rollouts fails: on slippery FrozenLake a random walk is worth 0.014 at the start, and that value at
the leaves misleads every search of 2 to some dozens of steps, however exact; no tree reaches deeper there.
"""

from dataclasses import dataclass, field
from math import inf, nan
from random import Random
from typing import Any

import numpy as np

from lit_rl.planning.search import Array, Search, SearchTree, World, without_garbage_collection
from lit_rl.planning.search_model import Evaluate
from lit_rl.planning.tree_rules import UCT


@dataclass(frozen=True)
class GraphSearch(Search):
    """Recipe of a search in a world that can list the outcomes of a step.

    Args:
        rule: (2); c counts in units of the range of Q seen so far.
        steps: of a simulation at most.
        bound: what no state is worth more than: γ-discounted reward to come.
    """

    rule: UCT = field(default_factory=lambda: UCT(0.2))
    steps: int = 30
    bound: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"GraphSearch.steps is {self.steps}; it must be at least 1")

    def begin(self, model: Any, state: Any, gamma: float = 1.0, two_players: bool = False) -> "Graph":
        """See :meth:`Search.begin`; two players would need backups of their own.

        Raises:
            ValueError: two players.
        """
        if two_players:
            raise ValueError("GraphSearch is for one player: use TreeSearch")
        return Graph(self, model, state, gamma)

    def row_length(self, world: World, simulations: int) -> int:
        """Every simulation makes a node; twice as many of earlier searches may be kept."""
        return 1 + 2 * (simulations + 1) * (world.numbers_per_state + 2 * world.actions_at_most)


class Vertex:
    """A state that was reached, and what its actions are thought to be worth."""

    __slots__ = ("actions", "count", "outcomes", "q", "value", "visits")

    def __init__(self, actions: Any, bound: float) -> None:
        self.actions = actions
        self.visits = 0  # N
        self.value = bound  # V
        self.count = [0] * len(actions)  # N(a)
        self.q = [bound] * len(actions)
        self.outcomes: list[Any] = [None] * len(actions)  # asked for when an action is tried first


class Graph(SearchTree):
    """A search from one state on; all states that are met are kept.

    Args:
        search: the recipe.
        model: a world with outcomes.
        state: where it begins.
        gamma: γ.
    """

    def __init__(self, search: GraphSearch, model: World, state: Any, gamma: float) -> None:
        self.recipe, self.model, self.state, self.gamma = search, model, state, gamma
        self.vertices: dict[Any, Vertex] = {}
        self._low, self._high = 0.0, search.bound

    @property
    def root(self) -> Vertex:
        """Of the state that the search began in."""
        return self._vertex(self.state)

    def _vertex(self, state: Any) -> Vertex:
        found = self.vertices.get(state)
        if found is None:
            found = self.vertices[state] = Vertex(self.model.actions(state), self.recipe.bound)
        return found

    def search(self, evaluate: Evaluate, simulations: int, rng: Random) -> None:
        """So many simulations; a new state is worth the bound, and ``evaluate`` is not asked."""
        self._vertex(self.state)
        with without_garbage_collection():
            for _ in range(simulations):
                self._simulate(rng)

    def _simulate(self, rng: Random) -> None:
        vertices, rule, path, state = self.vertices, self.recipe.rule, [], self.state
        spread = self._high - self._low if self._high > self._low else 1.0
        for _ in range(self.recipe.steps):
            vertex = vertices.get(state)
            if vertex is None:
                self._vertex(state)
                break
            bonus = spread * rule.bonuses(vertex.visits)[vertex.visits]
            scores = [q + bonus * rule.weight(n, 0.0) for q, n in zip(vertex.q, vertex.count)]  # noqa: B905  (2)
            place = scores.index(max(scores))
            outcomes = vertex.outcomes[place]
            if outcomes is None:
                outcomes = vertex.outcomes[place] = self.model.outcomes(state, vertex.actions[place])
            path.append((vertex, place))
            chance = rng.random()
            for share, state, _, ended in outcomes:  # noqa: B007  s' is where this ends
                chance -= share
                if chance < 0.0:
                    break
            if ended:
                break
        for vertex, place in reversed(path):
            self._back_up(vertex, place)

    def _back_up(self, vertex: Vertex, place: int) -> None:
        q, gamma, bound, vertices = 0.0, self.gamma, self.recipe.bound, self.vertices
        for share, following, reward, ended in vertex.outcomes[place]:  # (1)
            known = None if ended else vertices.get(following)
            q += share * (reward + gamma * (0.0 if ended else bound if known is None else known.value))
        vertex.visits += 1
        vertex.count[place] += 1
        vertex.q[place] = q
        vertex.value = max(vertex.q)  # an untried action is worth the bound
        self._low, self._high = min(self._low, q), max(self._high, q)

    @property
    def visits(self) -> int:
        """N of the root."""
        return self.root.visits

    @property
    def value(self) -> float:
        """V of the root."""
        return self.root.value

    def action_values(self) -> list[float]:
        """See :meth:`SearchTree.action_values`."""
        return [q if n else nan for q, n in zip(self.root.q, self.root.count, strict=True)]

    def best_action(self) -> Any:
        """The greatest Q of those tried, the lowest action among equals."""
        if not any(self.root.count):
            raise ValueError("Graph.best_action: nothing was searched yet; call search first")
        tried = [q if n else -inf for q, n in zip(self.root.q, self.root.count, strict=True)]
        return self.root.actions[tried.index(max(tried))]

    def write(self, action: Any, world: World, row: Array) -> None:
        """See :meth:`SearchTree.write`: states in the order in which they can be reached after ``action``."""
        most, length = world.actions_at_most, world.numbers_per_state + 2 * world.actions_at_most
        room, met = (len(row) - 1) // length, set()
        first = self.root.outcomes[self.root.actions.index(action)] or ()
        waiting = [following for _, following, _, ended in first if not ended]
        written: list[list[float]] = []
        for state in waiting:  # which grows as it goes
            if state in met or state not in self.vertices or len(written) == room:
                continue
            met.add(state)
            vertex = self.vertices[state]
            padding = [0.0] * (most - len(vertex.q))
            written.append([*world.write(state), *vertex.count, *padding, *vertex.q, *padding])
            for outcomes in vertex.outcomes:
                waiting.extend(following for _, following, _, ended in outcomes or () if not ended)
        row[0] = len(written)
        if written:
            row[1 : 1 + len(written) * length] = np.array(written, np.float32).reshape(-1)

    def resume(self, row: Array, world: World) -> bool:
        """See :meth:`SearchTree.resume`: all of it, wherever this search begins."""
        most, length = world.actions_at_most, world.numbers_per_state + 2 * world.actions_at_most
        for entries in row[1 : 1 + int(row[0]) * length].reshape(-1, length).tolist():
            state = world.state(entries[: world.numbers_per_state])
            vertex = self._vertex(state)
            size, first = len(vertex.q), world.numbers_per_state
            vertex.count = [int(n) for n in entries[first : first + size]]
            vertex.q = entries[first + most : first + most + size]
            vertex.visits, vertex.value = sum(vertex.count), max(vertex.q)
            for place, n in enumerate(vertex.count):
                if n:
                    vertex.outcomes[place] = self.model.outcomes(state, vertex.actions[place])
            self._low, self._high = min(self._low, *vertex.q), max(self._high, *vertex.q)
        return self.state in self.vertices
