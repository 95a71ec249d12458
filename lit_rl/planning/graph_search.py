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
from typing import Any, NamedTuple

import numpy as np

from lit_rl.bounds import refuse_below
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
        refuse_below(self, 1, "steps")

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

    __slots__ = ("actions", "count", "edges", "q", "value", "visits")

    def __init__(self, actions: Any, bound: float) -> None:
        self.actions = actions
        self.visits = 0  # N
        self.value = bound  # V
        self.count = [0] * len(actions)  # N(a)
        self.q = [bound] * len(actions)
        self.edges: list[Edge | None] = [None] * len(actions)  # asked for when an action is tried


class Edge(NamedTuple):
    """What an action may do."""

    reward: float  # expected
    outcomes: list[tuple[float, Any, bool]]  # probability, next state, whether the episode is over
    beyond: list[tuple[float, Any]]  # γ times the probability, and next state, where it goes on


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
        self._most = 0  # visits of a vertex

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
        vertices, path, state, rule = self.vertices, [], self.state, self.recipe.rule
        spread = self._high - self._low if self._high > self._low else 1.0
        bonuses, weights = rule.bonuses(self._most), rule.weights(self._most)
        for _ in range(self.recipe.steps):
            vertex = vertices.get(state)
            if vertex is None:
                self._vertex(state)
                break
            bonus = spread * bonuses[vertex.visits]
            best, place, index = -inf, 0, 0
            for q, n in zip(vertex.q, vertex.count):  # noqa: B905  (2), the hottest lines
                score = q + bonus * weights[n]
                if score > best:
                    best, place = score, index
                index += 1  # noqa: SIM113  faster
            edge = vertex.edges[place] or self._edge(vertex, state, place)
            path.append((vertex, place, edge))
            chance = rng.random()
            for share, following, ended in edge.outcomes:  # noqa: B007  where this stops is where it goes
                chance -= share
                if chance < 0.0:
                    break
            state = following
            if ended:
                break
        low, high, bound = self._low, self._high, self.recipe.bound
        for vertex, place, edge in reversed(path):
            q = edge.reward
            for weight, following in edge.beyond:  # (1)
                known = vertices.get(following)
                q += weight * (bound if known is None else known.value)
            vertex.visits += 1
            vertex.count[place] += 1
            vertex.q[place] = q
            vertex.value = max(vertex.q)
            low = min(low, q)
            high = max(high, q)
        self._low, self._high = low, high
        self._most += len(path)  # no vertex has been in more choices

    def _edge(self, vertex: Vertex, state: Any, place: int) -> "Edge":
        listed = self.model.outcomes(state, vertex.actions[place])
        reward = sum(share * paid for share, _, paid, _ in listed)
        beyond = [(self.gamma * share, following) for share, following, _, ended in listed if not ended]
        outcomes = [(share, following, ended) for share, following, _, ended in listed]
        edge = vertex.edges[place] = Edge(reward, outcomes, beyond)
        return edge

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
        waiting = self._successors(self.state, self.root, self.root.actions.index(action))
        written: list[list[float]] = []
        for state in waiting:  # which grows as it goes
            if state in met or state not in self.vertices or len(written) == room:
                continue
            met.add(state)
            vertex = self.vertices[state]
            padding = [0.0] * (most - len(vertex.q))
            written.append([*world.write(state), *vertex.count, *padding, *vertex.q, *padding])
            for place, n in enumerate(vertex.count):
                if n:
                    waiting += self._successors(state, vertex, place)
        row[0] = len(written)
        if written:
            row[1 : 1 + len(written) * length] = np.array(written, np.float32).reshape(-1)

    def _successors(self, state: Any, vertex: Vertex, place: int) -> list[Any]:
        listed = self.model.outcomes(state, vertex.actions[place])
        return [following for _, following, _, ended in listed if not ended]

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
            self._most = max(self._most, vertex.visits)
            self._low, self._high = min(self._low, *vertex.q), max(self._high, *vertex.q)
        return self.state in self.vertices
